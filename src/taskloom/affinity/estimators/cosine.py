"""Cosine of gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from taskloom.affinity.estimators import Estimator
from taskloom.affinity.estimators._products import crossed, sides, without_diagonal
from taskloom.affinity.matrix import Matrix
from taskloom.affinity.probes import Probe


class Cosine(Estimator):
    """Mean cosine of the source's training gradient and the target's held-out gradient.

    Prefer it as the measure that papers report. Not for plans: it knows neither the optimizer's geometry nor how large
    an effect is.

    Formula: ``effect_ij = mean_p g_i · h_j / (|g_i| |h_j|)`` over probes p.

    Shapes: [source, target].

    Paper: Du et al., Adapting Auxiliary Losses Using Gradient Similarity, 2018, arXiv:1812.02224.
    """

    unit: ClassVar[str] = "cosine"

    def effect(self, probes: Sequence[Probe]) -> Matrix:
        """Predict; see `Estimator.effect`."""
        train, held_out = (np.linalg.norm(side, axis=2) for side in sides(probes, "plain"))
        norms = np.maximum(train[:, :, None] * held_out[:, None, :], 1e-30)
        return without_diagonal((crossed(probes, "plain") / norms).mean(axis=0))
