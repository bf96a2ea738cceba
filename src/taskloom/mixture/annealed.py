"""Draw by size at first, and nearly evenly at the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from taskloom.mixture import Mixture, shares


class Annealed(Mixture):
    """Draw by size to a power that moves over the run from one exponent to another.

    Prefer it where large tasks should lay the ground and small ones must not be forgotten at the end. Do not where the
    learning rate has decayed to nothing by then: the small tasks come when little is learned; take `temperature`.

    Formula: ``q_t ∝ n_t^a`` with n_t the training items of task t and ``a = start + (end - start) s / (S - 1)`` at step
    s = 0 ... S - 1 of the run; ``start = 1`` and ``end = 0.2`` make it ``a = 1 - 0.8 s / (S - 1)``.

    Options:
        start: exponent at the first step, from 0 (uniform) to 1 (1.0, proportional; the paper's).
        end: exponent at the last step, from 0 to 1 (0.2, the paper's).

    Differs: the exponent moves at every step, where the paper's moves at every epoch.

    Paper: Stickland and Murray, BERT and PALs: Projected Attention Layers for Efficient Adaptation in Multi-Task
    Learning, 2019, arXiv:1902.02671.

    >>> annealed = Annealed(start=1.0, end=0.0)
    >>> for step in (0, 1, 2):
    ...     print(annealed.probabilities({"a": 900, "b": 100}, step, steps=3))
    {'a': 0.9, 'b': 0.1}
    {'a': 0.75, 'b': 0.25}
    {'a': 0.5, 'b': 0.5}
    """

    pace = "step"

    def __init__(
        self, *, start: Annotated[float, Field(ge=0, le=1)] = 1.0, end: Annotated[float, Field(ge=0, le=1)] = 0.2
    ) -> None:
        self.start = start
        self.end = end

    def probabilities(self, sizes: Mapping[str, int], step: int = 0, steps: int = 1, rows: int = 1) -> dict[str, float]:
        """Give each task its share at a step; see the class."""
        done = min(step / (steps - 1), 1.0) if steps > 1 else 0.0
        exponent = self.start + (self.end - self.start) * done
        return shares({name: size**exponent for name, size in sizes.items()})
