"""Move weight to the tasks with large and steady gradients."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from taskloom.balance import Statistics
from taskloom.balance._present import Sharing, equal, is_finite

LIMIT = 1.0
"""By how much one step may move the logarithm of a share, however noisy it is."""


class Pike(Sharing):
    """Multiply each task's share by the exponential of its squared gradient, less the variance of that gradient.

    Prefer it where gradients hardly conflict, as between languages or domains of one kind of task, and the sum of the
    losses should fall fast. Do not where tasks with small gradients must not wait.

    Formula: ``w_t <- w_t exp(zeta_1 |g_t|^2 - (zeta_2 / 2) v_t)``, divided by the sum, from 1/T. ``|g_t|^2`` is
    estimated by ``a_t . b_t``, the gradients of the two halves of the task's rows, and the variance of the step's
    gradient by ``v_t = |(a_t + b_t) / 2|^2 - a_t . b_t``; both are divided by the mean of ``|(a_s + b_s) / 2|^2``.

    Options:
        zeta_1: from 0, on the squared gradient (0.01, so that some hundred steps make a difference).
        zeta_2: from 0, on its variance (0.01).

    State: each task's share; what the present tasks of a step have together stays with them.

    Cost: the Gramian between the halves of the step's rows.

    Differs: the shares weigh the gradients, where the paper draws rows by them, which is the same on average; v_t is
    the variance in the step in place of the paper's ``sigma_t^2 / b``; the division by the mean square makes the
    zetas independent of the gradients' scale; the shares move at every step, and their logarithms by 1 at the most.

    Paper: Li et al., PiKE: Adaptive Data Mixing for Large-Scale Multi-Task Learning Under Low Gradient Conflicts, 2025,
    arXiv:2502.06244.

    >>> balance = Pike(zeta_1=1.0, zeta_2=1.0)
    >>> balance.begin(["a", "b"])
    >>> even = torch.tensor([0.5, 0.5], dtype=torch.float64)
    >>> full, halves = torch.diag(torch.tensor([1.0, 1.0])).double(), torch.diag(torch.tensor([1.0, 0.0])).double()
    >>> seen = Statistics(("a", "b"), losses=even, preference=even, gramian=full, cross_gramian=halves)
    >>> [round(weight, 4) for weight in balance.weigh(seen).tolist()]
    [0.8176, 0.1824]
    """

    needs = "cross_gramian"

    def __init__(
        self, *, zeta_1: Annotated[float, Field(ge=0)] = 0.01, zeta_2: Annotated[float, Field(ge=0)] = 0.01
    ) -> None:
        self.zeta_1 = zeta_1
        self.zeta_2 = zeta_2

    def weigh(self, seen: Statistics) -> Tensor:
        """Move the shares, and give them; see the class."""
        assert seen.gramian is not None
        assert seen.cross_gramian is not None
        whole = seen.gramian.diagonal().to("cpu", torch.float64)
        squares = seen.cross_gramian.diagonal().to("cpu", torch.float64)
        if not is_finite(whole, squares, seen.losses):
            return equal(seen, self.total)
        size = whole.mean() if whole.mean() > 0 else torch.ones((), dtype=torch.float64)
        gain = (self.zeta_1 * squares - self.zeta_2 / 2 * (whole - squares)) / size
        weights = torch.softmax(self.shares.present(seen.tasks).log() + gain.clamp(-LIMIT, LIMIT), dim=0)
        self.shares.move(seen.tasks, weights)
        return weights
