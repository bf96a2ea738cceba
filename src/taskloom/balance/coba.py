"""Let all tasks converge together, seen from the slopes of their validation losses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from taskloom.balance import Balance, Statistics
from taskloom.balance._present import equal

Numbers = NDArray[np.float64]


class Coba(Balance):
    """Give more to tasks whose validation loss falls slowly, and less to tasks whose validation loss begins to rise.

    Prefer it where tasks converge at different times and some overfit. Do not where the validation split also decides
    what you report: it takes part in training; nor where one more forward pass a step is too much.

    Formula: with ``a_t(i)`` the slope of a line through the last ``history`` validation losses of task t at step i,
    each over the task's first, n slopes looked back on and ``s`` their greatest at each step::

        RCS_t = softmax_t(T a_t / sum_s |a_s|)
        ACS_t = softmax_t(-n a_t / sum_i |a_t(i)|)
        DF    = min(1, n softmax_i(-tau n s(i) / sum_j |s(j)|) at the last step)
        w_t   = DF RCS_t + (1 - DF) ACS_t, lifted to 1 / (10 T) at the least

    Options:
        warmup_steps: steps of equal weights, in which losses are gathered (100; about as many as validation batches).
        history: losses and slopes that are looked back on, 2 at the least (200; two to five times the warm-up).
        tau: above 0; more trusts the divergence factor sooner (5.0).

    State: each task's first and last validation losses and its slopes, and the greatest slopes.

    Cost: a forward pass of a validation batch of each task at every step.

    Differs: the divergence factor looks back ``history`` steps, where the paper's looks back on all; the lift to
    1 / (10 T) is that of the authors' code, which also takes another softmax of w that the paper does not have. Weights
    add up to 1 over all tasks of the run: over those of a step they would cancel where it has one.

    Paper: Gong et al., CoBa: Convergence Balancer for Multitask Finetuning of Large Language Models, 2024,
    arXiv:2410.06741.

    >>> balance = Coba(warmup_steps=2, history=4)
    >>> balance.begin(["fast", "slow"])
    >>> even = torch.tensor([0.5, 0.5])
    >>> for step in range(4):
    ...     losses = {"fast": 1.0 - 0.2 * step, "slow": 1.0 - 0.1 * step}
    ...     weights = balance.weigh(Statistics(("fast", "slow"), even, even, step, validation_losses=losses))
    >>> [round(weight, 4) for weight in weights.tolist()]
    [0.3392, 0.6608]
    """

    needs = "losses"
    validates = True
    weighs_all = True

    def __init__(
        self,
        *,
        warmup_steps: Annotated[int, Field(ge=1)] = 100,
        history: Annotated[int, Field(ge=2)] = 200,
        tau: Annotated[float, Field(gt=0)] = 5.0,
    ) -> None:
        self.warmup_steps = warmup_steps
        self.history = history
        self.tau = tau

    def begin(self, tasks: Sequence[str]) -> None:
        """Begin without validation losses."""
        super().begin(tasks)
        self.steps = 0
        self.first: dict[str, float] = {}
        self.losses: dict[str, list[float]] = {task: [] for task in tasks}
        self.slopes: dict[str, list[float]] = {task: [] for task in tasks}
        self.greatest: list[float] = []

    def weigh(self, seen: Statistics) -> Tensor:
        """Note the validation losses, and weigh by their slopes; see the class."""
        losses = {task: float(seen.validation_losses.get(task, math.nan)) for task in self.tasks}
        if not all(map(math.isfinite, losses.values())):
            return equal(seen, self.total)
        self.steps += 1
        for task, loss in losses.items():
            first = self.first.setdefault(task, loss) or 1.0
            self.losses[task] = [*self.losses[task], loss / first][-self.history :]
        if self.steps <= max(self.warmup_steps, 1):
            return equal(seen, self.total)
        weights = dict(zip(self.tasks, self._balance().tolist(), strict=True))
        scale = len(self.tasks) / len(seen.tasks)
        return torch.tensor([weights[task] * scale for task in seen.tasks], dtype=torch.float64)

    def _balance(self) -> Numbers:
        """Weigh all tasks by their slopes: [task]."""
        for task in self.tasks:
            self.slopes[task] = [*self.slopes[task], _slope(self.losses[task])][-self.history :]
        past = np.array([self.slopes[task] for task in self.tasks])
        now, count = past[:, -1], past.shape[1]
        self.greatest = [*self.greatest, float(now.max())][-self.history :]
        greatest = np.array(self.greatest)
        relative = _softmax(_over(len(now) * now, np.abs(now).sum()))
        absolute = _softmax(_over(-count * now, np.abs(past).sum(axis=1)))
        factor = min(1.0, count * float(_softmax(_over(-self.tau * count * greatest, np.abs(greatest).sum()))[-1]))
        weights: Numbers = factor * relative + (1 - factor) * absolute
        least = 1 / (10 * len(now))
        lifted: Numbers = weights * (1 - least * len(now)) + least
        return lifted if weights.min() < least else weights

    def state(self) -> dict[str, Any]:
        """Give what is looked back on, by task."""
        return {
            "steps": self.steps,
            "first": dict(self.first),
            "losses": {task: list(kept) for task, kept in self.losses.items()},
            "slopes": {task: list(kept) for task, kept in self.slopes.items()},
            "greatest": list(self.greatest),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take it back."""
        self.steps, self.first = state["steps"], dict(state["first"])
        self.losses = {task: list(kept) for task, kept in state["losses"].items()}
        self.slopes = {task: list(kept) for task, kept in state["slopes"].items()}
        self.greatest = list(state["greatest"])


def _slope(losses: Sequence[float]) -> float:
    """Give the slope of the line through losses one step apart."""
    steps = np.arange(len(losses)) - (len(losses) - 1) / 2
    return float(steps @ np.array(losses) / (steps @ steps))


def _over(numbers: Numbers, size: Any) -> Numbers:
    """Divide, where zero over zero is zero: slopes that are all flat say nothing."""
    divided: Numbers = numbers / np.where(size > 0, size, 1.0)
    return divided


def _softmax(logits: Numbers) -> Numbers:
    powers = np.exp(logits - logits.max())
    shares: Numbers = powers / powers.sum()
    return shares
