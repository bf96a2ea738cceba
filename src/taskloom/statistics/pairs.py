"""How sure a difference of two runs is, over seeds and examples at once: the hierarchical bootstrap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from taskloom.bootstrap import Interval, draws, percentiles

if TYPE_CHECKING:
    from taskloom.metrics import Metric

Pair = tuple[Sequence[Any], Sequence[Any], Sequence[Any]]
"""Predictions of the reference, predictions of the other run, and references: [example] each, of one seed."""


def paired_interval(
    metric: Metric, pairs: Sequence[Pair], *, resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Bootstrap the mean difference of two runs, over seeds and examples.

    Both runs of a seed are scored on the same drawn examples, so that what is hard for both counts for neither. Where
    all seeds are tested on the same examples, a sample draws the same of them for every seed: what a hard example does
    to one seed it does to the others. Where each seed has examples of its own, they are drawn within the drawn seeds.

    Args:
        metric: what to score by; its normalised value is compared, in which greater is better.
        pairs: [seed].
        resamples: how many samples.
        confidence: share of the samples within the interval.
        seed: of the draws.

    Returns:
        the mean over seeds of the second run's score less the first's; `n` is the number of seeds.

    Raises:
        ValueError: there is no pair, or a pair's lengths differ.

    Paper: Davison, Hinkley, Bootstrap Methods and their Application, 1997, section 3.8.
    """
    if not pairs or any(len({len(held) for held in pair}) > 1 or not pair[2] for pair in pairs):
        raise ValueError("`pairs` should hold a pair of equally many predictions and references for each seed.")
    values = [_gain(metric, pair) for pair in pairs]
    crossed = all(_same(pair[2], pairs[0][2]) for pair in pairs[1:])
    starts = [seed if crossed else seed + place for place in range(len(pairs))]
    samples = np.stack([_samples(metric, pair, resamples, start) for pair, start in zip(pairs, starts, strict=True)])
    generator = np.random.default_rng(seed)
    chosen = generator.integers(0, len(pairs), size=(len(pairs), resamples))
    # A seed that is drawn twice is drawn with two samples of examples of its own, not twice with the same.
    moved = np.arange(resamples) if crossed else generator.integers(0, resamples, size=(len(pairs), resamples))
    drawn = samples[chosen, moved].mean(axis=0)
    return Interval(float(np.mean(values)), *percentiles(drawn, confidence), len(pairs), drawn)


def _same(one: Sequence[Any], other: Sequence[Any]) -> bool:
    """Say whether two seeds were tested on the same examples, as far as their references tell."""
    return len(one) == len(other) and all(
        np.array_equal(first, second) if isinstance(first, np.ndarray) else first == second
        for first, second in zip(one, other, strict=True)
    )


def _gain(metric: Metric, pair: Pair) -> float:
    reference, other, wanted = pair
    both = np.array([metric.score(reference, wanted), metric.score(other, wanted)])
    first, second = metric.normalise(both)
    return float(second - first)


def _samples(metric: Metric, pair: Pair, resamples: int, seed: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Give the differences of bootstrap samples of one seed's examples: [resample]."""
    reference, other, wanted = pair
    found = []
    for counts in draws(len(wanted), resamples, seed):
        first = metric.normalise(metric.resample(reference, wanted, counts))
        found.append(metric.normalise(metric.resample(other, wanted, counts)) - first)
    return np.concatenate(found)
