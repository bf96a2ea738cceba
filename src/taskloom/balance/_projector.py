"""The projection behind UPGrad and DualProj, by scipy's nnls: torchjd's own solver is under the GPL."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import lsq_linear, nnls
from torch import Tensor
from torchjd.linalg import DualConeProjector, PSDMatrix

Numbers = NDArray[np.float64]

CUT = 1e-12
"""Eigenvalues of the Gramian of unit gradients below this are rounding."""


def square_root(gramian: Numbers) -> Numbers:
    """Give R [task, rank] with ``R R^T = gramian``, for a Gramian whose diagonal is one or zero."""
    values, vectors = np.linalg.eigh(gramian)
    kept = values > CUT * max(float(values[-1]), 1.0)
    root: Numbers = vectors[:, kept] * np.sqrt(values[kept])
    return root


def unit_diagonal(gramian: Numbers) -> tuple[Numbers, Numbers]:
    """Give the Gramian of the gradients divided by their lengths, and the lengths [task], 1 for a zero gradient."""
    lengths = np.sqrt(np.clip(np.diagonal(gramian), 0.0, None))
    lengths = np.where(lengths > 0, lengths, 1.0)
    return gramian / lengths[:, None] / lengths[None, :], lengths


class NnlsProjector(DualConeProjector):
    """Find ``min v^T G v`` subject to ``v >= u`` as a least-squares problem with non-negative unknowns.

    With ``v = u + x`` and ``G = R R^T`` it is ``min |R^T x + R^T u|`` over ``x >= 0``. The cone does not change when
    gradients are divided by their lengths, so the problem is solved for unit gradients: it is then as well
    conditioned as their angles allow, and needs no ridge, which would let conflict pass where lengths differ.
    """

    def __call__(self, U: Tensor, G: PSDMatrix) -> Tensor:  # noqa: N803 - torchjd's names
        """Project each row of U [..., task]; gives v of the same shape."""
        gramian, lengths = unit_diagonal(G.detach().to("cpu", torch.float64).numpy())
        transposed = np.ascontiguousarray(square_root(gramian).T)
        targets = U.detach().to("cpu", torch.float64).numpy() * lengths
        found = np.apply_along_axis(lambda target: target + _excess(transposed, target), -1, targets)
        return torch.from_numpy(found / lengths).to(U)


def _excess(transposed: Numbers, target: Numbers) -> Numbers:
    """Give x >= 0 that makes ``|R^T (target + x)|`` least, for R^T [rank, task]."""
    scale = float(np.abs(target).max(initial=0.0))
    if scale == 0.0 or not len(transposed):
        return np.zeros_like(target)
    wanted = -transposed @ (target / scale)
    try:
        found = nnls(transposed, wanted, maxiter=100 * len(target))[0]
    except RuntimeError:  # nnls may go in circles on dependent gradients; this one ends always, if less exactly
        found = lsq_linear(transposed, wanted, bounds=(0.0, np.inf), method="bvls").x
    excess: Numbers = found * scale
    return excess
