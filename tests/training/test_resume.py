"""A run that is killed or stopped and called again gives the bytes of a run that never was."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import transformers

import taskloom.reports
import taskloom.run
from resume_tools import At, assert_same, die, in_step, killed, lines_of, short_run
from taskloom.errors import InterruptedRunError
from taskloom.record import Record
from taskloom.run import train
from taskloom.session import Session
from taskloom.training.balancing import BALANCE_FILE
from taskloom.training.checkpoints import last_checkpoint

pytest_plugins = ("training_fixtures",)

STEPS = 7
"""Micro-batches of the run; an epoch has four, so that checkpoints lie inside epochs and at their ends."""


@pytest.fixture(scope="module")
def values(tiny_encoder: Path, tiny_data: Path) -> dict[str, Any]:
    return short_run(tiny_encoder, tiny_data, STEPS)


@pytest.fixture(scope="module")
def whole(values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(values, folder)
    return folder


@pytest.fixture(autouse=True)
def _plain_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write no page with charts after each of many runs; the page has tests of its own."""

    def report(folders: list[Path]) -> None:
        Record.open(folders[0]).report_html.write_text("a page", encoding="utf-8")

    monkeypatch.setattr(taskloom.reports, "report", report)


def in_call(owner: Any, name: str, number: int) -> Callable[[], list[Any]]:
    """Die in the given call of a function, after it has done its work."""

    def arrange() -> list[Any]:
        original, calls = getattr(owner, name), 0

        def dying(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            result = original(*args, **kwargs)
            if calls == number:
                die()
            return result

        setattr(owner, name, dying)
        return []

    return arrange


def before_call(owner: Any, name: str) -> Callable[[], list[Any]]:
    def arrange() -> list[Any]:
        setattr(owner, name, die)
        return []

    return arrange


KILLS = {
    "before its first checkpoint": in_step(2),
    "inside an epoch": in_step(4),
    "after an epoch's end": in_step(5),
    "in an evaluation": in_call(Session, "validate", 2),
    "with weights of a checkpoint written and no optimizer": in_call(Session, "save", 2),
    "with a checkpoint written but for its state": in_call(transformers.Trainer, "_save_rng_state", 3),
    "before the final model is written": in_call(taskloom.run, "_fit", 1),
    "before it is scored": before_call(Session, "score"),
    "while predictions are written": in_call(Record, "write_predictions", 4),
    "while its page is written": before_call(taskloom.reports, "report"),
}


@pytest.mark.parametrize("kill", KILLS.values(), ids=KILLS)
def test_a_run_killed_and_called_again_gives_the_bytes_of_one_never_killed(
    kill: Callable[[], list[Any]], values: dict[str, Any], whole: Path, tmp_path: Path
) -> None:
    killed(values, tmp_path / "run", kill)
    train(values, tmp_path / "run")
    assert_same(tmp_path / "run", whole)
    assert Record.open(tmp_path / "run").report_html.is_file()


def test_a_run_killed_three_times_gives_them_too(values: dict[str, Any], whole: Path, tmp_path: Path) -> None:
    for step in (3, 5, 7):
        killed(values, tmp_path / "run", in_step(step))
    train(values, tmp_path / "run")
    assert_same(tmp_path / "run", whole)


def test_accumulation_and_full_fine_tuning_are_taken_up_in_the_middle_of_an_epoch(
    values: dict[str, Any], tmp_path: Path
) -> None:
    values = deepcopy(values)
    values["model"]["adapter"] = None
    values["training"] |= {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 3, "max_steps": 4}
    values["training"] |= {"eval_steps": 1, "save_steps": 1, "save_total_limit": 1}
    train(values, tmp_path / "whole")
    killed(values, tmp_path / "killed", in_step(3))
    train(values, tmp_path / "killed")
    assert_same(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.parametrize("method", ["gradnorm", "famo", "uw", "gradvac", "coba", "cr_mogm", "modo"])
def test_what_a_balance_carries_is_taken_up(values: dict[str, Any], tmp_path: Path, method: str) -> None:
    values = deepcopy(values)
    short = {"coba": {"warmup_steps": 1, "history": 3}}.get(method, {})
    values["balance"] = {"method": method, "record_steps": 3, **short}
    values["training"] |= {"max_steps": 5}
    train(values, tmp_path / "whole")
    killed(values, tmp_path / "killed", in_step(4))
    train(values, tmp_path / "killed")
    assert_same(tmp_path / "killed", tmp_path / "whole")
    weights = [
        tuple(task["weight"] for task in line["tasks"].values())
        for line in lines_of(tmp_path / "whole")
        if "tasks" in line
    ]
    assert len(set(weights)) > 1, "what is carried moves the weights"
    last = last_checkpoint(Record.open(tmp_path / "killed").checkpoints).folder / BALANCE_FILE
    other = last_checkpoint(Record.open(tmp_path / "whole").checkpoints).folder / BALANCE_FILE
    assert last.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(
    "balance",
    [
        {"method": "mgda", "statistic": "sketch"},
        {"method": "upgrad", "statistic": "sketch", "weights_from": "this_step"},
        {"method": "upgrad", "separate_moments": True},
    ],
    ids=["last_step", "this_step", "moments"],
)
def test_weights_of_the_last_step_and_moments_of_each_task_are_taken_up(
    values: dict[str, Any], tmp_path: Path, balance: dict[str, Any]
) -> None:
    values = deepcopy(values)
    values["balance"] = balance
    values["training"] |= {"max_steps": 5}
    train(values, tmp_path / "whole")
    killed(values, tmp_path / "killed", in_step(4))
    train(values, tmp_path / "killed")
    assert_same(tmp_path / "killed", tmp_path / "whole")


def test_the_patience_of_early_stopping_is_taken_up(values: dict[str, Any], tmp_path: Path) -> None:
    """At a learning rate of almost nothing no score rises: the fourth step ends the run."""
    values = deepcopy(values)
    values["training"] |= {"learning_rate": 1e-12, "eval_steps": 1, "save_steps": 1, "max_steps": 12}
    values["evaluation"]["early_stopping_patience"] = 3
    train(values, tmp_path / "whole")
    assert Record.open(tmp_path / "whole").state.step == 4
    killed(values, tmp_path / "killed", in_step(4))
    train(values, tmp_path / "killed")
    assert_same(tmp_path / "killed", tmp_path / "whole")
    killed(values, tmp_path / "later", before_call(Session, "score"))
    train(values, tmp_path / "later")
    assert_same(tmp_path / "later", tmp_path / "whole")


@pytest.mark.parametrize(("kind", "step"), [(signal.SIGINT, 3), (signal.SIGINT, 4), (signal.SIGTERM, 6)])
def test_a_run_asked_to_stop_saves_and_goes_on_to_the_same_bytes(
    kind: signal.Signals, step: int, values: dict[str, Any], whole: Path, tmp_path: Path
) -> None:
    before = signal.getsignal(kind)
    with pytest.raises(InterruptedRunError) as raised:
        train(values, tmp_path / "run", callbacks=[At(step, lambda: os.kill(os.getpid(), kind))])
    assert raised.value.exit_code == 130
    assert f"a stop at step {step}" in str(raised.value)
    assert signal.getsignal(kind) is before
    record = Record.open(tmp_path / "run")
    assert (record.state.status, record.state.step) == ("interrupted", step)
    assert last_checkpoint(record.checkpoints).step == step
    assert not record.lock_json.exists()
    train(values, tmp_path / "run")
    assert_same(tmp_path / "run", whole)


def test_a_second_signal_stops_at_once(values: dict[str, Any], whole: Path, tmp_path: Path) -> None:
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(values, tmp_path / "run", callbacks=[At(4, twice)])
    assert last_checkpoint(Record.open(tmp_path / "run").checkpoints).step == 2
    train(values, tmp_path / "run")
    assert_same(tmp_path / "run", whole)


def test_a_stop_asked_for_in_the_last_step_ends_the_run(values: dict[str, Any], whole: Path, tmp_path: Path) -> None:
    train(values, tmp_path / "run", callbacks=[At(STEPS, lambda: os.kill(os.getpid(), signal.SIGINT))])
    assert_same(tmp_path / "run", whole)


def test_a_run_folder_that_was_moved_goes_on(values: dict[str, Any], whole: Path, tmp_path: Path) -> None:
    killed(values, tmp_path / "here", in_step(6))
    shutil.move(tmp_path / "here", tmp_path / "there")
    train(values, tmp_path / "there")
    assert_same(tmp_path / "there", whole)


def test_a_finished_run_is_left_as_it_is(values: dict[str, Any], whole: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.is_file()}
    train(values, whole)
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.is_file()} == before


def test_the_same_run_twice_gives_the_same_bytes(tiny_run: Path, run_values: dict[str, Any], tmp_path: Path) -> None:
    train(run_values, tmp_path / "again")
    assert_same(tmp_path / "again", tiny_run)


def test_another_seed_gives_another_model(run_values: dict[str, Any], tiny_run: Path, tmp_path: Path) -> None:
    run_values["training"]["seed"] = 1
    train(run_values, tmp_path / "other")
    name = "model/heads.safetensors"
    assert (tmp_path / "other" / name).read_bytes() != (tiny_run / name).read_bytes()


def test_halves_of_checkpoints_are_removed_and_the_newest_whole_one_is_found(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path / "absent") is None
    for step, state in ((2, '{"global_step": 2}'), (10, '{"global_step": 10}'), (12, '{"global_st'), (14, None)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if state:
            (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    (tmp_path / "checkpoint-best").mkdir()
    found = last_checkpoint(tmp_path)
    assert (found.folder.name, found.step, found.ended(10), found.ended(11)) == ("checkpoint-10", 10, True, False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-2", "checkpoint-best"]
