"""A step means the same however it is cut and packed: its losses, its gradient, and the gradient of each task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from balance_reference import task_gradients
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from training_tools import Watch, distance, gradients, trained, without_dropout

from taskloom.batches.chunks import OVERHEAD_TOKENS
from taskloom.errors import ConfigError
from taskloom.gradients.step import Step as EngineStep
from taskloom.inspection import check
from taskloom.session import Session
from taskloom.types import Step

pytest_plugins = ("training_fixtures",)

Make = Callable[..., Session]
Values = dict[str, Any]

QUIET = {"max_steps": 1, "eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False}
PACKED = {"packing": True}
METHODS = {"equal": {"record_steps": 0}, "sum": {"record_steps": 0}, "upgrad": {}}


@dataclass
class Whole:
    """A step as one rectangle of one sequence in each row, and what comes of it."""

    session: Session
    step: Any
    gradient: dict[str, Tensor]
    losses: dict[tuple[Any, ...], Tensor]


def losses(session: Session, step: Any) -> dict[tuple[Any, ...], Tensor]:
    """Give the loss of each item, and the sum of each task's under its name alone."""
    model, objective = session.model.eval(), session.objective()
    found: dict[tuple[Any, ...], Tensor] = {}
    with torch.no_grad():
        for chunk in step.chunks:
            sums, own = objective.sums(model(chunk), chunk)
            for name, part in chunk.parts.items():
                found[name,] = found.get((name,), torch.zeros(())) + sums[name]
                for item, loss in zip(part.items, own[name], strict=True):
                    found[name, item["row"], *item["input_ids"][0]] = loss
    return found


@pytest.fixture(params=["lora", "full"])
def whole(request: pytest.FixtureRequest, run_values: Values, session_of: Make) -> Whole:
    """All seven tasks of the help desk in one step of 28 rows, the model in double precision."""
    if request.param == "full":
        run_values["model"]["adapter"] = None
    session = session_of(run_values, training={**QUIET, "per_device_train_batch_size": 28}, batching=PACKED)
    session.model.double()
    session.steps.packing, session.steps.limit_tokens = False, 10**6
    step = session.steps[0]
    return Whole(session, step, gradients(session, [step]), losses(session, step))


@given(limit=st.one_of(st.integers(1, 3000), st.just(10**6)), packing=st.booleans(), halves=st.booleans())
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_losses_and_the_gradient_of_a_step_do_not_depend_on_how_it_is_cut_and_packed(
    whole: Whole, limit: int, packing: bool, halves: bool
) -> None:
    steps = whole.session.steps
    steps.packing, steps.limit_tokens, steps.halves = packing, limit, halves
    step = steps[0]
    assert (step.tokens, step.examples) == (whole.step.tokens, whole.step.examples)
    assert distance(gradients(whole.session, [step]), whole.gradient) < 1e-5
    found = losses(whole.session, step)
    assert found.keys() == whole.losses.keys()
    for key, loss in found.items():
        torch.testing.assert_close(loss, whole.losses[key], rtol=1e-5, atol=1e-7)


def test_this_step_is_packed_and_all_kinds_of_tasks_are_in_it(whole: Whole) -> None:
    session = whole.session
    session.steps.packing, session.steps.limit_tokens = True, 4096
    step = session.steps[0]
    within = {name for chunk in step.chunks if chunk.packing is not None for name in chunk.parts}
    assert {"intent", "slots", "similarity", "answer", "reply"} <= within
    session.steps.packing = False
    assert work_of(step) < work_of(session.steps[0])


def work_of(step: Step) -> int:
    """Count the tokens of a step's rectangles, and what each rectangle costs."""
    return sum(chunk.inputs["input_ids"].numel() + OVERHEAD_TOKENS for chunk in step.chunks)


@pytest.mark.parametrize("adapted", [True, False], ids=["lora", "full"])
@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "recomputed"])
def test_each_tasks_gradient_in_one_pass_over_packed_rows_is_that_of_separate_passes_over_single_ones(
    run_values: Values, session_of: Make, adapted: bool, checkpointing: bool
) -> None:
    if not adapted:
        run_values["model"]["adapter"] = None
    changes = {**QUIET, "max_grad_norm": 0.0, "per_device_train_batch_size": 28}
    changes |= {"activation_checkpointing": True} if checkpointing else {}
    balance = {"method": "upgrad", "record_steps": 0, "statistic": "jacobian"}
    session = without_dropout(session_of(run_values, training=changes, balance=balance, batching=PACKED))
    if adapted:  # a fresh adapter's second factors are zero, and so would be the gradients of the first
        torch.manual_seed(1)
        for name, parameter in session.model.named_parameters():
            if "lora_B" in name:
                parameter.data.normal_(std=0.1)
    assert any(chunk.packing is not None for chunk in session.steps[0].chunks)
    session.steps.packing = False
    held = task_gradients(session, [session.steps[0]])
    session.steps.packing = True
    told: list[str] = []
    watch = Watch()
    trainer = session.trainer([watch], tell=told.append)
    trainer.train()
    engine = trainer.balancing.balancer.engine
    assert engine.uncovered == {}, "nothing takes separate passes"
    assert told == []
    names = [leaf.name for leaf in engine.leaves]
    assert ["backbone." + name for name in names] == held.names
    jacobian = engine._buffer.double() / held.preference[:, None]
    assert float((jacobian - held.jacobian).norm() / held.jacobian.norm()) < 1e-5
    for one, other in zip(jacobian, held.jacobian, strict=True):
        assert float((one - other).norm() / other.norm()) < 1e-4
    wanted = held.shared(trainer.balancing.balancer.multipliers * held.preference)
    seen = {name: gradient for name, gradient in watch.gradients[0].items() if name.startswith("backbone.")}
    assert distance(seen, wanted) < 1e-4


@pytest.mark.parametrize("method", METHODS)
def test_training_on_packed_rows_trains_the_same_weights(few_values: Values, session_of: Make, method: str) -> None:
    found = []
    for packing in (False, True):
        changes = {**QUIET, "max_steps": 2, "optim": "sgd", "per_device_train_batch_size": 18}
        balance = {"method": method, **METHODS[method]}
        session = session_of(few_values, training=changes, balance=balance, batching={"packing": packing})
        assert any(chunk.packing is not None for chunk in session.steps[0].chunks) == packing
        without_dropout(session).trainer().train()
        found.append(trained(session))
    assert distance(found[1], found[0]) < 1e-5


def test_halves_hold_whole_items_and_each_task_has_both(run_values: Values, session_of: Make) -> None:
    balance = {"method": "upgrad", "record_steps": 1}
    session = session_of(
        run_values, training={**QUIET, "per_device_train_batch_size": 28}, balance=balance, batching=PACKED
    )
    assert session.steps.halves
    balancing = session.balancing()
    balancing.open(0, 1.0)
    assert balancing.step is not None
    inner = balancing.step._inner
    assert isinstance(inner, EngineStep)
    slots: dict[tuple[str, int], set[int]] = {}
    step = session.steps[0]
    assert any(chunk.packing is not None for chunk in step.chunks)
    for chunk in step.chunks:
        tasks, _, items = balancing._rows_of(chunk)
        of_row = inner._halved(tasks, items)
        for name, part in chunk.parts.items():
            rows = part.sequences if chunk.packing is None else chunk.packing.rows[part.sequences]
            own = iter(rows.tolist())
            for item, size in zip(part.items, part.sizes, strict=True):
                slots.setdefault((name, item["row"]), set()).update(of_row[next(own)] for _ in range(size))
    assert all(len(held) == 1 for held in slots.values()), "no half splits an item"
    for number, name in enumerate(session.prepared.tasks):
        own_slots = [next(iter(held)) for (task, _), held in slots.items() if task == name]
        assert set(own_slots) == {2 * number, 2 * number + 1}
        assert abs(own_slots.count(2 * number) - own_slots.count(2 * number + 1)) <= len(step.chunks)


@pytest.mark.parametrize(
    ("balance", "halves"),
    [
        ({"method": "equal"}, False),
        ({"method": "equal", "record_steps": 5}, True),
        ({"method": "dwa"}, False),
        ({"method": "upgrad"}, True),
        ({"method": "upgrad", "record_steps": 0}, False),
        ({"method": "pike", "record_steps": 0}, True),
    ],
)
def test_halves_are_kept_apart_only_where_a_statistic_compares_them(
    few_values: Values, session_of: Make, balance: Values, halves: bool
) -> None:
    session = session_of(few_values, balance=balance, batching=PACKED)
    assert session.steps.halves == halves
    balancing = session.balancing()
    balancing.open(0, 1.0)
    assert balancing.step is not None
    inner = balancing.step._inner
    assert (inner is not None and inner.ledger.fold == 2) == halves


def test_a_check_measures_padding_of_packed_rows_against_one_rectangle_of_single_ones(
    run_values: Values, session_of: Make
) -> None:
    run_values["training"]["per_device_train_batch_size"] = 28
    plain, packed = (check({**run_values, "batching": {"packing": packing}}) for packing in (False, True))
    assert packed.padding_one == pytest.approx(plain.padding_one)
    assert packed.padding_cut < plain.padding_cut
    steps = session_of(run_values, batching=PACKED).steps
    masks = [chunk.inputs["attention_mask"] for index in range(len(steps)) for chunk in steps[index].chunks]
    useful, cut = sum(int(mask.sum()) for mask in masks), sum(mask.numel() for mask in masks)
    assert packed.padding_cut == pytest.approx(1 - useful / cut)


def test_a_session_refuses_a_backbone_that_tells_packed_rows_apart(
    run_values: Values, session_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from taskloom import session as module

    original = module.build_model

    def other(*args: Any, **kwargs: Any) -> Any:
        model = original(*args, **kwargs)
        model._first_place += 1
        return model

    monkeypatch.setattr(module, "build_model", other)
    for task in run_values["tasks"].values():
        task["max_length"] = 100
    session_of(run_values)
    with pytest.raises(ConfigError, match=r"`batching\.packing` should be used with a backbone"):
        session_of(run_values, batching=PACKED)
