"""Which items each step draws: quotas that follow each task's share, rows by seeded permutation.

Everything is a pure function of seed and step, so a run that is resumed draws what a run never killed would draw.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

ROUNDING = 1e-6
"""What sums of floating-point shares may be off by, in rows."""


class Draws:
    """The plan of a run: for every step, how many items of each task, and which.

    Quotas are stratified: a step of B rows holds ``q_t B`` rows of task t, rounded so that after s steps each task has
    had ``q_t B s`` rows give or take less than one; see `quotas`.

    Args:
        sizes: task -> number of its items.
        probabilities: task -> share q of the drawn rows; they add up to 1.
        rows: B, the items of one micro-batch.
        steps: micro-batches of the whole run.
        seed: of the permutations.
    """

    def __init__(
        self, sizes: Mapping[str, int], probabilities: Mapping[str, float], *, rows: int, steps: int, seed: int
    ) -> None:
        self.tasks = list(sizes)
        self.sizes = dict(sizes)
        self.rows = rows
        self.seed = seed
        self.expected = {name: probabilities[name] * rows for name in self.tasks}
        self.quotas = quotas(np.array([self.expected[name] for name in self.tasks]), rows, steps)
        self._before = np.vstack([np.zeros(len(self.tasks), dtype=np.int64), self.quotas.cumsum(axis=0)])
        self._orders: dict[tuple[str, int], NDArray[np.int64]] = {}

    def __len__(self) -> int:
        """Give the number of micro-batches."""
        return len(self.quotas)

    def step(self, index: int) -> dict[str, list[int]]:
        """Give the items of one micro-batch: task -> indices into its items, tasks without a row left out."""
        drawn = {}
        for place, name in enumerate(self.tasks):
            first, count = int(self._before[index, place]), int(self.quotas[index, place])
            if count:
                drawn[name] = [self._item(name, draw) for draw in range(first, first + count)]
        return drawn

    def totals(self) -> dict[str, int]:
        """Give how many rows of each task the whole run draws."""
        return {name: int(self._before[-1, place]) for place, name in enumerate(self.tasks)}

    def _item(self, name: str, draw: int) -> int:
        epoch, place = divmod(draw, self.sizes[name])
        key = (name, epoch)
        if key not in self._orders:
            for old in [k for k in self._orders if k[0] == name and k[1] < epoch - 1]:
                del self._orders[old]
            seed = [self.seed, zlib.crc32(name.encode()), epoch]
            self._orders[key] = np.random.default_rng(seed).permutation(self.sizes[name])
        return int(self._orders[key][place])


def quotas(expected: NDArray[np.float64], rows: int, steps: int) -> NDArray[np.int64]:
    """Round expected rows per step to whole rows, so that no task is ever a whole row ahead of its share or behind it.

    A task's next row may be given in a step where its share has begun to reach into that row, and must be given where
    its share fills it. Rows that must be given come first; the others follow by how soon they will have to be. Given
    in that order no row is ever late (earliest deadline first, which is optimal for unit jobs: Horn, Some simple
    scheduling algorithms, 1974).

    Args:
        expected: [task] rows that each task should have in a step; they add up to `rows`.
        rows: of one step.
        steps: how many.

    Returns:
        [step, task] whole rows, none negative; each step adds up to `rows`.
    """
    held = np.zeros(len(expected), dtype=np.int64)
    result = np.empty((steps, len(expected)), dtype=np.int64)
    for step in range(steps):
        share = expected * (step + 1)
        given = np.maximum(np.floor(share + ROUNDING).astype(np.int64) - held, 0)
        rest = rows - int(given.sum())
        if rest:
            open_ = np.flatnonzero(np.ceil(share - ROUNDING).astype(np.int64) > held + given)
            due = np.ceil((held + given + 1)[open_] / expected[open_] - ROUNDING)
            behind = (share - held - given)[open_]
            given[open_[np.lexsort((-behind, due))[:rest]]] += 1
        held += given
        result[step] = given
    return result
