"""One number by group: its values with intervals, the gap between the groups that are furthest apart, and who knows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from taskloom.bootstrap import draws, interval, percentiles
from taskloom.errors import MissingExtraError
from taskloom.statistics import holm

if TYPE_CHECKING:
    from taskloom.metrics import Metric, Numbers

Indices = NDArray[np.int64]

LEAST_ROWS = 10
"""Rows that a group must have for a gap to be called shown: the test below is normal, and fewer rows are not."""

WIDTH = 0.2
"""How wide an interval of a number between 0 and 1 may be for its group not to be too small to tell."""

LIMIT_ALSO = 5
"""How many further pairs of groups that differ are told."""

POWER = 0.8
"""How often a gap must be found for it to be one that so many rows can show."""


@dataclass(frozen=True)
class Value:
    """A number with its interval.

    Attributes:
        value: NaN where there is none, as a rate of no rows.
        low: lower end of the interval.
        high: upper end.
        n: rows that it is of.
    """

    value: float
    low: float
    high: float
    n: int

    def as_json(self) -> dict[str, Any]:
        """Give it ready for JSON."""
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}


@dataclass(frozen=True)
class Quantity:
    """One number of each group.

    Attributes:
        name: the metric, or the rate.
        groups: group -> its value.
        samples: group -> [resample] the number in bootstrap samples of its rows.
        deviation: standard error of the number over all rows, times the root of how many they are: what one row's share
            of the doubt is, if groups do not differ.
        whole: the number of all rows.
        label: whose rate it is; None for a metric.
    """

    name: str
    groups: dict[str, Value]
    samples: dict[str, Numbers] = field(repr=False, compare=False)
    deviation: float
    whole: Value
    label: str | None = None

    def error(self, one: int, other: int) -> float:
        """Give the standard error of a difference of groups of so many rows, if they do not differ."""
        return self.deviation * math.sqrt(1 / one + 1 / other)

    def detectable(self, rows: int, others: int, level: float = 0.05) -> float:
        """Give the gap that groups of so many rows show four times in five."""
        return float(norm.ppf(1 - level / 2) + norm.ppf(POWER)) * self.error(rows, others)


@dataclass(frozen=True)
class Gap:
    """How far the groups are apart that are furthest apart.

    Attributes:
        quantity: the number's name.
        label: whose rate it is; None for a metric.
        high_group: the group with the greatest value.
        low_group: the one with the least.
        difference: greatest less least; the interval is that of these two groups' difference, and may hold 0.
        ratio: least by greatest, likewise.
        p: of no difference between the two, corrected for all pairs of groups (Holm).
        detectable: the difference that groups of their sizes show four times in five.
        shown: whether the data show that there is a gap.
        also: other pairs of groups that are shown to differ, the furthest apart first: a group of few rows may be at
            the end by chance, and hide what larger ones show.
    """

    quantity: str
    label: str | None
    high_group: str
    low_group: str
    difference: Value
    ratio: Value
    p: float
    detectable: float
    shown: bool
    also: tuple[Gap, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Give it ready for JSON."""
        return {
            "of": self.quantity,
            "label": self.label,
            "between": [self.high_group, self.low_group],
            "difference": self.difference.as_json(),
            "ratio": self.ratio.as_json(),
            "p": self.p,
            "detectable": self.detectable,
            "shown": self.shown,
            "also": [each.as_json() for each in self.also],
        }


def places_of(groups: Sequence[str]) -> dict[str, Indices]:
    """Give each group's rows: group -> [row], groups in order."""
    held = np.array(groups, dtype=object)
    return {name: np.flatnonzero(held == name) for name in sorted(set(groups))}


def frame(numbers: Mapping[str, Callable[[Indices], float]], groups: Sequence[str]) -> Any:
    """Make fairlearn's frame of numbers by group.

    Answers of any kind are told by their places, so that metrics of tags and texts are compared as well.

    Args:
        numbers: name -> function of rows [row].
        groups: [example].

    Raises:
        MissingExtraError: fairlearn is absent.
    """
    try:
        from fairlearn.metrics import MetricFrame
    except ImportError as error:
        raise MissingExtraError("fairlearn", "fairness", "compare groups") from error
    places = np.arange(len(groups))
    metrics = {name: (lambda rows, _, number=number: number(np.asarray(rows))) for name, number in numbers.items()}
    return MetricFrame(metrics=metrics, y_true=places, y_pred=places, sensitive_features=np.array(groups, dtype=str))


def by_group(
    name: str,
    metric: Metric,
    predictions: Sequence[Any],
    references: Sequence[Any],
    groups: Sequence[str],
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Quantity:
    """Score each group, with bootstrap intervals over its rows.

    Args:
        name: of the metric.
        metric: what to score by.
        predictions: [example].
        references: [example].
        groups: [example].
        resamples: bootstrap samples of each group.
        confidence: of the intervals.
        seed: of the draws; groups have seeds of their own.
    """
    whole = interval(metric, predictions, references, resamples=resamples, confidence=confidence, seed=seed)

    def score(rows: Indices) -> float:
        return metric.score([predictions[row] for row in rows], [references[row] for row in rows])

    scores = frame({name: score}, groups).by_group[name]
    values, samples = {}, {}
    for number, (group, rows) in enumerate(places_of(groups).items(), start=1):
        said, right = [predictions[row] for row in rows], [references[row] for row in rows]
        counted = draws(len(rows), resamples, seed + 1000 * number)
        samples[group] = np.concatenate([metric.resample(said, right, counts) for counts in counted])
        values[group] = Value(float(scores[group]), *percentiles(samples[group], confidence), len(rows))
    deviation = float(np.nanstd(whole.samples)) * math.sqrt(whole.n)
    if between_0_and_1(metric):  # where every row is right, one more might not be
        deviation = max(deviation, math.sqrt(whole.n + 1) / (whole.n + 2))
    return Quantity(name, values, samples, deviation, Value(whole.value, whole.low, whole.high, whole.n))


def between_0_and_1(metric: Metric) -> bool:
    """Say whether a metric's numbers lie between 0 and 1, as far as it tells."""
    return metric.greater_is_better and metric.perfect == 1.0


def gaps(quantities: Sequence[Quantity], confidence: float = 0.95) -> list[Gap]:
    """Compare the groups in each of some numbers that ask one question, such as the rates of several labels.

    A difference is called shown where the interval of the two groups' difference has no 0 in it, and its p-value,
    corrected for all pairs of groups in all these numbers, is below 1 - `confidence`. The p-value is that of a normal
    test whose standard error is the pooled one: what all rows together say if groups do not differ, so that a group of
    few rows that happen to be alike is not taken for certain.

    Args:
        quantities: with groups that have a value.
        confidence: of the intervals.

    Returns:
        a gap for each number in which two groups have a value.
    """
    pairs = [
        (number, low, high)
        for number, quantity in enumerate(quantities)
        for low, high in combinations(_rising(quantity), 2)
    ]
    p = holm({str(pair): _p_value(quantities[pair[0]], *pair[1:]) for pair in pairs})
    found = []
    for number, quantity in enumerate(quantities):
        own = [(low, high) for place, low, high in pairs if place == number]
        held = [_gap(quantity, high, low, p[str((number, low, high))], confidence) for low, high in own]
        if held:
            largest, *others = sorted(held, key=lambda gap: -gap.difference.value)
            found.append(replace(largest, also=tuple(gap for gap in others if gap.shown)[:LIMIT_ALSO]))
    return found


def _rising(quantity: Quantity) -> list[str]:
    """List the groups that have a value, from the least."""
    known = {group: each.value for group, each in quantity.groups.items() if not math.isnan(each.value)}
    return sorted(known, key=lambda group: known[group])


def _p_value(quantity: Quantity, one: str, other: str) -> float:
    first, second = quantity.groups[one], quantity.groups[other]
    difference, error = abs(first.value - second.value), quantity.error(first.n, second.n)
    if difference == 0:
        return 1.0
    return float(2 * norm.sf(difference / error)) if error > 0 else 0.0


def _gap(quantity: Quantity, high: str, low: str, p: float, confidence: float) -> Gap:
    top, bottom = quantity.groups[high], quantity.groups[low]
    more, less = quantity.samples[high], quantity.samples[low]
    ends = percentiles(more - less, confidence)
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.where(more != 0, less / more, np.nan)
    ratio = bottom.value / top.value if top.value else math.nan
    n = top.n + bottom.n
    difference = Value(top.value - bottom.value, *ends, n)
    return Gap(
        quantity.name,
        quantity.label,
        high,
        low,
        difference,
        Value(ratio, *percentiles(shares, confidence), n),
        p,
        quantity.detectable(top.n, bottom.n, 1 - confidence),
        bool(min(top.n, bottom.n) >= LEAST_ROWS and ends[0] > 0 and p < 1 - confidence),
    )


def too_small(quantity: Quantity, confidence: float = 0.95, *, bounded: bool = True) -> list[str]:
    """Say of each group that is too small to tell what it could show, and how many rows would do.

    Args:
        quantity: the number.
        confidence: of its intervals.
        bounded: whether the number lies between 0 and 1, so that an interval has a width that is too wide.
    """
    half, lines = float(norm.ppf((1 + confidence) / 2)), []
    needed = max(LEAST_ROWS, math.ceil((2 * half * quantity.deviation / WIDTH) ** 2)) if bounded else LEAST_ROWS
    total = sum(each.n for each in quantity.groups.values())
    for group, each in quantity.groups.items():
        if each.n < needed and each.n < total:
            least = quantity.detectable(each.n, total - each.n, 1 - confidence)
            more = f" About {needed} rows would do." if bounded else ""
            lines.append(
                f"`{group}` has {each.n} rows, too few to tell: a gap in {quantity.name} to all others below "
                f"{least:.2f} would often be missed.{more}"
            )
    return lines
