"""How alike two representations of the same examples are: linear CKA, with bootstrap intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from taskloom.bootstrap import draws, percentiles

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Likeness:
    """A CKA with its interval.

    Attributes:
        value: of all examples; 1 for representations that differ by rotation and scale alone.
        low: lower end.
        high: upper end.
        n: how many examples there are.
    """

    value: float
    low: float
    high: float
    n: int


def linear_cka(one: Matrix, other: Matrix) -> float:
    """Give the linear centred kernel alignment of two representations.

    Formula: ``||Y^T X||_F^2 / (||X^T X||_F ||Y^T Y||_F)`` of X and Y with the mean of each column taken off, formed of
    the kernels ``X X^T`` and ``Y Y^T``. It is the same for any rotation and any scale of either.

    Args:
        one: [example, width].
        other: [example, width], of the same examples; the width may differ.

    Returns:
        from 0 to 1; NaN where a representation is the same for all examples.

    Paper: Kornblith, Norouzi, Lee and Hinton, Similarity of Neural Network Representations Revisited, ICML 2019,
    arXiv:1905.00414.
    """
    counts = np.ones((1, len(one)))
    return float(_weighted(_kernel(one), _kernel(other), counts)[0])


def likeness(one: Matrix, other: Matrix, *, resamples: int = 200, confidence: float = 0.95, seed: int = 0) -> Likeness:
    """Give the linear CKA, and bootstrap it over examples.

    An example that is drawn twice is perfectly like itself in both, so that resampled values lie higher than their
    sample's. The interval is that of the resampled values, moved so that their mean is the value itself.

    Args:
        one: [example, width].
        other: [example, width].
        resamples: bootstrap samples.
        confidence: of the interval.
        seed: of the draws.
    """
    first, second = _kernel(one), _kernel(other)
    value = float(_weighted(first, second, np.ones((1, len(one))))[0])
    held = np.concatenate([_weighted(first, second, counts) for counts in draws(len(one), resamples, seed)])
    shift = value - float(np.nanmean(held)) if np.isfinite(held).any() else 0.0
    low, high = (float(np.clip(end + shift, 0.0, 1.0)) for end in percentiles(held, confidence))
    return Likeness(value, low, high, len(one))


def _kernel(states: Matrix) -> Matrix:
    held = np.asarray(states, dtype=np.float64)
    held = held - held.mean(axis=0)
    size = np.linalg.norm(held)
    held = held / size if size else held
    kernel: Matrix = held @ held.T
    return kernel


def _weighted(one: Matrix, other: Matrix, counts: Matrix) -> Matrix:
    """Give the CKA of two kernels where each example counts so often: [resample], from counts [resample, example]."""
    found = np.empty(len(counts))
    for place, count in enumerate(counts):
        first, second = _centred(one, count), _centred(other, count)
        weight = np.outer(count, count)
        cross, own, others = ((weight * a * b).sum() for a, b in ((first, second), (first, first), (second, second)))
        # What is the same for all examples is told from what differs by rounding alone.
        small = 1e-12
        found[place] = cross / np.sqrt(own * others) if own > small and others > small else np.nan
    return found


def _centred(kernel: Matrix, count: Matrix) -> Matrix:
    share = count / count.sum()
    mean = kernel @ share
    centred: Matrix = kernel - mean[:, None] - mean[None, :] + share @ mean
    return centred
