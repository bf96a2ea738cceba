"""How far tasks stay behind what is known to be possible."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from taskloom.composite import Composite, Numbers

LEAST_SPAN = 1e-3


class NormalisedRegret(Composite):
    """One less the weighted mean of how far each task stays between its floor and its best.

    Prefer it where tasks differ in how hard they are, and single-task scores are known: name those as `best`. Not
    without them: with a best of 1 and a floor of 0 for all tasks it is `weighted_mean`.

    Formula: ``1 - sum_t w_t (b_t - s_t) / (b_t - f_t) / sum_t w_t`` with best b, floor f and importance w; above 1
    where tasks do better than their best.

    Shapes: values [task, sample] to [sample].

    Options:
        best: task -> normalised score that is known to be possible; 1 by default.
        floor: task -> normalised score that takes no training, such as a constant answer's; 0 by default.

    Errors: ConfigError for names that are no tasks of the run.
    """

    def __init__(self, *, best: dict[str, float] | None = None, floor: dict[str, float] | None = None) -> None:
        self.best = best or {}
        self.floor = floor or {}

    def combine(self, values: Numbers, weights: Numbers, tasks: Sequence[str]) -> Numbers:
        """Combine; see `Composite.combine`."""
        best = np.array([self.best.get(name, 1.0) for name in tasks])[:, None]
        floor = np.array([self.floor.get(name, 0.0) for name in tasks])[:, None]
        regret = (best - values) / np.maximum(best - floor, LEAST_SPAN)
        found: Numbers = 1.0 - (weights / weights.sum()) @ regret
        return found
