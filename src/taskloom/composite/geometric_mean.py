"""The weighted geometric mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from taskloom.composite import Composite, Numbers


class GeometricMean(Composite):
    """Weighted geometric mean of the tasks' scores.

    Prefer it where equal relative changes are worth the same, so that a task at 0.2 gains as much by 0.02 as one at 0.8
    by 0.08. Not where a task may be at nought for a while: the composite is then nought whatever the others do.

    Formula: ``exp(sum_t w_t log s_t / sum_t w_t)`` with importance w; 0 where a score is 0.

    Shapes: values [task, sample] to [sample].
    """

    def combine(self, values: Numbers, weights: Numbers, tasks: Sequence[str]) -> Numbers:
        """Combine; see `Composite.combine`."""
        with np.errstate(divide="ignore"):
            found: Numbers = np.exp((weights / weights.sum()) @ np.log(np.maximum(values, 0.0)))
        return found
