"""torchjd's scalarizers that need more than a constructor: reference points, learned numbers, windows of steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.func import functional_call
from torchjd.scalarization import DWA, FAMO

from taskloom.balance import Statistics
from taskloom.balance._bridges import LossBridge, slope
from taskloom.balance._learned import Learned
from taskloom.balance._present import check_tasks, equal, preference_of

TINY = 1e-8
"""Losses below this count as this where a method divides by them or takes their logarithm."""


class Constant(LossBridge):
    """`constant`: the user's numbers."""

    def begin(self, tasks: Sequence[str]) -> None:
        """Learn the tasks; each has to have a number."""
        super().begin(tasks)
        check_tasks("weights", self.settings["weights"], tasks, complete=True)

    def arguments(self, seen: Statistics) -> dict[str, Any]:
        """Give the numbers of the present tasks."""
        return {"weights": by_task(self.settings["weights"], seen.tasks)}


class GeometricMean(LossBridge):
    """`geometric_mean`: it divides by the losses."""

    least = TINY


class Referring(LossBridge):
    """`pbi` and `stch`: losses are measured from a reference."""

    def begin(self, tasks: Sequence[str]) -> None:
        """Learn the tasks; no other may have a reference."""
        super().begin(tasks)
        check_tasks("reference", self.settings["reference"], tasks, complete=False)

    def arguments(self, seen: Statistics) -> dict[str, Any]:
        """Give the preference and the reference of the present tasks."""
        return super().arguments(seen) | {"reference": by_task(self.settings["reference"], seen.tasks)}


class Pbi(Referring):
    """`pbi`: brought to weights that add up to 1 for equal tasks."""

    def solve(self, seen: Statistics, losses: Tensor) -> Tensor:
        """Weigh by the distances along the preference and to it."""
        return super().solve(seen, losses) * float(preference_of(seen, self.tasks).norm())


class Stch(Referring):
    """`stch`: brought to weights that add up to 1 for equal tasks, after a warm-up."""

    withheld = frozenset({"warmup_steps"})

    def solve(self, seen: Statistics, losses: Tensor) -> Tensor:
        """Weigh by the smooth maximum, or equally at first."""
        if seen.step < self.settings["warmup_steps"]:
            return equal(seen, self.total)
        return super().solve(seen, losses) * len(seen.tasks)


class Learning(LossBridge):
    """`uw` and `imtl_l`: one number for each task, learned beside the model."""

    withheld = frozenset({"learning_rate"})
    parameter: ClassVar[str]
    """What torchjd calls the numbers."""

    def begin(self, tasks: Sequence[str]) -> None:
        """Begin with zeros, as torchjd does."""
        super().begin(tasks)
        self.learned = Learned(tasks, 0.0, lr=self.settings["learning_rate"])

    def solve(self, seen: Statistics, losses: Tensor) -> Tensor:
        """Weigh by the numbers of the present tasks, then learn from the step."""
        module = self.made(seen, shape=len(seen.tasks))
        with torch.enable_grad():
            leaf = losses.clone().requires_grad_()
            numbers = self.learned.present(seen.tasks).requires_grad_()
            scalar = functional_call(module, {self.parameter: numbers}, (leaf,))
            weights, gradients = torch.autograd.grad(scalar, (leaf, numbers))
        self.learned.learn(seen.tasks, gradients)
        return weights

    def state(self) -> dict[str, Any]:
        """Give the numbers by task, with Adam's moments."""
        return {"learned": self.learned.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take them back."""
        self.learned.restore(state["learned"])


class Uw(Learning):
    """`uw`: the numbers are logarithms of variances."""

    parameter = "log_var"


class ImtlL(Learning):
    """`imtl_l`: the numbers are logarithms of scales."""

    parameter = "log_scale"


class Dwa(LossBridge):
    """`dwa`: mean losses of windows of steps, by task, each kept by a torchjd object of its own."""

    least = TINY

    def begin(self, tasks: Sequence[str]) -> None:
        """Begin the first window."""
        super().begin(tasks)
        self.steps = 0
        self.windows = {task: DWA() for task in tasks}

    def solve(self, seen: Statistics, losses: Tensor) -> Tensor:
        """Weigh by the last two windows, and put the losses into this one."""
        if self.steps == self.settings["window"]:
            self.steps = 0
            for each in self.windows.values():
                each.step()
        self.steps += 1
        dwa = DWA(self.settings["temperature"])
        before = [self.windows[task]._previous_averages for task in seen.tasks]
        # A task that lacks a window counts as one whose loss stood still.
        pairs = [pair if len(pair) == 2 else [torch.ones(1, dtype=torch.float64)] * 2 for pair in before]
        dwa._previous_averages = [torch.cat(averages) for averages in zip(*pairs, strict=True)]
        weights = slope(dwa, losses)
        for task, loss in zip(seen.tasks, losses, strict=True):
            self.windows[task](loss.reshape(1))
        return weights

    def state(self) -> dict[str, Any]:
        """Give the place in the window, and each task's sum, count and last two means."""
        kept = {}
        for task, each in self.windows.items():
            total = None if each._loss_sum is None else each._loss_sum.item()
            means = [mean.item() for mean in each._previous_averages]
            kept[task] = {"sum": total, "count": each._n_batches, "means": means}
        return {"steps": self.steps, "windows": kept}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take it all back."""
        self.steps = state["steps"]
        for task, kept in state["windows"].items():
            each = self.windows[task]
            each._loss_sum = None if kept["sum"] is None else torch.tensor([kept["sum"]], dtype=torch.float64)
            each._n_batches = kept["count"]
            each._previous_averages = [torch.tensor([mean], dtype=torch.float64) for mean in kept["means"]]


class Famo(LossBridge):
    """`famo`: logits by task, and the loss that each task was last seen with."""

    def begin(self, tasks: Sequence[str]) -> None:
        """Begin with equal logits; no other task may have a least loss."""
        super().begin(tasks)
        check_tasks("min_losses", self.settings["min_losses"], tasks, complete=False)
        self.logits = Learned(tasks, 0.0, self.settings["lr"], self.settings["weight_decay"])
        self.last: dict[str, float] = {}

    def solve(self, seen: Statistics, losses: Tensor) -> Tensor:
        """Learn from how the losses changed since each task was seen last, then weigh."""
        losses = torch.maximum(losses, by_task(self.settings["min_losses"], seen.tasks))
        known = [place for place, task in enumerate(seen.tasks) if task in self.last]
        if known:
            self._learn([seen.tasks[place] for place in known], losses[known])
        self.last.update(zip(seen.tasks, losses.tolist(), strict=True))
        return slope(self._famo(seen.tasks), losses)

    def _famo(self, tasks: Sequence[str]) -> Any:
        """Make torchjd's object with the logits of some tasks."""
        famo = FAMO(len(tasks), min_losses=by_task(self.settings["min_losses"], tasks)).double()
        with torch.no_grad():
            famo._w.copy_(self.logits.present(tasks))
        return famo

    def _learn(self, tasks: Sequence[str], losses: Tensor) -> None:
        """Let torchjd find the gradient of the logits, and our Adam step along it."""
        famo = self._famo(tasks)
        famo(torch.tensor([self.last[task] for task in tasks], dtype=torch.float64))
        famo._optimizer = HandedOver(self.logits, tasks, famo._w)
        famo.update(losses)

    def state(self) -> dict[str, Any]:
        """Give the logits by task, with Adam's moments, and the last losses."""
        return {"logits": self.logits.state(), "last": dict(self.last)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take them back."""
        self.logits.restore(state["logits"])
        self.last = dict(state["last"])


class HandedOver:
    """What stands in for torchjd's optimizer of FAMO's logits: it steps ours, which are kept by task."""

    def __init__(self, logits: Learned, tasks: Sequence[str], parameter: Tensor) -> None:
        self.logits, self.tasks, self.parameter = logits, tasks, parameter

    def step(self) -> None:
        """Step along the gradient that torchjd left."""
        assert self.parameter.grad is not None
        self.logits.learn(self.tasks, self.parameter.grad)


def by_task(given: Mapping[str, float], tasks: Sequence[str]) -> Tensor:
    """Give what an option says of some tasks, 0 where it says nothing: [task] float64."""
    return torch.tensor([float(given.get(task, 0.0)) for task in tasks], dtype=torch.float64)
