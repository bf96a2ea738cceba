"""One backward pass gives every task's gradient of what tasks share, for every scheme."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from sharing_tools import SHARED, TASK_OF_ROW, TASKS, checkpointed, gradients, inputs_of, installed, row_losses
from torch import Tensor

from taskloom.gradients import Engine

LATER = (0, 1, 1, 1, 0, 0)
"""The rows of another step, which has none of the third task."""


def losses_of(model: Any, inputs: dict[str, Tensor], task_of_row: Sequence[int] = TASK_OF_ROW) -> dict[int, Tensor]:
    each, tasks = row_losses(model(**inputs).logits), torch.tensor(task_of_row)
    return {task: each[tasks == task].mean() for task in sorted(set(task_of_row))}


def common_of(routing: Any) -> list[str]:
    return [each for each, owner in routing.owner.items() if owner is None]


def assert_one_pass(model: Any, routing: Any, engine: Engine, task_of_row: Sequence[int]) -> None:
    """Hold the gradients of one pass against those of a pass for each task, of what is shared and of what is not."""
    inputs, common = inputs_of(model, len(task_of_row)), common_of(routing)
    routing.rows(task_of_row)
    own = {each: torch.zeros(()) for each, owner in routing.owner.items() if owner is not None}
    expected = torch.zeros(len(TASKS), engine.size)
    for task in set(task_of_row):
        losses_of(model, inputs, task_of_row)[task].backward()
        found = gradients(model, routing)
        expected[task] = torch.cat([found[each].flatten() for each in common])
        own = {each: value + found[each] for each, value in own.items()}
    with engine.step() as step:
        step.rows(task_of_row, inputs)
        step.backward(losses_of(model, inputs, task_of_row))
    assert not engine.uncovered, "every use of a shared parameter has a rule"
    assert (step.jacobian - expected).norm() <= 1e-5 * expected.norm()
    got = gradients(model, routing)
    for each, value in own.items():
        torch.testing.assert_close(got[each], value, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("checkpoint", ["off", "plain", "reentrant"])
@pytest.mark.parametrize("name", SHARED)
@pytest.mark.parametrize("kind", ["bert", "llama", "t5", "gpt2"])
def test_one_pass_gives_what_a_pass_for_each_task_gives(kind: str, name: str, checkpoint: str) -> None:
    model, routing = installed(kind, name)
    if checkpoint != "off":
        checkpointed(model, reentrant=checkpoint == "reentrant")
    engine = Engine([(each, model.get_parameter(each)) for each in common_of(routing)], len(TASKS))
    assert_one_pass(model, routing, engine, TASK_OF_ROW)
    if kind == "bert":
        assert_one_pass(model, routing, engine, LATER)


def test_the_balance_loss_goes_through_the_engine() -> None:
    model, routing = installed("bert", "experts_token", balance_loss=0.5)
    inputs = inputs_of(model, len(TASK_OF_ROW))
    gate = next(each for each in routing.owner if each.endswith("of_token"))
    common = common_of(routing)
    routing.rows(TASK_OF_ROW)
    (sum(losses_of(model, inputs).values()) + routing.losses()).backward()
    wanted = gradients(model, routing)
    engine = Engine([(each, model.get_parameter(each)) for each in common], len(TASKS))
    with engine.step() as step:
        step.rows(TASK_OF_ROW, inputs)
        losses = losses_of(model, inputs)
        step.backward({**losses, 0: losses[0] + routing.losses()})
    step.write(torch.ones(len(TASKS)))
    assert wanted[gate].any()
    for each in common:
        torch.testing.assert_close(model.get_parameter(each).grad, wanted[each], atol=1e-5, rtol=1e-4)
