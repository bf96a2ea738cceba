"""How sure a score is: percentile bootstrap over examples, for one metric and for a composite of several."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from taskloom.errors import DataError, Fault

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from taskloom.composite import Composite
    from taskloom.metrics import Metric, Numbers

LIMIT_BLOCK_COUNTS = 8_000_000
"""How many counts (samples by examples) are held at a time: 64 MB."""


@dataclass(frozen=True)
class Interval:
    """A score and the range in which it would lie with other examples of the same kind.

    Attributes:
        value: the metric of all examples.
        low: lower end of the interval; NaN where no sample has a value.
        high: upper end, likewise.
        n: how many examples were scored.
        samples: [resample] the metric of each bootstrap sample; NaN where a sample has no value.
    """

    value: float
    low: float
    high: float
    n: int
    samples: Numbers = field(repr=False, compare=False)


def interval(
    metric: Metric,
    predictions: Sequence[Any],
    references: Sequence[Any],
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Score predictions, and bootstrap the score over examples.

    The same seed and number of examples draw the same examples, so two scores of one split are paired, example by
    example. The ends are percentiles: range-preserving and simple, a little narrow below some thirty examples.

    Args:
        metric: what to score by.
        predictions: [example].
        references: [example].
        resamples: how many bootstrap samples; 1,000 place the ends of a 95 % interval well enough for two digits.
        confidence: share of the samples within the interval.
        seed: what the draws are made from.

    Raises:
        DataError: there is no example, or predictions and references differ in number.

    Paper: Efron, Bootstrap methods: another look at the jackknife, 1979, doi:10.1214/aos/1176344552.
    """
    n = len(references)
    if n == 0:
        raise DataError(Fault("references", "hold at least one example", "none", "Score a split that has rows"))
    if len(predictions) != n:
        raise DataError(Fault("predictions", f"be as many as the {n} references", str(len(predictions))))
    blocks = [metric.resample(predictions, references, counts) for counts in draws(n, resamples, seed)]
    samples = np.concatenate(blocks)
    return Interval(metric.score(predictions, references), *percentiles(samples, confidence), n, samples)


def draws(n: int, resamples: int, seed: int) -> Iterator[Numbers]:
    """Draw n of n examples with replacement, again and again: blocks of counts [resample, example].

    The draws do not depend on how they are cut into blocks.
    """
    generator = np.random.default_rng(seed)
    rows = max(1, LIMIT_BLOCK_COUNTS // n)
    for start in range(0, resamples, rows):
        yield generator.multinomial(n, np.full(n, 1 / n), size=min(rows, resamples - start)).astype(float)


def percentiles(samples: Numbers, confidence: float) -> tuple[float, float]:
    """Give the ends of the middle `confidence` of the samples that have a value."""
    known = samples[~np.isnan(samples)]
    if known.size == 0:
        return float("nan"), float("nan")
    tail = (1 - confidence) / 2
    low, high = np.quantile(known, [tail, 1 - tail])
    return float(low), float(high)


def composite(
    parts: Mapping[str, tuple[float, Metric, Interval]], how: Composite, *, confidence: float = 0.95
) -> Interval:
    """Combine scores of several tasks into one.

    Args:
        parts: task -> weight, metric and interval; a part without weight is left out.
        how: makes one number of normalised values.
        confidence: share of the samples within the interval.

    Returns:
        The composite; its samples combine each part's sample of the same number; n is the sum.

    Raises:
        DataError: there is no part of positive weight, or the parts differ in their number of samples.
    """
    weights = np.array([weight for weight, _, _ in parts.values()], dtype=float)
    if not weights.sum() > 0 or weights.min() < 0:
        found = str(weights.tolist())
        raise DataError(Fault("weights", "be zero or more, and above zero for one score at least", found))
    counted = {name: part for name, part in parts.items() if part[0] > 0}
    sizes = sorted({each.samples.size for _, _, each in counted.values()})
    if len(sizes) > 1:
        raise DataError(Fault("resamples", "be the same for all scores of a composite", str(sizes)))
    values = np.array([metric.normalise(np.array([each.value])) for _, metric, each in counted.values()])
    samples = np.stack([metric.normalise(each.samples) for _, metric, each in counted.values()])
    shares, names = weights[weights > 0], list(counted)
    combined = how.combine(samples, shares, names)
    total = sum(each.n for _, _, each in counted.values())
    return Interval(float(how.combine(values, shares, names)[0]), *percentiles(combined, confidence), total, combined)
