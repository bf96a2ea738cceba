"""Give every task the same weight."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskloom.balance import Balance, Statistics
from taskloom.balance._present import equal

if TYPE_CHECKING:
    from torch import Tensor


class Equal(Balance):
    """Weigh all tasks alike; what the user prefers is said by each task's `weight`.

    Prefer it first: tuned weights and a tuned learning rate are hard to beat. Do not where a task falls behind however
    its weight is set.

    Formula: ``w_t = 1 / T``.

    Cost: none.

    Differs: no difference.

    Paper: Kurin et al., In Defense of the Unitary Scalarization for Deep Multi-Task Learning, 2022, arXiv:2201.04122.

    >>> import torch
    >>> half = torch.tensor([0.5, 0.5])
    >>> Equal().weigh(Statistics(("a", "b"), losses=torch.tensor([9.0, 1.0]), preference=half)).tolist()
    [0.5, 0.5]
    """

    needs = "nothing"
    minimum_tasks = 1

    def weigh(self, seen: Statistics) -> Tensor:
        """Give each task the same weight; see the class."""
        return equal(seen, self.total)
