"""Move weight to the tasks with the largest losses, step by step."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from taskloom.balance import Statistics
from taskloom.balance._present import Sharing, equal, is_finite


class GroupDro(Sharing):
    """Multiply each task's share by the exponential of its loss, and divide by the sum: the worst task comes to lead.

    Prefer it where the worst task decides and losses are on one scale. Do not where a task cannot be learned: it comes
    to take all; nor without weight decay or early stopping, as the paper shows.

    Formula: ``w_t <- w_t exp(step_size L_t) / sum_s w_s exp(step_size L_s)``, from 1/T.

    Options:
        step_size: above 0; 0.01 is the paper's.

    State: each task's share; what the present tasks of a step have together stays with them.

    Cost: none beyond the losses.

    Differs: tasks stand for the paper's groups of one task's rows.

    Paper: Sagawa et al., Distributionally Robust Neural Networks for Group Shifts: On the Importance of Regularization
    for Worst-Case Generalization, 2019, arXiv:1911.08731.

    >>> balance = GroupDro(step_size=1.0)
    >>> balance.begin(["a", "b"])
    >>> even = torch.tensor([0.5, 0.5])
    >>> seen = Statistics(("a", "b"), losses=torch.tensor([2.0, 1.0]), preference=even)
    >>> [round(weight, 4) for weight in balance.weigh(seen).tolist()]
    [0.7311, 0.2689]
    """

    needs = "losses"

    def __init__(self, *, step_size: Annotated[float, Field(gt=0)] = 0.01) -> None:
        self.step_size = step_size

    def weigh(self, seen: Statistics) -> Tensor:
        """Move the shares, and give them; see the class."""
        if not is_finite(seen.losses):
            return equal(seen, self.total)
        logits = self.shares.present(seen.tasks).log() + self.step_size * seen.losses.to("cpu", torch.float64)
        weights = torch.softmax(logits, dim=0)
        self.shares.move(seen.tasks, weights)
        return weights
