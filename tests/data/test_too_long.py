"""Rows with more tokens than a task takes: cut, or refused by name before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from taskloom.config import load_config
from taskloom.errors import DataError
from taskloom.preparation import prepare

LONG = 7


def values_of(run_values: dict[str, Any], folder: Path, **more: Any) -> dict[str, Any]:
    words = [" ".join(["parcel"] * (20 if row < LONG else 2)) + f" {row}" for row in range(30)]
    rows = [json.dumps({"text": text, "label": "yes" if row % 2 else "no"}) for row, text in enumerate(words)]
    (folder / "rows.jsonl").write_text("\n".join(rows) + "\n")
    task = {"type": "classification", "data": str(folder / "rows.jsonl"), "max_length": 16, **more}
    return run_values | {"tasks": {"intent": task, "answer": run_values["tasks"]["answer"] | {"too_long": "refuse"}}}


def test_rows_that_are_too_long_are_cut_unless_told_otherwise(run_values: dict[str, Any], tmp_path: Path) -> None:
    prepared = prepare(load_config(values_of(run_values, tmp_path)))
    assert max(int(items.lengths.max()) for items in prepared.items["intent"].values()) == 16


def test_rows_that_are_too_long_are_refused_by_their_lines(run_values: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(DataError) as raised:
        prepare(load_config(values_of(run_values, tmp_path, too_long="refuse")))
    faults = raised.value.faults
    assert len(faults) == 5
    assert all(fault.requirement == "have at most 16 tokens in task `intent`" for fault in faults)
    assert all(int(fault.found) > 16 for fault in faults)
    assert all(int(fault.where.rpartition(":")[2]) <= LONG for fault in faults)
    assert faults[0].fix == "Raise `max_length`, or write `too_long: cut` (7 rows of the task are too long)"


def test_a_task_that_reads_windows_cuts_nothing(run_values: dict[str, Any]) -> None:
    run_values["tasks"] = {"answer": run_values["tasks"]["answer"] | {"too_long": "refuse", "max_length": 48}}
    assert len(prepare(load_config(run_values)).items["answer"]["train"]) >= 40
