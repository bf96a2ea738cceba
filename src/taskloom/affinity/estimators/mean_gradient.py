"""First-order effect of mean gradients over the whole run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from taskloom.affinity.estimators import Estimator
from taskloom.affinity.estimators._products import sides, without_diagonal
from taskloom.affinity.matrix import Matrix
from taskloom.affinity.probes import Probe


class MeanGradient(Estimator):
    """Cosine, in Adam's geometry, of gradients that were averaged over all probes before they were compared.

    Prefer it where probes are few and their rows too: a probe's gradient is mostly noise, and the mean of n probes has
    n² pairs to average over where `adam` has n. Not where a task's direction turns during training.

    Formula: ``effect_ij = ḡ_i · D h̄_j / sqrt(ḡ_i · D ḡ_i  h̄_j · D h̄_j)`` with ḡ and h̄ means over probes of unit-length
    gradients, so that no probe counts for more than another.

    Shapes: [source, target].

    Differs: from the measures of the papers that compare step by step.

    Paper: Fifty et al., Efficiently Identifying Task Groupings for Multi-Task Learning, 2021, arXiv:2109.04617.
    """

    unit: ClassVar[str] = "cosine"

    def effect(self, probes: Sequence[Probe]) -> Matrix:
        """Predict; see `Estimator.effect`."""
        means = [_mean_of_units(side) for side in sides(probes, "scaled")]
        norms = [np.maximum(np.linalg.norm(mean, axis=1), 1e-30) for mean in means]
        return without_diagonal(means[0] @ means[1].T / np.outer(*norms))


def _mean_of_units(gradients: Matrix) -> Matrix:
    """Average over probes what is brought to length 1 first: [probe, task, k] to [task, k]."""
    lengths = np.maximum(np.linalg.norm(gradients, axis=2, keepdims=True), 1e-30)
    mean: Matrix = (gradients / lengths).mean(axis=0)
    return mean
