"""The transfer matrix: what training each task does for each other one, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Transfer:
    """What training one task does for another.

    Attributes:
        tasks: names, in the order of both axes.
        effect: [source, target] what training the source beside the target does for the target: above 0 it helps; NaN
            where nothing is known, and on the diagonal where a task's effect on itself says nothing.
        low: [source, target] lower ends of intervals, NaN where there are none.
        high: [source, target] upper ends.
        estimator: what it was found by, such as "adam" or "pairs".
        measured: whether the tasks were trained together and apart, and the effect is a difference of scores; else it
            is a prediction, whose order and sign mean something and whose size does not.
        unit: of the effects, such as "normalised score" or "relative loss".
    """

    tasks: tuple[str, ...]
    effect: Matrix
    low: Matrix
    high: Matrix
    estimator: str
    measured: bool
    unit: str

    def __post_init__(self) -> None:
        shape = (len(self.tasks), len(self.tasks))
        if any(held.shape != shape for held in (self.effect, self.low, self.high)):
            raise ValueError(f"A transfer of {len(self.tasks)} tasks has matrices of shape {shape}.")

    def among(self, names: tuple[str, ...]) -> Self:
        """Give the part of some tasks, in the order asked for."""
        places = [self.tasks.index(name) for name in names]
        effect, low, high = (held[np.ix_(places, places)] for held in (self.effect, self.low, self.high))
        return type(self)(tuple(names), effect, low, high, self.estimator, self.measured, self.unit)

    def as_row(self) -> dict[str, Any]:
        """Give it ready for JSON."""
        matrices = {key: getattr(self, key).tolist() for key in ("effect", "low", "high")}
        facts = {"estimator": self.estimator, "measured": self.measured, "unit": self.unit}
        return {"tasks": list(self.tasks), **matrices, **facts}

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Self:
        """Take it from what `as_row` gave, also after JSON made null of NaN."""
        effect, low, high = (np.array(row[key], dtype=float) for key in ("effect", "low", "high"))
        return cls(tuple(row["tasks"]), effect, low, high, row["estimator"], row["measured"], row["unit"])
