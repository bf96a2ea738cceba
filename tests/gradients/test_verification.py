"""The check of the engine against separate passes: silent on good rules, and loud and healing on broken ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from balancer_tools import TASKS, Tiny, balancer_of, batch, counts_of, flat, off, run, separate, shared_gradient, shares
from torch import Tensor

from taskloom.gradients import rules
from taskloom.gradients.step import Step
from taskloom.gradients.verification import SKETCH_SIZE, Difference, compare

EVEN = dict.fromkeys(TASKS, 3)


def forward_of(model: Tiny, rows: Any, calls: list[Tensor] | None = None) -> Callable[[Step], Mapping[int, Tensor]]:
    """Name the rows, run the model, and give each present task's share of the loss."""
    counts = counts_of([rows])

    def forward(step: Step) -> dict[int, Tensor]:
        step.rows(rows.tasks, rows.ids)
        if calls is not None:
            calls.append(torch.get_rng_state())
        return {TASKS.index(name): loss for name, loss in shares(model, rows, counts).items()}

    return forward


def checked(model: Tiny, counts: Mapping[str, int] = EVEN, seed: int = 0) -> tuple[Any, list[Difference]]:
    engine = balancer_of(model, "upgrad").engine
    return engine, compare(engine, forward_of(model, batch(counts, seed=seed)[0]))


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule for linear layers with 6 outputs that takes the first task's gradient for 1.05 times what it is."""
    right = rules._Linear.backward

    def backward(ctx: Any, dy: Tensor) -> Any:
        collector = getattr(ctx.use.collector, "whole", ctx.use.collector)  # of a node that is run through again
        if dy.shape[-1] != 6:
            return right(ctx, dy)

        class Bent:
            muted, whole = collector.muted, collector

            def products(self, node: Any, rows: Any, left: Tensor, right: Tensor, times: int) -> None:
                scale = torch.ones(rows.length)
                scale[rows.arranged(torch.arange(rows.length), 1)[: rows.length // len(rows.present)]] = 1.05
                collector.products(node, rows, left * scale.repeat_interleave(times).unsqueeze(1), right, times)

            def sums(self, *arguments: Any) -> None:
                collector.sums(*arguments)

        ctx.use = rules.Use(Bent(), ctx.use.rows, ctx.use.weight, ctx.use.bias)
        return right(ctx, dy)

    monkeypatch.setattr(rules._Linear, "backward", staticmethod(backward))


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("counts", [EVEN, EVEN | {"slots": 0}, {"mood": 2}], ids=["all", "absent", "one"])
def test_good_rules_differ_from_separate_passes_by_rounding(counts: dict[str, int], dropout: float) -> None:
    model = Tiny(dropout=dropout)
    engine, found = checked(model, counts)
    assert {each.name for each in found} == {leaf.name for leaf in engine.leaves}
    assert found[0].relative == max(each.relative for each in found) < 1e-5
    assert not any(each.separate for each in found)
    assert engine.uncovered == {}


@pytest.mark.usefixtures("broken")
def test_a_rule_that_is_wrong_is_found_by_the_parameter_that_it_spoils() -> None:
    model, step = Tiny(), batch(EVEN)
    _, found = checked(model)
    assert [each.name for each in found if each.relative > 1e-3] == ["last.weight"]
    # What the difference is, by separate passes: the first task's row is 1.05 times what it is.
    width = sum(p.numel() for name, p in model.shared.named_parameters() if name in {"words.weight", "first.weight"})
    place = width + 9 + 9 + 9
    rows = separate(model, step).jacobian[:, place : place + 54]
    wanted = float(0.05 * rows[0].norm() / rows.norm())
    # A sketch of so many numbers tells a norm give or take a few parts of a hundred.
    assert found[0].relative == pytest.approx(wanted, rel=3 / SKETCH_SIZE**0.5)


@pytest.mark.usefixtures("broken")
def test_a_parameter_that_is_distrusted_is_exact_again() -> None:
    model, step = Tiny(), batch(EVEN)
    wanted = separate(model, step).jacobian.mean(dim=0)
    balancer = balancer_of(model, "upgrad", statistic="jacobian")
    with balancer.step() as done:
        for rows in step:
            done.rows(rows.tasks, rows.ids)
            done.backward(shares(model, rows, counts_of(step)))
    before = done._inner.jacobian.double().sum(dim=0)
    assert off(before, wanted) > 1e-3
    found = compare(balancer.engine, forward_of(model, step[0]))
    balancer.engine.distrust([each.name for each in found if each.relative > 1e-3], "it differed")
    assert balancer.engine.uncovered == {"last.weight": "it differed"}
    model.zero_grad()
    with balancer.step() as done:
        for rows in step:
            done.rows(rows.tasks, rows.ids)
            done.backward(shares(model, rows, counts_of(step)))
    assert off(done._inner.jacobian.double().sum(dim=0), wanted) < 1e-5
    again = compare(balancer.engine, forward_of(model, step[0]))
    assert again[0].relative < 1e-5
    assert [each.name for each in again if each.separate] == ["last.weight"]


def test_a_parameter_without_a_gradient_to_speak_of_is_held_against_the_whole() -> None:
    """A bias before a layer norm over all of its outputs has none but what rounding leaves."""

    class Shifted(Tiny):
        def forward(self, ids: Tensor) -> Tensor:
            hidden = torch.tanh(self.shared["first"](self.shared["words"](ids)))
            return self.shared["last"](self.shared["norm"](hidden + self.shared["shift"].weight[0])).mean(dim=1)

    model = Shifted()
    model.shared["shift"] = torch.nn.Linear(1, 1, bias=False)
    gradients = separate(model, batch(EVEN)).jacobian
    assert float(gradients[:, -1].norm()) < 1e-6 * float(gradients.norm())
    _, found = checked(model)
    assert max(each.relative for each in found) < 1e-3


def test_gradients_and_random_states_are_left_as_they_were_found() -> None:
    model = Tiny(dropout=0.5)
    engine = balancer_of(model, "upgrad").engine
    rows, calls = batch(EVEN)[0], []
    for name, parameter in model.named_parameters():
        if "norm" not in name:
            parameter.grad = torch.full_like(parameter, 7.0)
    held = {name: parameter.grad for name, parameter in model.named_parameters()}
    torch.manual_seed(3)
    torch.rand(5)
    state = torch.get_rng_state()
    compare(engine, forward_of(model, rows, calls))
    assert torch.equal(torch.get_rng_state(), state)
    for name, parameter in model.named_parameters():
        assert parameter.grad is held[name]
        assert parameter.grad is None or bool((parameter.grad == 7.0).all())
    assert len(calls) == 1 + len(TASKS)
    assert all(torch.equal(each, calls[0]) for each in calls), "every pass has the same dropout"


def test_a_balancer_that_was_checked_gives_what_one_that_was_not_gives() -> None:
    step = batch(EVEN, chunks=3)
    found = []
    for check in (False, True):
        model = Tiny(dropout=0.3)
        balancer = balancer_of(model, "upgrad")
        torch.manual_seed(0)
        if check:
            compare(balancer.engine, forward_of(model, step[0]))
        run(model, balancer, step)
        found.append(shared_gradient(model))
    assert torch.equal(*found)
    assert flat(model.heads.parameters()).any()
