"""Runs under a balance: every method, steps that are skipped, conflict that is recorded, rules that are checked."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from balance_reference import task_gradients
from torch import Tensor
from training_tools import Watch, distance, trained, without_dropout

from taskloom import train
from taskloom.balance import BALANCES
from taskloom.cli.commands import run_quickstart
from taskloom.config import load_config, read_config
from taskloom.errors import NonFiniteGradientError
from taskloom.gradients import Step
from taskloom.gradients.conflict import cosines
from taskloom.model.bundled import bundled_folder
from taskloom.preparation import prepare
from taskloom.session import Session

pytest_plugins = ("training_fixtures",)

Make = Callable[..., Session]
Values = dict[str, Any]

QUIET = {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False, "max_grad_norm": 0.0}
NEEDED: dict[str, Values] = {
    "constant": {"weights": {"intent": 1, "slots": 2, "urgency": 0.5}},
    "static": {"weights": {"intent": 1, "slots": 2, "urgency": 0.5}},
    "pcd": {"primary": "slots"},
    "krum": {"n_byzantine": 0},
}
"""Options that a method cannot do without, or that three tasks are too few for."""


def broken_in(session: Session, name: str, steps: set[int], trainer_of: Callable[[], Any]) -> None:
    """Have a task's loss stay finite in some steps and its gradient not."""
    task = session.prepared.tasks[name]
    loss_of = task.loss

    def loss(output: Tensor, targets: Any) -> Tensor:
        found = loss_of(output, targets)
        return found + (found * 0).sqrt() if trainer_of().state.global_step in steps else found

    task.loss = loss


def fit(session: Session, **how: Any) -> tuple[Any, Watch]:
    watch = Watch()
    trainer = session.trainer([watch], **how)
    trainer.train()
    return trainer, watch


# --- steps without a finite gradient --------------------------------------------------------------------------------


class Weights(Watch):
    """Keeps the weights and the record after each step."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.after = [trained(session)]
        self.records: list[Values] = []
        self.trainer: Any = None

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.after.append(trained(self.session))
        self.records.append(self.trainer.step_record)

    def still(self) -> list[int]:
        """Give the steps, from 0, in which no weight moved."""
        pairs = zip(self.after, self.after[1:], strict=False)
        return [step for step, (a, b) in enumerate(pairs) if all(torch.equal(a[name], b[name]) for name in a)]


BALANCES_THAT_SKIP = [
    {"method": "equal"},
    {"method": "upgrad"},
    {"method": "famo"},
    {"method": "mgda", "statistic": "sketch"},
    {"method": "mgda", "statistic": "sketch", "weights_from": "this_step"},
]


@pytest.mark.parametrize("balance", BALANCES_THAT_SKIP, ids=lambda each: "-".join(each.values()))
def test_a_step_without_a_finite_gradient_is_named_and_counted_and_moves_nothing(
    few_values: Values, session_of: Make, balance: Values
) -> None:
    changes = {**QUIET, "max_steps": 5, "lr_scheduler_type": "constant"}
    session = session_of(few_values, training=changes, balance={**balance, "record_steps": 0})
    watch, told = Weights(session), []
    trainer = watch.trainer = session.trainer([watch], told.append)
    broken_in(session, "urgency", {1, 3}, lambda: trainer)
    trainer.train()
    assert watch.still() == [1, 3]
    assert all(torch.isfinite(value).all() for value in watch.after[-1].values())
    assert told == [
        "step 2 was skipped: the gradient of `urgency` was not finite (1 skipped so far)",
        "step 4 was skipped: the gradient of `urgency` was not finite (2 skipped so far)",
    ]
    assert [record.get("skipped") for record in watch.records] == [None, ["urgency"], None, ["urgency"], None]
    balancer = trainer.balancing.balancer
    assert (balancer.steps, balancer.skipped) == (3, 2)
    assert bool(balancer.multipliers.isfinite().all())


def test_a_gradient_that_is_infinite_in_a_head_alone_is_skipped_too(few_values: Values, session_of: Make) -> None:
    session = session_of(few_values, training={**QUIET, "max_steps": 2}, balance={"method": "upgrad"})
    watch, told = Weights(session), []
    trainer = watch.trainer = session.trainer([watch], told.append)
    weight = session.model.heads["slots"].linear.weight
    weight.register_hook(lambda grad: grad / 0 if trainer.state.global_step == 0 else grad)
    trainer.train()
    assert told == ["step 1 was skipped: the gradient of `slots` was not finite (1 skipped so far)"]
    assert 0 in watch.still()


def test_a_run_fails_after_more_skipped_steps_than_it_allows(few_values: Values, session_of: Make) -> None:
    balance = {"method": "upgrad", "limit_skipped_steps": 2}
    session = session_of(few_values, training={**QUIET, "max_steps": 9}, balance=balance)
    watch, told = Weights(session), []
    trainer = watch.trainer = session.trainer([watch], told.append)
    broken_in(session, "urgency", {0, 3, 4}, lambda: trainer)
    with pytest.raises(NonFiniteGradientError) as raised:
        trainer.train()
    assert str(raised.value) == (
        "`tasks.urgency` should have a finite gradient. Found `urgency` without one in step 5 (2 skipped before). "
        "Lower `training.learning_rate`, or look at the rows of the task."
    )
    assert len(told) == 2
    assert len(watch.records) == 4
    assert all(torch.equal(value, watch.after[-1][name]) for name, value in trained(session).items())


# --- recorded conflict ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("balance", "recorded"),
    [
        ({"method": "upgrad", "record_steps": 2}, [0, 2, 4]),
        ({"method": "equal", "record_steps": 3}, [0, 3]),
        ({"method": "dwa", "record_steps": 4}, [0, 4]),
        ({"method": "upgrad"}, [0]),
        ({"method": "upgrad", "record_steps": 0}, []),
        ({"method": "equal"}, []),
        ({"method": "dwa"}, []),
        ({"method": "mgda", "statistic": "sketch", "record_steps": 2, "weights_from": "this_step"}, [0, 2, 4]),
    ],
    ids=lambda each: "-".join(map(str, each.values())) if isinstance(each, dict) else "",
)
def test_conflict_is_recorded_every_so_many_steps(
    few_values: Values, tmp_path: Path, balance: Values, recorded: list[int]
) -> None:
    few_values["training"] |= {**QUIET, "max_steps": 6}
    few_values["balance"] = balance
    train(few_values, tmp_path / "run")
    text = (tmp_path / "run" / "steps.jsonl").read_text(encoding="utf-8")
    steps = [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]
    steps = [step for step in steps if "tasks" in step]
    assert [step["step"] - 1 for step in steps if "conflict" in step] == recorded
    for conflict in (step["conflict"] for step in steps if "conflict" in step):
        assert conflict["tasks"] == list(few_values["tasks"])
        gramian = np.array(conflict["gramian"])
        assert gramian.shape == (3, 3)
        np.testing.assert_allclose(gramian, gramian.T, rtol=1e-5)
        assert np.array(conflict["half_cosines"]).shape == (3, 3)
        assert np.abs(conflict["half_cosines"]).max() <= 1.0001
        if "layers" in conflict:
            whole = sum(map(np.array, conflict["layers"].values()))
            np.testing.assert_allclose(whole, gramian, rtol=1e-4, atol=1e-5 * np.abs(gramian).max())
        assert ("layers" in conflict) == ("statistic" not in balance)


def test_halves_that_a_task_of_one_row_has_not_are_null(few_values: Values, tmp_path: Path) -> None:
    few_values["training"] |= {**QUIET, "max_steps": 1, "per_device_train_batch_size": 3}
    few_values["balance"] = {"method": "upgrad", "record_steps": 1}
    train(few_values, tmp_path / "run")
    text = (tmp_path / "run" / "steps.jsonl").read_text(encoding="utf-8")
    (step,) = (json.loads(line, parse_constant=pytest.fail) for line in text.splitlines() if '"conflict"' in line)
    assert step["conflict"]["half_cosines"] == [[None] * 3] * 3
    assert all(value is not None for row in step["conflict"]["gramian"] for value in row)
    assert (tmp_path / "run" / "report.html").is_file()


@pytest.mark.parametrize("method", ["upgrad", "equal", "dwa"])
def test_what_is_recorded_is_the_gramian_of_the_tasks_mean_losses(
    few_values: Values, session_of: Make, method: str
) -> None:
    few_values["tasks"]["slots"]["weight"] = 4.0
    balance = {"method": method, "record_steps": 1}
    changes = {**QUIET, "max_steps": 1, "gradient_accumulation_steps": 2}
    session = without_dropout(session_of(few_values, training=changes, balance=balance))
    held = task_gradients(session, [session.steps[0], session.steps[1]])
    trainer, _ = fit(session)
    conflict = trainer.step_record["conflict"]
    np.testing.assert_allclose(conflict["gramian"], held.gramian.numpy(), rtol=1e-4)
    for layer, gramian in conflict["layers"].items():
        rows = [[part.flatten() for name, part in held.shared(row).items() if layer in name] for row in torch.eye(3)]
        jacobian = torch.stack([torch.cat(row) for row in rows]).double()
        np.testing.assert_allclose(gramian, (jacobian @ jacobian.T).numpy(), rtol=1e-3, atol=1e-9)
    assert cosines(conflict["gramian"]).shape == (3, 3)


# --- rules that are checked -------------------------------------------------------------------------------------------


@pytest.fixture
def _broken_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the rules that sum over rows, of biases and normalisations, give a task three times too much."""
    sums = Step.sums

    def thrice(step: Step, node: Any, rows: Any, values: Tensor, times: int) -> None:
        sums(step, node, rows, 3 * values, times)

    monkeypatch.setattr(Step, "sums", thrice)


@pytest.mark.usefixtures("_broken_rules")
@pytest.mark.parametrize("balance", [{}, {"statistic": "sketch", "weights_from": "this_step"}], ids=["one", "two"])
def test_a_rule_that_is_wrong_is_found_in_the_first_step_and_told_once(
    few_values: Values, session_of: Make, balance: Values
) -> None:
    few_values["model"]["adapter"] = None
    balance = {"method": "upgrad", "record_steps": 0, **balance}
    changes = {**QUIET, "max_steps": 2}
    session = without_dropout(session_of(few_values, training=changes, balance=balance))
    held = task_gradients(session, [session.steps[0]])
    told: list[str] = []
    trainer, watch = fit(session, tell=told.append)
    why = "take a backward pass for each task: no rule splits its gradient (it differed from separate passes when"
    assert [text for text in told if why in text] == told
    assert len(told) == 1
    assert told[0].startswith("`embeddings.LayerNorm.bias`, `embeddings.LayerNorm.weight`, ")
    used = trainer.balancing.balancer.engine.distrusted
    assert "encoder.layer.0.output.LayerNorm.weight" in used
    assert {name.rpartition(".")[2] for name in used} <= {"weight", "bias"}
    assert not any("query.weight" in name for name in used), "rules that are right are left alone"
    seen = watch.gradients[0]
    flat = torch.cat([seen[name].flatten() for name in held.names]).double()
    weights = torch.linalg.lstsq(held.jacobian.T, flat[:, None]).solution[:, 0]
    shared = held.shared(weights)
    assert distance({name: seen[name] for name in shared}, shared) < 1e-4, "the gradient is one of the tasks' own"


@pytest.mark.usefixtures("_broken_rules")
def test_a_run_may_do_without_the_check(few_values: Values, session_of: Make) -> None:
    few_values["model"]["adapter"] = None
    balance = {"method": "upgrad", "check_gradients": False}
    told: list[str] = []
    trainer, _ = fit(session_of(few_values, training={**QUIET, "max_steps": 1}, balance=balance), tell=told.append)
    assert told == []
    assert not trainer.balancing.balancer.engine.distrusted


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("adapted", [True, False], ids=["lora", "full"])
def test_the_rounding_of_a_backbone_in_half_precision_is_no_wrong_rule(
    few_values: Values, session_of: Make, dtype: str, adapted: bool
) -> None:
    few_values["model"]["dtype"] = dtype
    if not adapted:
        few_values["model"]["adapter"] = None
    told: list[str] = []
    session = session_of(few_values, training={**QUIET, "max_steps": 1}, balance={"method": "upgrad"})
    fit(session, tell=told.append)
    assert told == []


def test_the_check_leaves_the_run_as_it_would_be_without(few_values: Values, session_of: Make) -> None:
    found = []
    for check in (True, False):
        balance = {"method": "upgrad", "check_gradients": check}
        session = session_of(few_values, training={**QUIET, "max_steps": 2}, balance=balance)
        fit(session)
        found.append(trained(session))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


# --- every method -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", BALANCES.names())
def test_every_method_trains_to_finite_weights(few_values: Values, session_of: Make, method: str) -> None:
    balance = {"method": method, **NEEDED.get(method, {})}
    if method == "cagrad":
        pytest.importorskip("cvxpy")
    session = session_of(few_values, training={**QUIET, "max_steps": 3}, balance=balance)
    before = trained(session)
    told: list[str] = []
    trainer, watch = fit(session, tell=told.append)
    after = trained(session)
    assert all(torch.isfinite(value).all() for value in after.values())
    assert told == []
    assert trainer.balancing.balancer.steps == 3
    moved = {name.partition(".")[0] for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved == {"backbone", "heads"}
    assert len(watch.gradients) == 3


@pytest.fixture
def _all_cores() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quickstart") / "data"
    run_quickstart(folder.with_name("run"), folder, [])
    return folder / "run.yaml"


@pytest.mark.slow
@pytest.mark.usefixtures("_all_cores")
@pytest.mark.skipif(bundled_folder() is None, reason="the extra `offline` is not installed")
@pytest.mark.parametrize("method", BALANCES.names())
def test_every_method_trains_the_real_quickstart(quickstart: Path, tmp_path: Path, method: str) -> None:
    if method == "cagrad":
        pytest.importorskip("cvxpy")
    config = read_config(
        quickstart, ["training.max_steps=20", "training.eval_strategy=no", "training.save_strategy=no"]
    )
    weights = dict.fromkeys(config.tasks, 1.0)
    needed = {"constant": {"weights": weights}, "static": {"weights": weights}, "pcd": {"primary": "slots"}}
    values = config.resolved()
    values["balance"] = {"method": method, **needed.get(method, {})}
    config = load_config(values)
    session = Session(config, prepare(config), tmp_path / "checkpoints")
    watch, told = Weights(session), []
    trainer = watch.trainer = session.trainer([watch], told.append)
    trainer.train()
    assert told == []
    assert len(watch.records) == 20
    assert all(torch.isfinite(value).all() for value in watch.after[-1].values())
    means = [
        np.mean([task["loss"] for record in part for task in record["tasks"].values() if task["examples"]])
        for part in (watch.records[:5], watch.records[-5:])
    ]
    assert means[1] < means[0]
