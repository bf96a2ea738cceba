"""Weigh by numbers that the user gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field

from taskloom.balance import Balance, Statistics
from taskloom.balance._present import check_tasks
from taskloom.errors import ConfigError, Fault

if TYPE_CHECKING:
    from torch import Tensor


class Static(Balance):
    """Weigh each task by a number of your own; the numbers are divided by their sum.

    Prefer it where you have tried weights and know them. Do not as a first try: T weights take many runs to tune.

    Formula: ``w_t = weights_t / sum_s weights_s`` over all tasks of the run.

    Options:
        weights: task -> a number from 0; every task of the run has one, and one of them is above 0.

    Cost: none.

    Errors: `ConfigError` where a task has no number, a number no task, or all are 0.

    Differs: no difference.

    Paper: Xin et al., Do Current Multi-Task Optimization Methods in Deep Learning Even Help?, 2022, arXiv:2209.11379.

    >>> balance = Static(weights={"a": 3, "b": 1})
    >>> balance.begin(["a", "b"])
    >>> even = torch.tensor([0.5, 0.5])
    >>> balance.weigh(Statistics(("a", "b"), losses=even, preference=even)).tolist()
    [0.75, 0.25]
    """

    needs = "nothing"
    minimum_tasks = 1
    weighs_all = True

    def __init__(self, *, weights: dict[str, Annotated[float, Field(ge=0)]]) -> None:
        self.weights = weights

    def begin(self, tasks: Sequence[str]) -> None:
        """Learn the tasks; each has to have a number."""
        super().begin(tasks)
        check_tasks("weights", self.weights, tasks, complete=True)
        if not sum(self.weights.values()) > 0:
            raise ConfigError(Fault("balance.weights", "have a number above 0", "none", "Give one task more than 0"))

    def weigh(self, seen: Statistics) -> Tensor:
        """Give each task its number; see the class."""
        scale = len(self.tasks) / len(seen.tasks) / sum(self.weights.values())
        return torch.tensor([self.weights[task] * scale for task in seen.tasks], dtype=torch.float64)
