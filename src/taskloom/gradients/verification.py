"""Holding the engine's gradients against separate passes, on the user's own model and rows."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from taskloom.gradients.engine import Engine
from taskloom.gradients.ledgers import Leaf, Ledger
from taskloom.gradients.sketch import CountSketch
from taskloom.gradients.step import Step, accumulating

SKETCH_SIZE = 256
"""Numbers by which a parameter's gradient is told from another: a difference of norm d shows as about d."""

LEAST = 1e-4
"""A gradient below this share of the whole one, such as that of a bias that changes nothing, is held against this
share of it: what rounding leaves of a sum that cancels is no difference."""

SMALL = 0.02
"""Standard deviation of what stands for zeros while gradients are compared."""

Forward = Callable[[Step], Mapping[int, Tensor]]
"""Names the rows to a step, runs the forward pass, and gives the loss of each task present."""


@dataclass(frozen=True)
class Difference:
    """How far one parameter's gradients are from those of separate passes.

    Attributes:
        name: the parameter.
        relative: norm of the difference over all tasks, divided by the norm of the gradients.
        separate: whether the engine took separate passes for it anyway.
    """

    name: str
    relative: float
    separate: bool


class _Sketches(Ledger):
    """Keeps a small sketch of every parameter's gradients: [task, k] each."""

    def __init__(self, engine: Engine, maker: CountSketch) -> None:
        super().__init__(engine.tasks, halves=False, sketch=None, device=engine.device)
        self.small = maker
        self.held = {leaf.name: maker.zeros(engine.tasks) for leaf in engine.leaves}

    def gramian(self) -> Tensor | None:
        """Give none: nothing is measured here."""
        return None

    def _take(self, leaf: Leaf, tasks: list[int], dense: Tensor) -> None:
        self.small.add(self.held[leaf.name], tasks, dense, 0)

    def _take_entries(self, leaf: Leaf, tasks: list[int], ids: Tensor, compact: Tensor) -> None:
        self.small.add_entries(self.held[leaf.name], tasks, ids, compact, 0)


def compare(engine: Engine, forward: Forward) -> list[Difference]:
    """Run one batch through the engine and once for each task through plain autograd, and compare.

    Gradients, parameters and random states are left as they were found. Parameters that are all zero, as the second
    factor of a fresh LoRA adapter is, are given small values meanwhile: the first factor's gradient would be zero too,
    and nothing would be compared.

    Args:
        engine: whose parameters are compared.
        forward: called once for the engine and once for each task, always with the same random numbers.

    Returns:
        one entry for each parameter, the largest difference first.
    """
    kept: list[tuple[Tensor, Tensor | None]] = [(leaf.parameter, leaf.parameter.grad) for leaf in engine.leaves]
    shared = {id(parameter) for parameter, _ in kept}
    devices = [engine.device] if engine.device.type == "cuda" else []
    maker = CountSketch(SKETCH_SIZE, 0, engine.device)
    with torch.random.fork_rng(devices=devices), _without_zeros(engine):
        seed = torch.initial_seed()
        ledger = _Sketches(engine, maker)
        step = Step(engine, ledger)
        torch.manual_seed(seed)
        with step:
            losses = forward(step)
            present = list(losses)
            # Parameters that are not shared, such as heads, get gradients here that nobody asked for.
            kept += [(each, each.grad) for each in accumulating(losses.values()) if id(each) not in shared]
            for parameter, _ in kept:
                parameter.grad = None  # what is there would be added to in place
            step.backward(losses)
        wanted = _separately(engine, forward, maker, present, seed)
    for parameter, gradient in kept:
        parameter.grad = gradient
    whole = float(sum(each.square().sum() for each in wanted.values())) ** 0.5
    found = []
    for leaf in engine.leaves:
        norm = max(float(wanted[leaf.name].norm()), LEAST * whole, 1e-30)
        relative = float((ledger.held[leaf.name] - wanted[leaf.name]).norm()) / norm
        found.append(Difference(leaf.name, relative, leaf.name in engine.uncovered))
    return sorted(found, key=lambda each: -each.relative)


@contextlib.contextmanager
def _without_zeros(engine: Engine) -> Iterator[None]:
    """Give parameters that are all zero small values for a while."""
    zero = [leaf.parameter for leaf in engine.leaves if not bool(leaf.parameter.any())]
    with torch.no_grad():
        for parameter in zero:
            parameter.normal_(std=SMALL)
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter in zero:
                parameter.zero_()


def _separately(
    engine: Engine, forward: Forward, maker: CountSketch, present: list[int], seed: int
) -> dict[str, Tensor]:
    """Give the sketches of the gradients of one plain backward pass for each task."""
    held = {leaf.name: maker.zeros(engine.tasks) for leaf in engine.leaves}
    for task in present:
        for leaf in engine.leaves:
            leaf.parameter.grad = None
        torch.manual_seed(seed)
        # The rows are named to a step that never opens: nothing is watched, and autograd does all the work.
        torch.autograd.backward(forward(Step(engine, _Sketches(engine, maker)))[task])
        for leaf in engine.leaves:
            gradient = leaf.parameter.grad
            if gradient is not None:
                maker.add(held[leaf.name], [task], gradient.flatten().unsqueeze(0), 0)
    return held
