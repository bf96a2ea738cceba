"""A curriculum as `taskloom check` draws it, and as it is written into the run folder while it takes effect."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import transformers
from rich.console import Console

from taskloom.batches.plan import Plan
from taskloom.cli import commands
from taskloom.config import load_config
from taskloom.config.document import dump
from taskloom.curriculum import CurriculumRecorder, begin_curriculum
from taskloom.inspection import check
from taskloom.policy import Decision
from taskloom.preparation import prepare
from taskloom.record import Record
from taskloom.session import Session

TASKS = ("intent", "slots", "urgency")


@pytest.fixture
def values(run_values: dict[str, Any]) -> dict[str, Any]:
    """A run of three tasks in eight steps of six rows, whose last task enters after four."""
    run_values["tasks"] = {name: run_values["tasks"][name] for name in TASKS}
    run_values["training"] |= {"max_steps": 8, "per_device_train_batch_size": 6, "eval_strategy": "no"}
    run_values["curriculum"] = {"tasks": {"by": "listed", "order": ["slots", "urgency", "intent"]}}
    return run_values


def lines_of(values: dict[str, Any], **curriculum: Any) -> list[str]:
    return check({**values, "curriculum": curriculum}).curriculum


def test_a_check_draws_which_task_is_trained_when(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = {"by": "listed", "order": ["slots", "urgency", "intent"]}
    wanted = [
        "curriculum: tasks enter as listed",
        f"  slots    {'█' * 40}  from the start",
        f"  urgency  {'·' * 10}{'█' * 30}  enters after 2 steps",
        f"  intent   {'·' * 20}{'█' * 20}  enters after 4 steps",
    ]
    assert lines_of(values, tasks=listed) == wanted
    assert lines_of(values, tasks={**listed, "leave": True}) == [
        "curriculum: tasks enter as listed",
        f"  slots    {'█' * 10}{'·' * 30}  from the start, leaves after 2 steps",
        f"  urgency  {'·' * 10}{'█' * 10}{'·' * 20}  enters after 2 steps, leaves after 4 steps",
        f"  intent   {'·' * 20}{'█' * 20}  enters after 4 steps",
    ]
    out = io.StringIO()
    monkeypatch.setattr(commands, "console", Console(file=out, width=60, highlight=False))
    (tmp_path / "run.yaml").write_text(dump(values), encoding="utf-8")
    commands.run_check(tmp_path / "run.yaml", [])
    assert "\n".join(wanted) in out.getvalue()


def test_a_check_counts_the_draws_that_the_curriculum_leaves(values: dict[str, Any]) -> None:
    draws = {fact.name: fact.draws for fact in check(values).tasks}
    # Two steps alone, two with one other, four with two others.
    assert draws == {"slots": 12 + 6 + 8, "urgency": 6 + 8, "intent": 8}


def test_what_takes_the_model_is_said_to_be_measured_later(values: dict[str, Any]) -> None:
    items = {"by": "loss", "start": 0.25, "until": 0.75, "tasks": ["slots", "intent"], "direction": "hard_first"}
    assert lines_of(values, tasks={"by": "speed", "first": 2}, items=items) == [
        "curriculum: 2 of 3 tasks at the start, all by step 4, easy first; their learning speeds are measured when "
        "training starts",
        "curriculum: items of slots, intent hard first: 25% at the start, all after 6 steps; by zero-shot loss, which "
        "is measured when training starts",
    ]
    assert lines_of(values, items={"by": "length"}) == [
        "curriculum: items easy first: 10% at the start, all after 4 steps; by tokens"
    ]
    assert lines_of(values) == []


# --- training ---------------------------------------------------------------------------------------------------------


def test_a_training_draws_by_the_curriculum_and_writes_each_decision_as_it_takes_effect(
    values: dict[str, Any], tmp_path: Path
) -> None:
    record = Record.create(tmp_path / "run")
    config = load_config(values)
    session = Session(config, prepare(config), record.checkpoints)
    plan: Plan = session.steps.plan
    decisions = begin_curriculum(config, session.prepared, session.model, plan, record.folder)
    rows: list[dict[str, int]] = []

    class Watch(transformers.TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            tasks = trainer.step_record["tasks"]
            rows.append({name: tasks[name]["examples"] for name in TASKS})

    trainer = session.trainer([CurriculumRecorder(record, decisions), Watch()])
    trainer.train()
    assert rows[:2] == [{"slots": 6, "urgency": 0, "intent": 0}] * 2
    assert rows[2:4] == [{"slots": 3, "urgency": 3, "intent": 0}] * 2
    assert rows[4:] == [{"slots": 2, "urgency": 2, "intent": 2}] * 4
    log = record.decisions()
    assert [(row["step"], row["task"], row["factor"]) for row in log] == [
        (0, "slots", 1.0), (0, "urgency", 0.0), (0, "intent", 0.0), (2, "urgency", 1.0), (4, "intent", 1.0),
    ]  # fmt: skip
    assert {row["policy"] for row in log} == {"curriculum"}
    assert log[-1]["reason"] == "`intent` enters: 3 of 3 as listed."


def test_a_run_that_is_resumed_writes_the_log_of_a_run_never_killed(tmp_path: Path) -> None:
    decisions = [Decision(step, "curriculum", f"t{step}", 1.0, "It enters.") for step in (0, 3, 5)]
    state = transformers.TrainerState()
    whole, killed = Record.create(tmp_path / "whole"), Record.create(tmp_path / "killed")

    def run(record: Record, first: int, last: int) -> None:
        recorder = CurriculumRecorder(record, decisions)
        state.global_step = first
        recorder.on_train_begin(None, state, None)
        for step in range(first + 1, last + 1):
            state.global_step = step
            recorder.on_step_end(None, state, None)

    run(whole, 0, 8)
    assert [row["step"] for row in whole.decisions()] == [0, 3, 5]
    for checkpoint, end in ((0, 4), (3, 4), (4, 7)):
        killed.decisions_jsonl.unlink(missing_ok=True)
        run(killed, 0, end)
        killed.truncate_decisions(checkpoint)
        run(killed, checkpoint, 8)
        assert killed.decisions_jsonl.read_bytes() == whole.decisions_jsonl.read_bytes()
