"""The lookahead affinity of TAG."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from taskloom.affinity.estimators import Estimator
from taskloom.affinity.estimators._products import without_diagonal
from taskloom.affinity.matrix import Matrix
from taskloom.affinity.probes import Probe


class Lookahead(Estimator):
    """Share of a target's held-out loss that a real step on the source alone took away.

    Prefer it where the price does not matter: no first-order approximation is in it, and it costs each probe a forward
    pass of all tasks for each task (`transfer.lookahead: true`).

    Formula: ``effect_ij = mean_p 1 - L_j(θ - rate D g_i) / L_j(θ)`` over probes p.

    Shapes: [source, target].

    Differs: the step has Adam's geometry, and the loss is that of held-out rows.

    Paper: Fifty et al., Efficiently Identifying Task Groupings for Multi-Task Learning, 2021, arXiv:2109.04617.
    """

    def effect(self, probes: Sequence[Probe]) -> Matrix:
        """Predict; see `Estimator.effect`."""
        held = [probe.lookahead for probe in probes if probe.lookahead is not None]
        return without_diagonal(np.mean(np.stack(held), axis=0, dtype=np.float64))

    def reads(self, probes: Sequence[Probe]) -> bool:
        """Say whether every probe looked ahead."""
        return bool(probes) and all(probe.lookahead is not None for probe in probes)
