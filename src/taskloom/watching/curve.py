"""A curve of any length in a few points, and its drawing in one line of text."""

from __future__ import annotations

from collections.abc import Sequence

LEVELS = "▁▂▃▄▅▆▇█"


class Curve:
    """Means of a growing row of values, over stretches of equal length that double when there are too many.

    So a million steps cost what a hundred do.

    Args:
        limit_points: how many stretches there are at most; the drawing has from half of them to all.
    """

    def __init__(self, limit_points: int = 24) -> None:
        self.limit_points = limit_points
        self._each = 1
        self._points: list[tuple[float, int]] = []  # sum and count of each stretch

    def add(self, value: float) -> None:
        """Append a value."""
        if self._points and self._points[-1][1] < self._each:
            total, count = self._points[-1]
            self._points[-1] = (total + value, count + 1)
            return
        if len(self._points) == self.limit_points:
            pairs = zip(self._points[::2], [*self._points[1::2], (0.0, 0)], strict=False)
            self._points = [(one[0] + other[0], one[1] + other[1]) for one, other in pairs]
            self._each *= 2
            self.add(value)
            return
        self._points.append((value, 1))

    def points(self) -> list[float]:
        """Give the mean of each stretch, in order."""
        return [total / count for total, count in self._points]


def sparkline(points: Sequence[float]) -> str:
    """Draw values as bars from the least to the greatest, one sign each; values that are all alike as low bars."""
    if not points:
        return ""
    low, high = min(points), max(points)
    step = (high - low) / (len(LEVELS) - 1)
    return "".join(LEVELS[round((point - low) / step) if step else 0] for point in points)
