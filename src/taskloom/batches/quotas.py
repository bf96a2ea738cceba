"""From shares to whole rows, so that no task is ever a whole row ahead of its share or behind it."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray

ROUNDING = 1e-6
"""What sums of floating-point shares may be off by, in rows."""


class Quotas:
    """Rounds the rows that tasks should have in each micro-batch to whole rows, one micro-batch after the other.

    A task's next row may be given in a step where its share has begun to reach into that row, and must be given where
    its share fills it. Rows that must be given come first; the others follow by how soon they will have to be. While
    shares stay as they are, no row given in that order is ever late (earliest deadline first, which is optimal for unit
    jobs: Horn, Some simple scheduling algorithms, 1974); where they change, what a task had too much or too little is
    less than a row and is made up for.

    Args:
        tasks: how many.

    Attributes:
        held: [task] rows given so far.
        share: [task] rows that the shares so far amount to.
    """

    def __init__(self, tasks: int) -> None:
        self.held = np.zeros(tasks, dtype=np.int64)
        self.share = np.zeros(tasks)

    def copy(self) -> Self:
        """Give another that goes on from here by itself."""
        other = type(self)(len(self.held))
        other.held, other.share = self.held.copy(), self.share.copy()
        return other

    def next(self, expected: NDArray[np.float64], left: NDArray[np.float64] | None = None) -> NDArray[np.int64]:
        """Give the rows of the next micro-batch.

        Args:
            expected: [task] rows that each task should have in it.
            left: [task] rows that each task may have at most; None for any number.

        Returns:
            [task] whole rows, none negative; with those before, they add up to the shares so far, rounded, where the
            limits allow it.
        """
        self.share = self.share + expected
        rows = max(0, round(float(self.share.sum())) - int(self.held.sum()))
        limit = np.where(expected > 0, np.inf if left is None else np.maximum(left, 0), 0)
        due = np.maximum(np.floor(self.share + ROUNDING).astype(np.int64) - self.held, 0)
        given: NDArray[np.int64] = np.minimum(due, limit).astype(np.int64)
        while given.sum() > rows:  # after shares have changed, more may be due than a micro-batch holds
            given[np.argmax(np.where(given > 0, self.held + given - self.share, -np.inf))] -= 1
        while (rest := rows - int(given.sum())) > 0:
            reached = np.ceil(self.share - ROUNDING).astype(np.int64) > self.held + given
            free = given < limit
            open_ = np.flatnonzero(reached & free if (reached & free).any() else free)
            if not len(open_):
                break
            wait = self.held[open_] + given[open_] + 1 - self.share[open_]
            steps = np.ceil(wait / expected[open_] - ROUNDING)
            behind = (self.share - self.held - given)[open_]
            given[open_[np.lexsort((-behind, steps))[:rest]]] += 1
        self.held = self.held + given
        return given


def quotas(expected: NDArray[np.float64], rows: int, steps: int) -> NDArray[np.int64]:
    """Round rows per micro-batch that stay as they are.

    Args:
        expected: [task] rows that each task should have in each; they add up to `rows`.
        rows: of one micro-batch.
        steps: how many micro-batches.

    Returns:
        [step, task] whole rows; each step adds up to `rows`.
    """
    made = Quotas(len(expected))
    return np.array([made.next(expected) for _ in range(steps)]).reshape(steps, len(expected))
