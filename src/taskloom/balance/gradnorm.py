"""Learn weights that bring each task's gradient to a length that follows how fast it learns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from taskloom.balance import Balance, Statistics
from taskloom.balance._learned import Learned
from taskloom.balance._present import weigh_live

TINY = 1e-8
"""Losses below this count as this."""

LEAST = 1e-3
"""No weight falls below this."""


class Gradnorm(Balance):
    """Learn weights that bring the tasks' weighted gradients to one length, longer for tasks that learn more slowly.

    Prefer it where gradients differ in length and tasks in speed. Do not in short runs: the weights move slowly.

    Formula: ``w`` by Adam on ``sum_t | w_t |g_t| - m r_t^alpha |`` with the second part held fixed, ``m`` the mean of
    ``w_s |g_s|``, ``r_t = (L_t / L_t0) / mean_s(L_s / L_s0)`` and ``L_t0`` the task's first loss; then scaled so that
    the sum stays T. The derivative is ``|g_t|`` times the sign of what stands between the bars.

    Shapes: reads the diagonal of the Gramian [task, task].

    Options:
        alpha: from 0; more gives more to slow tasks; 1.5 is the paper's for tasks that differ much.
        learning_rate: of the Adam that learns the weights (0.025, as in the paper).

    State: each task's weight, Adam's moments of it, and its first loss.

    Cost: the gradients' lengths.

    Differs: the gradients of all shared parameters, where the paper takes the last shared layer's; gradients are
    divided by their mean length before Adam, which hardly changes its step; a weight is 1e-3 at the least.

    Paper: Chen et al., GradNorm: Gradient Normalization for Adaptive Loss Balancing in Deep Multitask Networks, 2017,
    arXiv:1711.02257.

    >>> balance = Gradnorm()
    >>> balance.begin(["a", "b"])
    >>> even, gramian = torch.tensor([0.5, 0.5]), torch.diag(torch.tensor([4.0, 1.0]))
    >>> seen = Statistics(("a", "b"), losses=torch.tensor([1.0, 1.0]), preference=even, gramian=gramian)
    >>> [[round(weight, 3) for weight in balance.weigh(seen).tolist()] for step in range(2)]
    [[1.0, 1.0], [0.975, 1.025]]
    """

    total = "sum"

    def __init__(
        self, *, alpha: Annotated[float, Field(ge=0)] = 1.5, learning_rate: Annotated[float, Field(gt=0)] = 0.025
    ) -> None:
        self.alpha = alpha
        self.learning_rate = learning_rate

    def begin(self, tasks: Sequence[str]) -> None:
        """Begin with weights of one."""
        super().begin(tasks)
        self.learned = Learned(tasks, 1.0, lr=self.learning_rate)
        self.first: dict[str, float] = {}

    def weigh(self, seen: Statistics) -> Tensor:
        """Give the weights, then learn from the step; see the class."""
        return weigh_live(seen, self.total, self._balance)

    def _balance(self, seen: Statistics) -> Tensor:
        assert seen.gramian is not None
        weights = self.learned.present(seen.tasks)
        lengths = seen.gramian.diagonal().sqrt()
        lengths = lengths / lengths.mean()
        losses = seen.losses.to(torch.float64).clamp(min=TINY)
        for task, loss in zip(seen.tasks, losses.tolist(), strict=True):
            self.first.setdefault(task, loss)
        progress = losses / torch.tensor([self.first[task] for task in seen.tasks], dtype=torch.float64)
        wanted = (weights * lengths).mean() * (progress / progress.mean()) ** self.alpha
        self.learned.learn(seen.tasks, lengths * torch.sign(weights * lengths - wanted))
        moved = self.learned.present(seen.tasks).clamp(min=LEAST)
        # Present tasks keep the sum that they had, so that the sum over all tasks stays T.
        self.learned.put(seen.tasks, moved * (weights.sum() / moved.sum()))
        return weights

    def state(self) -> dict[str, Any]:
        """Give the weights by task with Adam's moments, and the first losses."""
        return {"learned": self.learned.state(), "first": dict(self.first)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take them back."""
        self.learned.restore(state["learned"])
        self.first = dict(state["first"])
