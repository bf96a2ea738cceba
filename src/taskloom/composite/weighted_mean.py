"""The weighted mean."""

from __future__ import annotations

from collections.abc import Sequence

from taskloom.composite import Composite, Numbers


class WeightedMean(Composite):
    """Weighted mean of the tasks' scores.

    Prefer it where points are worth the same on every task. Not where no task may be made up for by others.

    Formula: ``sum_t w_t s_t / sum_t w_t`` with importance w.

    Shapes: values [task, sample] to [sample].
    """

    def combine(self, values: Numbers, weights: Numbers, tasks: Sequence[str]) -> Numbers:
        """Combine; see `Composite.combine`."""
        found: Numbers = (weights / weights.sum()) @ values
        return found
