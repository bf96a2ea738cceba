"""How far confidence lies from the share of answers that are right: expected calibration error and reliability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taskloom.bootstrap import draws, percentiles

Numbers = NDArray[np.float64]

BINS = 15
"""As in Guo et al.; fewer where there are fewer choices than bins."""


@dataclass(frozen=True)
class Bin:
    """One bar of a reliability diagram.

    Attributes:
        low: the least confidence in it.
        high: the greatest.
        confidence: mean of the confidences.
        right: share of its answers that are right.
        n: how many answers it holds.
    """

    low: float
    high: float
    confidence: float
    right: float
    n: int


@dataclass(frozen=True)
class Error:
    """An expected calibration error with its interval.

    Attributes:
        value: of all answers.
        low: lower end.
        high: upper end.
        chance: what calibrated, independent answers of the same confidences get on average, by noise in the bins.
    """

    value: float
    low: float
    high: float
    chance: float

    def as_json(self) -> dict[str, Any]:
        """Give it ready for JSON."""
        return asdict(self)


def bin_of(confidence: Numbers, bins: int = BINS) -> NDArray[np.int64]:
    """Put answers into bins of equal mass by their confidence; equal confidences are never parted.

    Args:
        confidence: [answer].
        bins: how many at most.

    Returns:
        [answer] number of the bin; some have no answer where many confidences are equal.
    """
    edges = np.percentile(confidence, np.linspace(0, 1, bins + 1) * 100)[1:-1]  # as scikit-learn cuts, to the last bit
    return np.searchsorted(edges, confidence).astype(np.int64)


def reliability(confidence: Numbers, right: Numbers, bins: int = BINS) -> list[Bin]:
    """Give the bars of a reliability diagram, by rising confidence.

    Args:
        confidence: [answer] probability that the model gave its own answer.
        right: [answer] 1 where it is right, else 0.
        bins: of equal mass.
    """
    place, found = bin_of(confidence, bins), []
    for number in np.unique(place):
        held, hits = confidence[place == number], right[place == number]
        found.append(Bin(float(held.min()), float(held.max()), float(held.mean()), float(hits.mean()), len(held)))
    return found


def calibration_error(confidence: Numbers, right: Numbers, bins: int = BINS) -> float:
    """Give the expected calibration error.

    Formula: ``ECE = sum_b (n_b / n) |right_b - confidence_b|`` over bins b of equal mass, with the share of right
    answers and the mean confidence of each.

    Papers: Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks, ICML 2017, arXiv:1706.04599; bins
    of equal mass: Nixon et al., Measuring Calibration in Deep Learning, 2019, arXiv:1904.01685.

    >>> calibration_error(np.array([0.5, 0.5, 1.0, 1.0]), np.array([1.0, 0.0, 1.0, 0.0]), bins=2)
    0.25
    """
    bars = reliability(confidence, right, bins)
    return float(sum(bar.n * abs(bar.right - bar.confidence) for bar in bars) / len(confidence))


def chance_error(confidence: Numbers, bins: int = BINS) -> float:
    """Give the calibration error that calibrated, independent answers of these confidences get on average.

    Formula: ``(1/n) sum_b sqrt(2/pi sum_i p_i (1 - p_i))`` over the answers i of bin b, with confidence p: the mean
    size of a sum of centred coin throws, which is nearly normal.
    """
    variance = np.bincount(bin_of(confidence, bins), weights=confidence * (1 - confidence))
    return float(np.sqrt(2 / np.pi * np.clip(variance, 0, None)).sum() / len(confidence))


def error_interval(
    confidence: Numbers,
    right: Numbers,
    row: Sequence[int] | NDArray[np.int64],
    *,
    bins: int = BINS,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Error:
    """Give the calibration error, and bootstrap it over rows.

    A resampled error is greater than its sample's on average, since noise in a bin only adds. The interval is that of
    the resampled errors, moved so that their mean is the error itself; what noise added to that in the first place is
    told by ``chance``.

    Args:
        confidence: [answer].
        right: [answer].
        row: [answer] the example that each answer belongs to; its answers (tags, labels) are drawn together.
        bins: of equal mass, those of all answers.
        resamples: bootstrap samples.
        level: of the interval.
        seed: of the draws.
    """
    value, place = calibration_error(confidence, right, bins), bin_of(confidence, bins)
    _, owner = np.unique(np.asarray(row), return_inverse=True)
    rows = int(owner.max()) + 1
    excess, size = np.zeros((rows, bins)), np.zeros(rows)
    np.add.at(excess, (owner, place), right - confidence)
    np.add.at(size, owner, 1.0)
    samples = [np.abs(counts @ excess).sum(axis=1) / (counts @ size) for counts in draws(rows, resamples, seed)]
    held = np.concatenate(samples)
    low, high = (min(max(end - float(held.mean()) + value, 0.0), 1.0) for end in percentiles(held, level))
    return Error(value, low, high, chance_error(confidence, bins))
