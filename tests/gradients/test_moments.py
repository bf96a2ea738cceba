"""Moments of each task apart are those of an Adam optimizer for each task."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from taskloom.gradients import Balancer
from taskloom.gradients.moments import TaskMoments

TASKS = ("a", "b", "c")
PRESENT = ((0, 0, 1, 2, 2), (0, 1, 1, 0, 1), (2, 2, 2, 0, 1), (1, 1, 1, 1, 1))
"""The tasks of each step's rows: in the second and the fourth some are absent."""


def problem() -> tuple[nn.Linear, list[tuple[Tensor, Tensor]]]:
    torch.manual_seed(0)
    return nn.Linear(4, 3), [(torch.randn(5, 4), torch.tensor(tasks)) for tasks in PRESENT]


def losses(model: nn.Linear, x: Tensor, tasks: Tensor) -> dict[str, Tensor]:
    found = model(x)
    return {TASKS[int(t)]: (10.0 ** int(t)) * found[tasks == t].sin().mean() for t in tasks.unique()}


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (1.0, 4.0, 3.0)])
def test_the_step_is_the_weighted_mean_of_one_adam_step_for_each_task(weights: tuple[float, ...]) -> None:
    model, steps = problem()
    preference = dict(zip(TASKS, weights, strict=True))
    balancer = Balancer(model.named_parameters(), TASKS, "equal", preference=preference, moments={"eps": 1e-8})
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.01)
    assert balancer.moments is not None
    balancer.moments.attach(optimizer)
    apart = {}
    for name in TASKS:
        copied = copy.deepcopy(model)
        apart[name] = (copied, torch.optim.Adam(copied.parameters(), lr=1.0))
    for x, tasks in steps:
        before = [parameter.detach().clone() for parameter in model.parameters()]
        wanted = [(1 - 0.1 * 0.01) * parameter for parameter in before]
        present = [TASKS[int(t)] for t in tasks.unique()]
        total = sum(preference.values())  # a task that is absent does not move the others
        for name in present:
            copied, adam = apart[name]
            for own, value in zip(copied.parameters(), before, strict=True):
                own.data.copy_(value)
            adam.zero_grad()
            losses(copied, x, tasks)[name].backward()
            adam.step()
            for place, own in enumerate(copied.parameters()):
                wanted[place] = wanted[place] + 0.1 * preference[name] / total * (own.detach() - before[place])
        optimizer.zero_grad()
        with balancer.step() as step:
            step.rows(tasks, x)
            step.backward(losses(model, x, tasks))
        assert step.sound
        assert all(parameter.grad is None for parameter in model.parameters())
        optimizer.step()
        for parameter, value in zip(model.parameters(), wanted, strict=True):
            torch.testing.assert_close(parameter.detach(), value, rtol=1e-4, atol=1e-5)


def test_a_task_with_gradients_a_thousand_times_as_large_does_not_set_the_step() -> None:
    torch.manual_seed(0)
    leaf = nn.Parameter(torch.zeros(50))
    balancer = Balancer([("leaf", leaf)], ("small", "large"), "equal", moments={})
    moments = balancer.moments
    assert moments is not None
    small, large = torch.randn(50), 1000 * torch.randn(50)
    moments.take(torch.stack([small, large]), torch.tensor([0.5, 0.5]), torch.tensor([0, 1]))
    assert moments.direction is not None
    torch.testing.assert_close(moments.direction, (small.sign() + large.sign()) / 2, rtol=1e-3, atol=1e-3)


def test_a_skipped_step_moves_nothing_and_the_state_goes_on_bit_for_bit() -> None:
    model, steps = problem()
    balancer = Balancer(model.named_parameters(), TASKS, "upgrad", moments={})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    assert balancer.moments is not None
    balancer.moments.attach(optimizer)

    def stepped(x: Tensor, tasks: Tensor, scale: float = 1.0) -> None:
        with balancer.step() as step:
            step.rows(tasks, x)
            step.backward({name: scale * loss for name, loss in losses(model, x, tasks).items()})
        optimizer.step()

    stepped(*steps[0])
    kept = copy.deepcopy(model.state_dict())
    stepped(*steps[1], scale=float("inf"))
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())
    assert balancer.skipped == 1
    other = TaskMoments(balancer.engine.leaves, 3)
    other.restore({name: value.clone() for name, value in balancer.moments.tensors().items()})
    for moments in (balancer.moments, other):
        moments.take(torch.ones(3, 15), torch.ones(3), torch.arange(3))
    assert torch.equal(other.direction, balancer.moments.direction)  # type: ignore[arg-type]


def test_moments_need_the_jacobian_and_weights() -> None:
    model, _ = problem()
    with pytest.raises(ValueError, match="needs it kept"):
        Balancer(model.named_parameters(), TASKS, "equal", moments={}, statistic="sketch")
    with pytest.raises(ValueError, match="gives one gradient for all"):
        Balancer(model.named_parameters(), TASKS, "graddrop", moments={})
