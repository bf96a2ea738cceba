"""The autopilot from its run file to what it ships, with a tiny encoder; what it finds there means nothing."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from taskloom.autopilot import auto, pilot
from taskloom.cli import autopilot, commands
from taskloom.config.document import dump
from taskloom.errors import ConfigError, RunFolderError
from taskloom.run import Run


@pytest.fixture
def values(run_values: dict[str, Any]) -> dict[str, Any]:
    run_values["tasks"] = {name: run_values["tasks"][name] for name in ("intent", "topics")}
    run_values["tasks"]["topics"]["limit_rows"] = 10
    run_values["training"] |= {"max_steps": 6, "per_device_train_batch_size": 6, "eval_steps": 3, "save_steps": 3}
    return run_values


def test_it_ships_a_model_for_every_task_within_its_budget(values: dict[str, Any], tmp_path: Path) -> None:
    found = auto(values, tmp_path / "out", budget=4.0)
    assert [row["step"] for row in found["ledger"][:2]] == ["alone", "joint"]
    assert found["spent"] <= 4.0
    assert found["spent"] == pytest.approx(sum(row["cost"] for row in found["ledger"]), abs=1e-3)
    assert {each["task"]: each["cause"] for each in found["causes"]} == {"intent": "unclear", "topics": "starved"}
    assert set(found["shipped"]) == {"intent", "topics"}
    for task, folder in found["shipped"].items():
        answers = Run(tmp_path / "out" / "shipped" / folder).predict(task, [{"text": "the printer is on fire"}])
        assert len(answers) == 1
    assert not found["claim"]
    assert "cannot tell" in found["story"][-1]
    assert json.loads((tmp_path / "out" / "auto.json").read_text())["decision"] == found["decision"]
    trained = sorted((tmp_path / "out" / "members").glob("*/scores.jsonl"))
    times = [path.stat().st_mtime_ns for path in trained]
    again = auto(values, tmp_path / "out", budget=4.0)
    assert again == found
    assert [path.stat().st_mtime_ns for path in trained] == times


def test_a_budget_of_two_units_says_that_remedies_are_left_out(values: dict[str, Any], tmp_path: Path) -> None:
    found = auto(values, tmp_path / "out", budget=2.0)
    assert found["spent"] == pytest.approx(2.0)
    assert any("`more topics` (seed 0) would cost 1.00 units, more than is left" in line for line in found["story"])
    assert found["decision"]["arm"] == "joint"


def test_a_larger_budget_goes_on_where_the_smaller_one_stopped(values: dict[str, Any], tmp_path: Path) -> None:
    first = auto(values, tmp_path / "out", budget=2.0)
    trained = {path.name for path in (tmp_path / "out" / "members").iterdir() if path.is_dir()}
    more = auto(values, tmp_path / "out", budget=7.0)  # a seed of all three arms, if the remedy helps
    again = {path.name for path in (tmp_path / "out" / "members").iterdir() if path.is_dir()}
    assert trained < again
    assert more["ledger"][:2] == first["ledger"]
    assert len(more["seeds"]) > 1
    steps = [row["step"] for row in more["ledger"]]
    assert steps == sorted(steps, key=["alone", "joint", "screen", "train", "confirm"].index)
    assert more["spent"] <= 7.0


def test_a_killed_procedure_says_what_it_had_tried(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(pilot, "gather", stop)
        with pytest.raises(KeyboardInterrupt):
            auto(values, tmp_path / "out", budget=2.0)
    held = json.loads((tmp_path / "out" / "auto.json").read_text())
    assert held["status"] == "running"
    assert [row["arm"] for row in held["ledger"]] == ["single", "joint"]
    found = auto(values, tmp_path / "out", budget=2.0)
    assert found["status"] == "finished"
    assert found["ledger"] == held["ledger"]


def test_what_cannot_be_done_is_told_before_anything_is_trained(values: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        auto(values, tmp_path / "out", budget=1.5)
    assert str(caught.value) == (
        "`--budget` should be 2x at least. Found `1.5x`. "
        "Training each task alone takes 1x and all together 1x: give `2x` or more."
    )
    alone = {**values, "tasks": {"intent": values["tasks"]["intent"]}}
    with pytest.raises(ConfigError, match=r"`tasks` should be two at least. Found one."):
        auto(alone, tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("words")
    with pytest.raises(RunFolderError, match=r"be a folder of `taskloom auto`"):
        auto(values, tmp_path / "mine")
    assert not (tmp_path / "out").exists()


def test_the_command_shows_what_was_tried_and_what_answers(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = io.StringIO()
    for module in (commands, autopilot):
        monkeypatch.setattr(module, "console", Console(file=out, width=140))
    file = tmp_path / "run.yaml"
    file.write_text(dump(values), encoding="utf-8")
    autopilot.run_auto(file, tmp_path / "out", "2x", 0.01, 1, [])
    text = out.getvalue()
    for words in ("2.00 of 2 units spent", "Ships `joint`", "answered by", "cannot tell"):
        assert words in text
    with pytest.raises(ConfigError) as caught:
        autopilot.run_auto(file, tmp_path / "out", "three", 0.01, 1, [])
    assert str(caught.value) == "`--budget` should be a number of units. Found `three`. Write `3x`."
