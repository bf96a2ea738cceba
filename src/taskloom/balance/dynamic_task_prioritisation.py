"""Weigh tasks by how far their scores are from perfect."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import torch
from pydantic import Field

from taskloom.balance import Balance, Statistics
from taskloom.balance._present import equal

if TYPE_CHECKING:
    from torch import Tensor

LOW, HIGH = 0.01, 0.99
"""Scores outside count as these, so that no weight is endless or zero."""


class DynamicTaskPrioritisation(Balance):
    """Give more to tasks whose validation score is low: the focal loss, with a task's score for its probability.

    Prefer it where scores are shares of what can be had, such as accuracy or F1, and hard tasks should come first. Do
    not where a task cannot be learned: it takes the most; nor with scores outside 0 to 1, such as errors.

    Formula: ``w_t`` proportional to ``-(1 - k_t)^gamma log k_t`` with k_t the running mean of the task's scores over
    the evaluations, kept within 0.01 and 0.99; they add up to 1 over all tasks. Equal before the first evaluation.

    Options:
        gamma: from 0; more gives less to easy tasks (1.0).
        decay: share of the past evaluations in the running mean (0.5, as a run has few).

    State: each task's running mean, and the scores last seen.

    Cost: none beyond the evaluations of the run.

    Differs: the weights are divided by their sum; scores are those of the validation split at each evaluation, where
    the paper takes those of training batches.

    Paper: Guo et al., Dynamic Task Prioritization for Multitask Learning, ECCV 2018.

    >>> balance = DynamicTaskPrioritisation()
    >>> balance.begin(["a", "b"])
    >>> even = torch.tensor([0.5, 0.5])
    >>> seen = Statistics(("a", "b"), losses=even, preference=even, scores={"a": 0.5, "b": 0.9})
    >>> [round(weight, 4) for weight in balance.weigh(seen).tolist()]
    [0.9705, 0.0295]
    """

    needs = "losses"
    weighs_all = True

    def __init__(
        self, *, gamma: Annotated[float, Field(ge=0)] = 1.0, decay: Annotated[float, Field(ge=0, lt=1)] = 0.5
    ) -> None:
        self.gamma = gamma
        self.decay = decay

    def begin(self, tasks: Sequence[str]) -> None:
        """Begin without scores."""
        super().begin(tasks)
        self.means: dict[str, float] = {}
        self.last: dict[str, float] = {}

    def weigh(self, seen: Statistics) -> Tensor:
        """Note new scores, and weigh by their running means; see the class."""
        scores = {
            task: float(seen.scores[task]) for task in self.tasks if math.isfinite(seen.scores.get(task, math.nan))
        }
        if scores != self.last:
            self.last = scores
            for task, score in scores.items():
                self.means[task] = self.decay * self.means.get(task, score) + (1 - self.decay) * score
        if set(self.means) != set(self.tasks):
            return equal(seen, self.total)
        known = torch.tensor([self.means[task] for task in self.tasks], dtype=torch.float64).clamp(LOW, HIGH)
        priorities = -((1 - known) ** self.gamma) * known.log()
        weights = dict(zip(self.tasks, (priorities / priorities.sum()).tolist(), strict=True))
        scale = len(self.tasks) / len(seen.tasks)
        return torch.tensor([weights[task] * scale for task in seen.tasks], dtype=torch.float64)

    def state(self) -> dict[str, Any]:
        """Give the running means and the last scores by task."""
        return {"means": dict(self.means), "last": dict(self.last)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take both back."""
        self.means, self.last = dict(state["means"]), dict(state["last"])
