"""Bring the gradients of the logarithms of the losses to one length."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskloom.balance import Balance, Statistics
from taskloom.balance._present import weigh_live

if TYPE_CHECKING:
    from torch import Tensor

TINY = 1e-8
"""Losses below this count as this."""


class DbMtl(Balance):
    """Take the gradients of the logarithms of the losses, and bring all to the length of the longest.

    Prefer it where tasks should pull alike whatever their losses and gradients measure. Do not where a task is done:
    its last noise is brought to full length too.

    Formula: ``w_t = (max_s |h_s|) / |h_t| / L_t`` with ``h_t = g_t / L_t`` the gradient of ``log L_t``; that is
    ``max_s(|g_s| / L_s) / |g_t|``, a sum of unit gradients whose common length follows the losses.

    Shapes: reads the diagonal of the Gramian [task, task].

    Cost: the gradients' lengths.

    Differs: no running mean of the gradients, which would take [task, param] of memory; without it the losses decide
    on the length of the step alone, not on its direction. Losses below 1e-8 count as 1e-8.

    Paper: Lin et al., Dual-Balancing for Multi-Task Learning, 2023, arXiv:2308.12029.

    >>> import torch
    >>> even = torch.tensor([0.5, 0.5])
    >>> gramian = torch.diag(torch.tensor([4.0, 1.0]))
    >>> seen = Statistics(("a", "b"), losses=torch.tensor([4.0, 1.0]), preference=even, gramian=gramian)
    >>> DbMtl().weigh(seen).tolist()
    [0.5, 1.0]
    """

    total = "sum"

    def weigh(self, seen: Statistics) -> Tensor:
        """Divide by the gradients' lengths; see the class."""
        return weigh_live(seen, self.total, _balance)


def _balance(seen: Statistics) -> Tensor:
    assert seen.gramian is not None
    lengths = seen.gramian.diagonal().sqrt()
    return (lengths / seen.losses.clamp(min=TINY)).max() / lengths
