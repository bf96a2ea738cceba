"""The section about groups: what it says of one run, and of several side by side."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from taskloom.fairness.answers import Answers
from taskloom.fairness.auditing import Audit, compared
from taskloom.fairness.note import note_entry, note_groups
from taskloom.record import Record
from taskloom.reports.sections.fairness import section

SETTINGS = {"resamples": 200, "confidence": 0.95, "seed": 0}


def noted(folder: Path, wrong: int, hostile: str = "she") -> Any:
    """Write what is found of 200 answers, of which a number are wrong in one group."""
    lines = [{"prediction": "no" if place < wrong else "yes", "reference": "yes"} for place in range(100)]
    lines += [{"prediction": "no", "reference": "no"} for _ in range(100)]
    groups = [hostile] * 50 + ["he"] * 50 + [hostile] * 50 + ["he"] * 50
    found = compared(Answers(lines, groups, 0), ["accuracy"], "label", "yes", SETTINGS)
    note_groups(Record(folder), "mood", Audit("mood", ["who"], "test", 0.95, *found, 0).as_json())
    return SimpleNamespace(folder=folder, name=folder.name)


def test_no_run_was_asked(tmp_path: Path) -> None:
    assert section([SimpleNamespace(folder=tmp_path, name="a")]) is None


def test_a_gap_that_is_shown_and_one_that_is_not_are_told_apart(tmp_path: Path) -> None:
    made = section([noted(tmp_path / "a", 25)])
    assert made is not None
    assert "a gap of 0.250" in made.html
    made = section([noted(tmp_path / "b", 1)])
    assert made is not None
    assert "may be chance" in made.html
    assert [chart.id for chart in made.charts] == ["fairness-groups-0"]


def test_runs_are_put_side_by_side_by_score_and_gap(tmp_path: Path) -> None:
    made = section([noted(tmp_path / "a", 25), noted(tmp_path / "b", 1)])
    assert made is not None
    rows = made.charts[-1].spec["data"]["values"]
    assert [(row["run"], row["shown"]) for row in rows] == [("a", True), ("b", False)]
    assert [row["gap"] for row in rows] == pytest.approx([0.5, 0.02])
    assert [row["score"] for row in rows] == pytest.approx([0.875, 0.995])
    assert made.charts[-1].rows[0] == ["run", "score", "gap", "shown"]


def test_groups_and_rows_are_shown_as_text(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    run = noted(tmp_path / "a", 25, hostile)
    flip = {"place": hostile, "input": {"text": hostile}, "swapped": {"text": hostile}, "before": "yes", "after": "no"}
    share = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 10}
    entry = {"split": "test", "rows": 10, "touched": 10, "flipped": share, "words": None, "change": share}
    note_entry(Record(run.folder), "mood", "swaps", {**entry, "examples": [flip]})
    made = section([run])
    assert made is not None
    assert "50.0 % of their answers flip" in re.sub(r"\s+", " ", made.html)
    assert "<script>" not in made.html
    assert "&lt;script&gt;" in made.html
