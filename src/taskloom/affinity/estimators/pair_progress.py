"""How much faster or slower a target learns beside a source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from taskloom.affinity.estimators import Estimator
from taskloom.affinity.estimators._products import sides, without_diagonal
from taskloom.affinity.matrix import Matrix
from taskloom.affinity.probes import Probe


class PairProgress(Estimator):
    """A target's progress in a step of a pair against its progress in a step of its own, to first order.

    Prefer it where tasks' gradients differ in length or in noise: a loud source drowns a quiet target though the two
    do not conflict. Not where all that counts is direction.

    Formula: ``effect_ij = a_j(i, j) / a_j(j) - 1`` with ``a_j(S) = h̄_j · D s / sqrt(mean_p s_p · D s_p)`` and
    ``s = sum_{t in S} g_t``: Adam brings every step to about one length, so what a step does for j is the part of it
    that points along j's held-out gradient. The means of g and h are over probes; lengths are those of single probes.

    Shapes: [source, target].

    Differs: the papers' lookahead takes a step on the source alone; here the pair is stepped as a pair is trained.

    Paper: Fifty et al., Efficiently Identifying Task Groupings for Multi-Task Learning, 2021, arXiv:2109.04617.
    """

    unit: ClassVar[str] = "relative progress"

    def effect(self, probes: Sequence[Probe]) -> Matrix:
        """Predict; see `Estimator.effect`."""
        train, held_out = sides(probes, "scaled")
        mean, target = train.mean(axis=0), held_out.mean(axis=0)
        along = mean @ target.T  # [source, target]
        gramian = np.einsum("psk,ptk->st", train, train) / len(probes)
        squares = np.diagonal(gramian)
        pair = squares[:, None] + squares[None, :] + 2 * gramian
        own = np.diagonal(along)
        together = (along + own[None, :]) / np.sqrt(np.maximum(pair, 1e-30))
        alone = own / np.sqrt(np.maximum(squares, 1e-30))
        # A target that makes no progress by itself gives no measure: a floor keeps its ratio from exploding.
        floor = np.maximum(0.05 * np.linalg.norm(target, axis=1), 1e-30)
        return without_diagonal((together - alone[None, :]) / np.maximum(np.abs(alone), floor)[None, :])
