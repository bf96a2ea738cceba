"""Leaving tasks out, by a linearised model of all losses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from taskloom.affinity.estimators import Estimator
from taskloom.affinity.estimators._products import held_out_losses, sides, without_diagonal
from taskloom.affinity.matrix import Matrix
from taskloom.affinity.probes import Probe


class Linearised(Estimator):
    r"""What leaving a source out of all tasks would cost a target, where losses are quadratic around the joint model.

    Prefer it for the question of leaving one task out of many: it lets tasks overlap, as two that teach the same do.
    Not for pairs of a run that has hardly begun, whose losses are far from quadratic.

    Formula: with tasks S, ``δ(S) = -(sum_{t in S} F_t + λ I)^{-1} sum_{t in S} ḡ_t`` is where S would take the model,
    and ``effect_ij = [l_j(δ(S \ i)) - l_j(δ(S))] / L_j`` with ``l_j(δ) = h̄_j · δ + δ · F_j δ / 2``; F_t is the mean
    outer product of the task's probed gradients, λ the mean of the sum's eigenvalues that are not 0; all in Adam's
    geometry.

    Shapes: [source, target].

    Options:
        damping: what λ is multiplied with; the larger it is the closer this comes to first order.

    Differs: the paper regresses on projected gradients of single examples and estimates many subsets; here a probe's
    mean gradients stand for examples.

    Paper: Li, Sharma and Zhang, Scalable Multitask Learning Using Gradient-based Estimation of Task Affinity, 2024,
    arXiv:2409.06091.
    """

    def __init__(self, *, damping: float = 1.0) -> None:
        self.damping = damping

    def effect(self, probes: Sequence[Probe]) -> Matrix:
        """Predict; see `Estimator.effect`."""
        train, held_out = sides(probes, "scaled")
        count, tasks, _ = train.shape
        flat = train.transpose(1, 0, 2).reshape(tasks * count, -1)  # rows of a task lie side by side
        kernel, target = flat @ flat.T, flat @ held_out.mean(axis=0).T
        owner = np.repeat(np.arange(tasks), count)
        damping = self.damping * max(float(np.trace(kernel)) / count / max(len(kernel), 1), 1e-30)
        losses = held_out_losses(probes).mean(axis=0)
        whole = _losses(kernel, target, owner, np.ones(tasks, dtype=bool), damping)
        effect = np.full((tasks, tasks), np.nan)
        for source in range(tasks):
            kept = np.arange(tasks) != source
            effect[source] = (_losses(kernel, target, owner, kept, damping) - whole) / losses
        return without_diagonal(effect)


def _losses(kernel: Matrix, target: Matrix, owner: np.ndarray, kept: np.ndarray, damping: float) -> Matrix:
    """Give each task's change of loss where some tasks would take the model: [task].

    With A the kept gradients, ``(A'A / n + λ)^{-1} A' c = A' (A A' / n + λ)^{-1} c``: as many unknowns as gradients.
    """
    tasks, count = target.shape[1], int((owner == 0).sum())
    rows = kept[owner]
    if not rows.any():
        return np.zeros(tasks)
    system = kernel[np.ix_(rows, rows)] / count + damping * np.eye(int(rows.sum()))
    moved = -np.linalg.solve(system, np.full(int(rows.sum()), 1 / count))  # δ = A' moved
    linear = target[rows].T @ moved
    along = kernel[:, rows] @ moved  # each probed gradient along δ
    curved = np.array([np.mean(along[owner == task] ** 2) for task in range(tasks)])
    found: Matrix = linear + curved / 2
    return found
