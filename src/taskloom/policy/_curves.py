"""What is read of a curve of scores or losses: the values since a step, their mean, and how much of it is noise."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from taskloom.policy import Curve

DEVIATIONS = 3.0
"""How many standard errors a change has to exceed before it counts as one: one look in 700 is wrong by chance."""

NORMAL = 0.6744897501960817
"""The median of the absolute value of a standard normal number."""


def since(curve: Curve, step: int) -> list[float]:
    """Give the values of a curve after a step, without those that are not finite."""
    return [float(value) for at, value in curve if at > step and value is not None and math.isfinite(value)]


def mean(values: Sequence[float]) -> float:
    """Give the mean; exactly rounded, so that it depends on no order."""
    return math.fsum(values) / len(values)


def noise(values: Sequence[float]) -> float:
    """Estimate the standard deviation of the values around a curve that is straight over any three of them.

    ``median |x_i - 2 x_{i+1} + x_{i+2}| / (0.674 sqrt(6))``: second differences take a slope away, and their median
    leaves out the few where a curve bends. 0 of fewer than three values.

    >>> noise([0.1, 0.2, 0.3, 0.4])  # a straight line has no noise, up to rounding
    0.0
    >>> round(noise([1.0, -1.0] * 10), 3)
    2.421
    """
    bends = [abs(one - 2 * middle + other) for one, middle, other in zip(values, values[1:], values[2:], strict=False)]
    return round(statistics.median(bends) / (NORMAL * math.sqrt(6)), 12) if bends else 0.0


def shown(value: float) -> str:
    """Write a number for a reason."""
    return f"{value:.4g}"


def times(count: int) -> str:
    """Write a count of evaluations for a reason."""
    return "1 evaluation" if count == 1 else f"{count} evaluations"
