"""Share the gain of a step among the tasks as bargaining players would."""

from __future__ import annotations

import torch
from torch import Tensor

from taskloom.balance import Balance, Statistics
from taskloom.balance._present import weigh_live

RIDGE = 1e-10
"""Added to the unit diagonal, so that opposite gradients have a solution; weights of unit gradients stay below 1e5."""

LIMIT_ITERATIONS = 200


class NashMtl(Balance):
    """Take the step on which the product of the tasks' gains is largest: nobody's share can grow without more loss.

    Prefer it where tasks should gain whatever their losses measure: no task's scale counts. Do not where one task's
    gradient is mostly noise: it is brought up to the others' length.

    Formula: ``w`` proportional to the ``a > 0`` with ``G a = 1 / a``, the minimum of ``a^T G a / 2 - sum_t log a_t``;
    the w add up to 1. With unit gradients, ``a = b / |g|``, it is the same problem for their Gramian.

    Shapes: reads the Gramian [task, task].

    Cost: the Gramian, and some Newton steps of a [task, task] problem on the processor.

    Differs: the exact minimum by damped Newton steps, where the paper takes 20 steps of a convex-concave procedure
    and uses weights again for some steps; the weights add up to 1, where the paper cuts the step to a length. With
    two tasks it is `imtl_g`, and along `config` and `fairgrad` with alpha 1.

    Paper: Navon et al., Multi-Task Learning as a Bargaining Game, 2022, arXiv:2202.01017.

    >>> even, gramian = torch.tensor([0.5, 0.5]), torch.tensor([[9.0, 1.0], [1.0, 1.0]])
    >>> seen = Statistics(("a", "b"), losses=even, preference=even, gramian=gramian)
    >>> [round(weight, 4) for weight in NashMtl().weigh(seen).tolist()]
    [0.25, 0.75]
    """

    conflict_free = True

    def weigh(self, seen: Statistics) -> Tensor:
        """Solve for the bargain; see the class."""
        return weigh_live(seen, self.total, _bargain)


def _bargain(seen: Statistics) -> Tensor:
    assert seen.gramian is not None
    lengths = seen.gramian.diagonal().sqrt()
    lengths = lengths / lengths.max()
    shares = solve(seen.gramian / seen.gramian.diagonal().max() / lengths[:, None] / lengths) / lengths
    return shares / shares.sum()


def solve(gramian: Tensor) -> Tensor:
    """Find ``b > 0`` with ``G b = 1 / b`` for a Gramian whose diagonal is one: [task]."""
    count = len(gramian)
    gramian = gramian + RIDGE * torch.eye(count, dtype=gramian.dtype)
    # The best of the vectors with equal entries; of opposite gradients it is the solution.
    found = (count / gramian.sum().clamp(min=RIDGE)).sqrt() * torch.ones(count, dtype=gramian.dtype)
    for _ in range(LIMIT_ITERATIONS):
        slope = gramian @ found - 1 / found
        step = torch.linalg.solve(gramian + torch.diag(found**-2), slope)
        decrement = (slope @ step).clamp(min=0.0).sqrt()
        # The problem is self-concordant: this damping keeps every entry above zero, and full steps end it.
        found = found - step / (1 + decrement if decrement > 0.25 else 1)
        if decrement < 1e-12:
            break
    return found
