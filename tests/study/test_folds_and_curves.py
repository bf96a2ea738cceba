"""Cross-validation, learning curves, and the commands that show them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from study_tools import study_values
from taskloom.cli import commands, evaluating
from taskloom.config import load_config
from taskloom.config.document import dump
from taskloom.errors import ConfigError, RunFolderError
from taskloom.preparation import prepare
from taskloom.record import Record, read_lines, read_note
from taskloom.run import train
from taskloom.study.cross_validation import cross_validate
from taskloom.study.curves import learning_curve, rows_needed
from taskloom.study.ground_truth import measure_transfer


@pytest.fixture
def values(run_values: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = study_values(run_values)["run"]
    return found


def said(monkeypatch: pytest.MonkeyPatch, call: Any) -> str:
    out = io.StringIO()
    for module in (commands, evaluating):
        monkeypatch.setattr(module, "console", Console(file=out, width=160))
    call()
    return out.getvalue()


def test_every_row_is_tested_once_by_a_run_that_has_not_seen_its_text(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values["evaluation"]["cross_validation"] = {"folds": 3}
    file = tmp_path / "run.yaml"
    file.write_text(dump(values), encoding="utf-8")
    text = said(monkeypatch, lambda: commands.run_train(file, tmp_path / "out", []))
    assert "fold 3" in text
    found = read_note(tmp_path / "out" / "cross_validation.json")
    records = [Record.open(tmp_path / "out" / "folds" / str(fold)) for fold in (1, 2, 3)]
    for task, metrics in found["tasks"].items():
        for metric, held in metrics.items():
            each = [s.value for r in records for s in r.scores() if (s.task, s.metric) == (task, metric)]
            assert held["values"] == each
            assert held["mean"] == pytest.approx(np.mean(each))
            assert held["deviation"] == pytest.approx(np.std(each, ddof=1))
    tested = [line["input"]["text"] for r in records for line in read_lines(r.predictions("intent", "test"))]
    corpus = prepare(load_config({**values, "evaluation": {}})).corpora["intent"]
    every = [row["text"] for rows in corpus.splits.values() for row in rows]
    assert len(tested) + found["kept"]["intent"] == len(every)
    assert set(tested) <= set(every)


def test_a_folder_of_something_else_is_left_alone(values: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    base = load_config({**values, "evaluation": {"cross_validation": {"folds": 2}}})
    for call in (
        lambda: cross_validate(base, tmp_path),
        lambda: learning_curve(base, "intent", tmp_path),
        lambda: measure_transfer(base, tmp_path),
    ):
        with pytest.raises(RunFolderError, match=r"be a new folder, or one of this command's. Found `mine.txt`"):
            call()
    assert [each.name for each in tmp_path.iterdir()] == ["mine.txt"]


def test_numbers_are_spread_over_folds_by_their_size() -> None:
    from taskloom.study.cross_validation import parts_of_numbers
    from taskloom.tasks import TASKS

    task = TASKS.load("regression")
    rows = [{"text": "x", "label": value} for value in (0.9, 0.1, 0.5, "none", 0.2)]
    parts = [int(found.split()[1]) for (found,) in parts_of_numbers(task, rows, {})]
    assert [parts[place] for place in (1, 4, 2, 0, 3)] == sorted(parts)


def test_one_run_does_not_do_what_folds_are_asked_for(values: dict[str, Any], tmp_path: Path) -> None:
    values["evaluation"]["cross_validation"] = {"folds": 3}
    with pytest.raises(ConfigError) as caught:
        train(values, tmp_path)
    assert str(caught.value) == (
        "config: `evaluation.cross_validation` should be left out of one run. Found folds. "
        "Call `taskloom cross-validate`, or leave it out."
    )
    with pytest.raises(ConfigError, match=r"say how many folds there are. Found nothing"):
        cross_validate({**values, "evaluation": {}}, tmp_path)
    with pytest.raises(ConfigError, match=r"have as many rows as there are folds. Found \d+ rows for 9999 folds"):
        cross_validate({**values, "evaluation": {}}, tmp_path, count=9999)


def test_rows_of_a_smaller_share_are_among_those_of_a_larger_one(values: dict[str, Any]) -> None:
    def texts(rows: int) -> list[str]:
        values["tasks"]["intent"]["limit_train_rows"] = rows
        corpus = prepare(load_config(values)).corpora["intent"]
        assert len(corpus.places["train"]) == len(corpus.splits["train"]) == rows
        return [row["text"] for row in corpus.splits["train"]]

    assert set(texts(5)) < set(texts(12))


def test_a_curve_compares_a_task_alone_and_beside_the_others(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = load_config(values)
    points = learning_curve(base, "intent", tmp_path / "out", shares=[0.5, 1.0], seeds=[0])
    assert [point.share for point in points] == [0.5, 1.0]
    assert [point.rows for point in points] == [20, 40]
    held = read_note(tmp_path / "out" / "curve.json")
    assert [each["rows"] for each in held["points"]] == [20, 40]
    file = tmp_path / "run.yaml"
    file.write_text(dump(values), encoding="utf-8")
    text = said(monkeypatch, lambda: evaluating.run_curve(file, "intent", tmp_path / "out", "0.5,1", 1, 1, []))
    assert "intent: normalised test score, mean over 1 seed" in text
    assert "4 runs, 4 finished before" in text


def test_what_a_curve_cannot_be_made_of_is_told(values: dict[str, Any], tmp_path: Path) -> None:
    base = load_config(values)
    with pytest.raises(ConfigError) as caught:
        learning_curve(base, "intend", tmp_path)
    assert str(caught.value) == ("`--task` should be one of `intent`, `topics`. Found `intend`. Did you mean `intent`?")
    with pytest.raises(ConfigError, match=r"`--shares` should be above 0 and at most 1. Found `1.5`"):
        learning_curve(base, "intent", tmp_path, shares=[0.5, 1.5])
    with pytest.raises(ConfigError, match=r"`--shares` should be numbers. Found `half`"):
        evaluating.run_curve(tmp_path, "intent", tmp_path, "half", 1, 1, [])
    values["tasks"] = {"intent": values["tasks"]["intent"]}
    with pytest.raises(ConfigError, match=r"`tasks` should be two at least, one of which is cut"):
        learning_curve(load_config(values), "intent", tmp_path)
    with pytest.raises(ConfigError, match=r"`tasks` should be two at least, or there is no transfer"):
        measure_transfer(load_config(values), tmp_path)


def test_rows_that_are_needed_lie_between_points_by_logarithm() -> None:
    sizes, scores = np.array([10.0, 100.0, 1000.0]), np.array([0.2, 0.6, 0.5])
    assert rows_needed(sizes, scores, 0.1) == 10.0
    assert rows_needed(sizes, scores, 0.3) == pytest.approx(10 * 10**0.25)
    assert rows_needed(sizes, scores, 0.6) == pytest.approx(100.0)
    assert rows_needed(sizes, scores, 0.61) is None
