"""Inner products of gradients on training rows with those on held-out rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from taskloom.affinity.matrix import Matrix
from taskloom.affinity.probes import HELD_OUT, TRAIN, Probe

Kind = Literal["plain", "scaled"]


def sides(probes: Sequence[Probe], kind: Kind) -> tuple[Matrix, Matrix]:
    """Give sketched gradients: [probe, task, k] of training rows, and of held-out rows."""
    held = np.stack([getattr(probe, kind) for probe in probes]).astype(np.float64)
    return held[:, TRAIN], held[:, HELD_OUT]


def crossed(probes: Sequence[Probe], kind: Kind) -> Matrix:
    """Give each probe's cross Gramian: [probe, source, target], of training rows by held-out rows."""
    train, held_out = sides(probes, kind)
    found: Matrix = np.einsum("psk,ptk->pst", train, held_out)
    return found


def held_out_losses(probes: Sequence[Probe]) -> Matrix:
    """Give mean losses on held-out rows: [probe, task], kept from nought."""
    losses: Matrix = np.maximum(np.stack([probe.losses[HELD_OUT] for probe in probes]).astype(np.float64), 1e-6)
    return losses


def without_diagonal(effect: Matrix) -> Matrix:
    """Blank what a task does for itself."""
    found = effect.copy()
    np.fill_diagonal(found, np.nan)
    return found
