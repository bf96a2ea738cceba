"""Mixtures and policies that change the plan of a run, and runs of them that are killed."""

from __future__ import annotations

import random
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

import taskloom.reports
from resume_tools import assert_same, in_step, killed, lines_of, short_run
from taskloom.config import load_config
from taskloom.errors import ConfigError
from taskloom.mixture import MIXTURES
from taskloom.policy import POLICIES
from taskloom.preparation import RECORD_STEPS, prepare
from taskloom.record import Record
from taskloom.run import train
from taskloom.training.arguments import Length

STEPS = 16

MIXTURE_OPTIONS: dict[str, dict[str, Any]] = {
    "fixed": {"ratios": {"intent": 3, "slots": 1, "answer": 2}},
    "unimax": {"epochs": 2},
    "examples_proportional": {"limit_rows": 6},
    "by_loss": {"temperature": 0.1, "relative": False},
}

POLICY_OPTIONS: dict[str, dict[str, Any]] = {
    "rest_converged": {"patience": 1, "threshold": 0.5},
    "lower_overfitting": {"patience": 1, "margin": 0.0},
    "raise_behind": {"references": {"intent": 1.0, "slots": 1.0, "answer": 1.0}, "after": 0.0},
    "drop_harmful": {"patience": 1, "records": 2, "after": 0.0, "constants": {"intent": 2.0}},
}


@pytest.fixture
def values(tiny_encoder: Path, tiny_data: Path) -> dict[str, Any]:
    return short_run(tiny_encoder, tiny_data, STEPS)


@pytest.fixture(autouse=True)
def _plain_page(monkeypatch: pytest.MonkeyPatch) -> None:
    def report(folders: list[Path]) -> None:
        Record.open(folders[0]).report_html.write_text("a page", encoding="utf-8")

    monkeypatch.setattr(taskloom.reports, "report", report)


def with_mixture(values: dict[str, Any], name: str) -> dict[str, Any]:
    mixture = {"strategy": name, "update_steps": 2, "floor": 0.1, **MIXTURE_OPTIONS.get(name, {})}
    return {**deepcopy(values), "mixture": mixture}


def with_policy(values: dict[str, Any], name: str, log: Path) -> dict[str, Any]:
    options = {"file": str(log)} if name == "replay" else POLICY_OPTIONS[name]
    balance = {"record_steps": 1} if name == "drop_harmful" else {}
    return {**deepcopy(values), "policies": [{"name": name, **options}], "balance": balance}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "decisions.jsonl"
    row = {"version": 1, "step": 2, "policy": "rest_converged", "task": "slots", "factor": 0.0, "reason": "It rests."}
    path.write_text(str(row).replace("'", '"') + "\n", encoding="utf-8")
    return path


def shares_of(folder: Path) -> list[tuple[int, ...]]:
    return [tuple(task["examples"] for task in line["tasks"].values()) for line in lines_of(folder) if "tasks" in line]


def examples(folder: Path, task: str) -> list[int]:
    return [line["tasks"][task]["examples"] for line in lines_of(folder) if "loss" in line]


# --- killed -----------------------------------------------------------------------------------------------------------

CASES = [("mixture", name) for name in MIXTURES.names()] + [("policy", name) for name in POLICIES.names()]


def case_of(kind: str, name: str, values: dict[str, Any], log: Path) -> dict[str, Any]:
    return with_mixture(values, name) if kind == "mixture" else with_policy(values, name, log)


def assert_kill_leaves_no_trace(values: dict[str, Any], folder: Path, whole: Path, step: int) -> None:
    killed(values, folder, in_step(step))
    train(values, folder)
    assert_same(folder, whole)


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_a_run_killed_at_a_random_step_gives_the_bytes_of_one_never_killed(
    kind: str, name: str, values: dict[str, Any], log: Path, tmp_path: Path
) -> None:
    values = case_of(kind, name, values, log)
    train(values, tmp_path / "whole")
    step = random.Random(name).randint(4, STEPS)
    assert_kill_leaves_no_trace(values, tmp_path / "killed", tmp_path / "whole", step)
    if kind == "policy" and name != "drop_harmful":  # no task of this run harms another for certain
        assert Record.open(tmp_path / "whole").decisions()


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), CASES)
def test_a_run_killed_twenty_times_gives_the_bytes_of_one_never_killed(
    kind: str, name: str, values: dict[str, Any], log: Path, tmp_path: Path
) -> None:
    values = case_of(kind, name, values, log)
    train(values, tmp_path / "whole")
    generator = random.Random(name)
    for number in range(20):
        step = generator.randint(2, STEPS)
        assert_kill_leaves_no_trace(values, tmp_path / f"killed-{number}", tmp_path / "whole", step)


def test_everything_at_once_with_workers_is_taken_up_three_times(values: dict[str, Any], tmp_path: Path) -> None:
    values = with_mixture(values, "by_loss") | {
        "policies": [{"name": "rest_converged", **POLICY_OPTIONS["rest_converged"]}]
    }
    values["batching"] = {"limit_tokens": 200}
    values["tasks"]["slots"] |= {"start_step": 3, "max_epochs": 3}
    values["tasks"]["answer"] |= {"per_device_train_batch_size": 2, "end_step": 14}
    train(values, tmp_path / "alone")
    values["training"]["dataloader_num_workers"] = 2
    train(values, tmp_path / "whole")
    assert shares_of(tmp_path / "whole") == shares_of(tmp_path / "alone"), "workers change no draw"
    for step in (5, 10, 15):
        killed(values, tmp_path / "killed", in_step(step))
    train(values, tmp_path / "killed")
    assert_same(tmp_path / "killed", tmp_path / "whole")


def test_what_a_policy_reads_is_recorded_and_packed_rows_keep_its_halves_apart(
    values: dict[str, Any], log: Path
) -> None:
    asked = with_policy(values, "drop_harmful", log) | {"balance": {}, "batching": {"packing": True}}
    prepared = prepare(load_config(asked))
    assert prepared.record_steps() == RECORD_STEPS
    assert prepared.plan(Length(STEPS, STEPS, 4)).halves
    silent = prepare(load_config({**asked, "policies": []}))
    assert silent.record_steps() == 0
    assert not silent.plan(Length(STEPS, STEPS, 4)).halves


# --- what is decided ------------------------------------------------------------------------------------------------


def test_a_mixture_that_follows_losses_changes_what_is_drawn(values: dict[str, Any], tmp_path: Path) -> None:
    values = with_mixture(values, "by_loss")
    values["training"] |= {"max_steps": 24, "per_device_train_batch_size": 12}
    train(values, tmp_path / "run")
    shares = shares_of(tmp_path / "run")
    assert all(sum(each) == 12 for each in shares)
    assert set(shares[:10]) == {(4, 4, 4)}, "what the first window showed holds from step 10 on"
    losses = {
        name: [line["tasks"][name]["loss"] for line in lines_of(tmp_path / "run")[:8] if "loss" in line]
        for name in values["tasks"]
    }
    hardest = max(losses, key=lambda name: sum(losses[name]))
    assert sum(examples(tmp_path / "run", hardest)[10:]) > 4 * 14


def test_a_decision_lowers_draws_and_weight_and_stands_in_the_log(
    values: dict[str, Any], log: Path, tmp_path: Path
) -> None:
    values = with_policy(values, "replay", log)
    train(values, tmp_path / "run")
    (decision,) = Record(tmp_path / "run").decisions()
    assert decision["step"] == 2
    assert decision["task"] == "slots"
    assert decision["from_step"] == 10
    assert examples(tmp_path / "run", "slots") == [2] * 10 + [0] * 6
    assert examples(tmp_path / "run", "intent") == [2] * 10 + [3] * 6
    weights = [line["tasks"]["slots"]["weight"] for line in lines_of(tmp_path / "run") if "loss" in line]
    assert weights == [1.0] * 10 + [0.0] * 6


def test_decisions_of_a_run_are_replayed_by_another(values: dict[str, Any], log: Path, tmp_path: Path) -> None:
    first = with_policy(values, "rest_converged", log)
    train(first, tmp_path / "first")
    assert Record(tmp_path / "first").decisions()
    again = {**deepcopy(values), "policies": [{"name": "replay", "file": str(tmp_path / "first")}]}
    train(again, tmp_path / "again")
    assert shares_of(tmp_path / "again") == shares_of(tmp_path / "first")
    weights = "model/heads.safetensors"
    assert (tmp_path / "again" / weights).read_bytes() == (tmp_path / "first" / weights).read_bytes()


def test_a_run_with_no_rows_left_is_refused_before_it_begins(values: dict[str, Any], tmp_path: Path) -> None:
    values["mixture"] |= {"max_epochs": 1}
    with pytest.raises(
        ConfigError, match=r"`training.max_steps` should leave rows of some task to each step. Found none in step 4"
    ):
        train(values, tmp_path / "run")


def test_a_task_that_would_enter_after_the_end_is_told_so(values: dict[str, Any], tmp_path: Path) -> None:
    values["tasks"]["slots"]["start_step"] = STEPS
    with pytest.raises(ConfigError) as raised:
        train(values, tmp_path / "run")
    wanted = f"`tasks.slots.start_step` should lie before the run's end after {STEPS} steps. Found `{STEPS}`."
    assert wanted in str(raised.value)


@pytest.mark.parametrize("reduction", ["task", "example", "token"])
def test_tasks_that_are_not_trained_leave_the_objective_to_the_others(
    values: dict[str, Any], tmp_path: Path, reduction: str
) -> None:
    """Before a task enters, the run is bit for bit the run without its share of the objective."""
    values["balance"] = {"reduction": reduction}
    values["training"] |= {"max_steps": 6, "per_device_train_batch_size": 4}
    values["tasks"]["answer"]["start_step"] = 4
    train(values, tmp_path / "late")
    del values["tasks"]["answer"]
    train(values, tmp_path / "without")
    late, without = (
        [line["loss"] for line in lines_of(tmp_path / name) if "loss" in line] for name in ("late", "without")
    )
    assert late[:1] == pytest.approx(without[:1], rel=1e-6)
    assert examples(tmp_path / "late", "answer") == [0, 0, 0, 0, *examples(tmp_path / "late", "answer")[4:]]
    assert sum(examples(tmp_path / "late", "answer")) > 0
