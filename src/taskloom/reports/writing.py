"""How the page writes numbers, intervals and names."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from markupsafe import Markup

if TYPE_CHECKING:
    from taskloom.gradients.conflict import Interval
    from taskloom.reports.facts import ScoreLine

NOTHING = "—"


def number(value: float | None) -> str:
    """Write a number as a reader wants it: three decimals, thousands apart, a dash for what is no number."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    if value == 0 or abs(value) >= 0.001:
        return f"{value:.3f}" if abs(value) < 100 else f"{value:.1f}"
    return f"{value:.1e}"


def interval(line: ScoreLine) -> str:
    """Write the interval of a score."""
    low, high = number(line.score.low), number(line.score.high)
    return NOTHING if NOTHING in (low, high) else f"{low} to {high}"


def span(held: Interval) -> str:
    """Write the ends of an interval; a single value has none."""
    return f"{number(held.low)} to {number(held.high)}" if math.isfinite(held.low) else NOTHING


def breakable(name: str) -> Markup:
    """Let a long name break into lines after its underscores, and nowhere else."""
    return Markup("_<wbr>").join(name.split("_"))


FILTERS = {"number": number, "interval": interval, "breakable": breakable, "span": span}
