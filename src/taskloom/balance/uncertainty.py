"""Weigh by one over the loss, softened by a temperature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from taskloom.balance import Balance, Statistics
from taskloom.balance._present import equal, is_finite

TINY = 1e-8
"""Losses below this count as this."""


class Uncertainty(Balance):
    """Weigh each task by a softmax of one over its smoothed loss: the optimum of uncertainty weighting, softened.

    Prefer it where losses are on different scales, such as regression beside classification. Do not where a small loss
    is no sign of certainty: it favours easy tasks. `uw`, `imtl_l`, `geometric_mean` and the sum of the logarithms of
    the losses all end at weights proportional to one over the loss; this one begins there.

    Formula: ``w = softmax_t(1 / (temperature L_t))`` with L_t the running mean of the task's loss.

    Options:
        temperature: above 0; larger is nearer to equal weights. Tune it; one over the median loss is a scale (1.0).
        decay: share of the past in the running mean; 0.9, as the loss of one step is noisy.

    State: each task's running mean.

    Cost: none beyond the losses.

    Differs: the paper takes the loss of the step; losses below 1e-8 count as 1e-8.

    Paper: Kirchdorfer et al., Analytical Uncertainty-Based Loss Weighting in Multi-Task Learning, 2024,
    arXiv:2408.07985.

    >>> balance = Uncertainty(temperature=2.0)
    >>> balance.begin(["a", "b"])
    >>> even = torch.tensor([0.5, 0.5])
    >>> seen = Statistics(("a", "b"), losses=torch.tensor([0.5, 1.0]), preference=even)
    >>> [round(weight, 4) for weight in balance.weigh(seen).tolist()]
    [0.6225, 0.3775]
    """

    needs = "losses"

    def __init__(
        self,
        *,
        temperature: Annotated[float, Field(gt=0)] = 1.0,
        decay: Annotated[float, Field(ge=0, lt=1)] = 0.9,
    ) -> None:
        self.temperature = temperature
        self.decay = decay

    def begin(self, tasks: Sequence[str]) -> None:
        """Begin without running means: a task's first loss is its first mean."""
        super().begin(tasks)
        self.means: dict[str, float] = {}

    def weigh(self, seen: Statistics) -> Tensor:
        """Smooth the losses and weigh by them; see the class."""
        if not is_finite(seen.losses):
            return equal(seen, self.total)
        for task, loss in zip(seen.tasks, seen.losses.tolist(), strict=True):
            self.means[task] = self.decay * self.means.get(task, loss) + (1 - self.decay) * loss
        means = torch.tensor([self.means[task] for task in seen.tasks], dtype=torch.float64)
        return torch.softmax(1 / (self.temperature * means.clamp(min=TINY)), dim=0)

    def state(self) -> dict[str, Any]:
        """Give the running means by task."""
        return {"means": dict(self.means)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take the running means back."""
        self.means = dict(state["means"])
