"""TensorBoard gets what a run records of each task, under the names of its groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from taskloom import train
from taskloom.gradients.conflict import mean_cosine
from taskloom.record import Record
from taskloom.training.scalars import LogBook, scalar_name

if TYPE_CHECKING:
    from pathlib import Path


def events_of(folder: Path) -> dict[str, dict[int, float]]:
    """Read the scalars of a run's event file: name -> step -> value."""
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    (log,) = folder.glob("checkpoints/runs/*/events*")
    held = event_accumulator.EventAccumulator(str(log.parent))
    held.Reload()
    return {name: {each.step: each.value for each in held.Scalars(name)} for name in held.Tags()["scalars"]}


def test_tensorboard_shows_what_steps_and_evaluations_were(run_values: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run_values["tasks"] = {name: run_values["tasks"][name] for name in ("intent", "slots", "urgency")}
    run_values["tasks"]["slots"] |= {"learning_rate": 1e-4, "weight": 2.0}
    run_values["balance"] = {"method": "upgrad", "record_steps": 2}
    run_values["training"] |= {"report_to": "tensorboard", "logging_steps": 2, "load_best_model_at_end": False}
    train(run_values, tmp_path / "run")
    found, rows = events_of(tmp_path / "run"), Record(tmp_path / "run").steps()
    steps = [row for row in rows if "tasks" in row]
    assert len(steps) == 4
    for two in (steps[:2], steps[2:]):
        at, total = two[1]["step"], sum(task["examples"] for row in two for task in row["tasks"].values())
        for name in run_values["tasks"]:
            held = [row["tasks"][name] for row in two]
            count = sum(each["examples"] for each in held)
            loss = sum(each["loss"] * each["examples"] for each in held) / count
            assert found[f"loss/{name}"][at] == pytest.approx(loss, rel=1e-5)
            assert found[f"share/{name}"][at] == pytest.approx(count / total, rel=1e-5)
            assert found[f"weight/{name}"][at] == pytest.approx(held[1]["weight"], rel=1e-5)
            assert found[f"learning_rate/{name}"][at] == pytest.approx(held[1]["learning_rate"], rel=1e-5)
        cosines = [mean_cosine(row["conflict"]["gramian"]) for row in two if "conflict" in row]
        assert len(cosines) == 1
        assert found["conflict/mean_cosine"][at] == pytest.approx(cosines[0], rel=1e-4, abs=1e-6)
    rates = {name: task["learning_rate"] / steps[1]["learning_rate"] for name, task in steps[1]["tasks"].items()}
    assert rates == pytest.approx({"intent": 10, "slots": 0.1, "urgency": 10})
    for row in rows:
        for name, metrics in row.get("evaluation", {"tasks": {}})["tasks"].items():
            for metric, value in metrics.items():
                assert found[f"validation/{name}/{metric}"][row["step"]] == pytest.approx(value, rel=1e-5, abs=1e-7)
    assert {"train/loss", "train/learning_rate", "validation/composite"} <= found.keys()


def step_of(examples: dict[str, int], **more: Any) -> dict[str, Any]:
    tasks = {
        name: {"loss": 2.0 if count else None, "weight": 1.5, "learning_rate": 0.1, "examples": count, "tokens": 10}
        for name, count in examples.items()
    }
    return {"tasks": tasks, "seconds": 0.5, **more}


def test_a_log_leaves_out_what_it_does_not_know_and_begins_anew() -> None:
    book = LogBook()
    assert book.close() == {}
    book.add(step_of({"one": 4, "other": 0}, conflict={"gramian": [[1.0, 0.0], [0.0, 0.0]]}))
    told = {"loss/one": 2.0, "share/one": 1.0, "share/other": 0.0, "learning_rate/one": 0.1, "weight/one": 1.5}
    assert book.close() == {**told, "tokens_per_second": 40.0}
    assert book.close() == {}


def test_a_scalar_stands_in_its_group() -> None:
    names = ("loss", "loss/intent", "eval_composite", "eval_intent/accuracy")
    assert [scalar_name(name) for name in names] == [
        "train/loss",
        "loss/intent",
        "validation/composite",
        "validation/intent/accuracy",
    ]
