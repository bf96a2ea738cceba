"""The worst task."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from taskloom.composite import Composite, Numbers


class WorstTask(Composite):
    """Score of the task that is done worst.

    Prefer it where no task may be left behind, and scores mean about the same on all of them. Not beside a task that is
    hard by nature: it then is that task's score, and says nothing of the others; see `normalised_regret`.

    Formula: ``min_t s_t`` over tasks of importance above 0.

    Shapes: values [task, sample] to [sample].
    """

    def combine(self, values: Numbers, weights: Numbers, tasks: Sequence[str]) -> Numbers:
        """Combine; see `Composite.combine`."""
        found: Numbers = np.where(np.isnan(values).any(axis=0), np.nan, values.min(axis=0))
        return found
