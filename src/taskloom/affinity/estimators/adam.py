"""First-order effect of an Adam step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from taskloom.affinity.estimators import Estimator
from taskloom.affinity.estimators._products import crossed, held_out_losses, without_diagonal
from taskloom.affinity.matrix import Matrix
from taskloom.affinity.probes import Probe


class Adam(Estimator):
    """Share of a target's held-out loss that an Adam step on the source takes away, to first order.

    Prefer it where tasks are trained together by Adam: it counts a parameter as the optimizer does. Not where the
    source matters by its noise or its scale more than by its direction: see `pair_progress`.

    Formula: ``effect_ij = mean_p rate_p g_i · D h_j / L_j`` over probes p, with g_i the mean gradient on training rows
    of i, h_j that on held-out rows of j, L_j their mean loss and ``D = 1 / (sqrt(v) + eps)`` of Adam's second moments.

    Shapes: [source, target].

    Paper: Fifty et al., Efficiently Identifying Task Groupings for Multi-Task Learning, 2021, arXiv:2109.04617, has the
    first-order form; Xia et al., LESS: Selecting Influential Data for Targeted Instruction Tuning, 2024,
    arXiv:2402.04333, has Adam's geometry.
    """

    def effect(self, probes: Sequence[Probe]) -> Matrix:
        """Predict; see `Estimator.effect`."""
        rates = np.array([probe.rate for probe in probes])[:, None, None]
        effects = rates * crossed(probes, "scaled") / held_out_losses(probes)[:, None, :]
        return without_diagonal(effects.mean(axis=0))
