"""What may be said of each task after several seeds: helped, harmed, no difference shown, or that it cannot be told."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from taskloom.statistics.signs import detectable, holm, sign_flip, smallest_p, t_interval

Word = Literal["helped", "harmed", "no difference shown", "cannot tell"]


@dataclass(frozen=True)
class Verdict:
    """What the seeds say of one task against its reference.

    Attributes:
        task: its name.
        n: paired seeds.
        difference: mean over seeds, above 0 where it is better than the reference.
        low: lower end of the interval of the mean.
        high: upper end.
        p: of the sign flip, for this task alone.
        adjusted: the same corrected for all tasks (Holm).
        detectable: the smallest difference that so many seeds of so many tasks would have shown four times in five, had
            no other task differed; infinite where they cannot tell.
        word: the verdict.
        tasks: how many tasks were compared.
    """

    task: str
    n: int
    difference: float
    low: float
    high: float
    p: float
    adjusted: float
    detectable: float
    word: Word
    tasks: int = 1

    @property
    def least(self) -> float:
        """The least corrected p-value that so many seeds of so many tasks can come to."""
        return min(1.0, self.tasks * smallest_p(self.n))

    def as_row(self) -> dict[str, Any]:
        """Give it ready for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        if not math.isfinite(self.difference):
            return f"{self.task}: cannot tell, since a score of it is no number"
        if self.word == "cannot tell":
            beside = f" of {self.tasks} tasks" if self.tasks > 1 else ""
            least = f"{self.least:.2g}{' after Holm' if self.tasks > 1 else ''}"
            return f"{self.task}: {self.n} seeds{beside} cannot tell; their least p-value is {least}"
        shown = f"{self.task}: {self.word} ({self.difference:+.3f}, {self.low:+.3f} … {self.high:+.3f}"
        if self.word == "no difference shown":
            return f"{shown}; p {self.adjusted:.3f} after Holm, {self.detectable:.3f} would mostly have been)"
        return f"{shown}; p {self.adjusted:.3f} after Holm)"


def verdicts(
    differences: Mapping[str, Sequence[float]],
    *,
    level: float = 0.05,
    intervals: Mapping[str, tuple[float, float]] | None = None,
) -> list[Verdict]:
    """Judge every task of a comparison.

    Args:
        differences: task -> [seed] its score less the reference's, of the same seed, above 0 for better.
        level: how often at most any task is called helped or harmed where none is.
        intervals: task -> interval of its mean difference, such as `paired_interval` gives; by default Student's over
            seeds, which holds nothing of the test examples.

    Returns:
        one for each task, in the order given. A verdict other than "cannot tell" needs so many seeds that a corrected
        sign flip can get below the level at all: for 0.05 six where one task is compared, eight where six are.

    Raises:
        ValueError: a task has no difference.
    """
    p = {name: sign_flip(values) if np.isfinite(values).all() else 1.0 for name, values in differences.items()}
    adjusted = holm(p)
    found = []
    for name, values in differences.items():
        n, mean = len(values), float(np.mean(values))
        low, high = (intervals or {}).get(name) or t_interval(values, 1 - level)
        # Of one seed the deviation is not known, nor would it matter.
        deviation = float(np.std(values, ddof=1)) if n > 1 else 1.0
        smallest = detectable(deviation, n, level=level / len(differences))
        least = len(differences) * smallest_p(n) if math.isfinite(mean) else math.inf
        word = _word(mean, adjusted[name], least, level)
        found.append(Verdict(name, n, mean, low, high, p[name], adjusted[name], smallest, word, len(differences)))
    return found


def _word(mean: float, adjusted: float, least: float, level: float) -> Word:
    if least > level:
        return "cannot tell"
    if adjusted > level:
        return "no difference shown"
    return "helped" if mean > 0 else "harmed"
