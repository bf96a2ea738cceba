"""Tasks whose answer is a number."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from taskloom.errors import DataError, Fault
from taskloom.tasks import Task
from taskloom.tasks._text import as_number
from taskloom.types import Item, Row


class NumberTask(Task):
    """A task that learns where its numbers lie, trains on numbers brought to one scale, and answers in the user's."""

    predicts = "number"

    def __init__(self, *, max_length: int = 256) -> None:
        super().__init__(max_length=max_length)
        self.mean, self.spread, self.low, self.high = 0.0, 1.0, 0.0, 1.0

    def fit(self, rows: Sequence[Row]) -> None:
        """Learn mean, standard deviation and range of the training rows' numbers.

        Raises:
            DataError: all numbers are the same.
        """
        numbers = np.array([self.reference(row) for row in rows])
        if numbers.min() == numbers.max():
            found = f"only `{numbers[0]:g}`"
            raise DataError(Fault("label", "take two values or more in training", found, "Delete the task"))
        self.mean, self.spread = float(numbers.mean()), float(numbers.std())
        self.low, self.high = float(numbers.min()), float(numbers.max())

    def state(self) -> dict[str, Any]:
        """Give what was learned of the scale."""
        return {"mean": self.mean, "spread": self.spread, "low": self.low, "high": self.high}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take the scale back."""
        self.mean, self.spread = float(state["mean"]), float(state["spread"])
        self.low, self.high = float(state["low"]), float(state["high"])

    @abstractmethod
    def scaled(self, number: float) -> float:
        """Bring a number to the scale that is trained on."""

    def target_of(self, row: Row) -> float:
        """Give a row's number, or NaN where it has none (rows to predict)."""
        number = as_number(row.get("label"))
        return float("nan") if number is None else number

    def targets(self, items: Sequence[Item], tokens: int) -> dict[str, Tensor]:
        """Give ``number`` [item] float32, on the scale of training.

        Brought there in double precision: single precision cannot tell two dates in seconds apart.
        """
        return {"number": torch.tensor([self.scaled(item["number"]) for item in items], dtype=torch.float32)}

    def reference(self, row: Row) -> Any:
        """Give the row's number."""
        return float(row["label"])

    def baseline(self, train: Sequence[Row], rows: Sequence[Row]) -> list[Any]:
        """Answer with the mean of the training rows."""
        return [float(np.mean([self.reference(row) for row in train]))] * len(rows)


def rounded(number: float) -> float:
    """Cut a number to nine significant digits, which is what single precision tells apart."""
    return float(f"{number:.9g}")
