"""Tasks that answer with names from a list which the training rows give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from taskloom.errors import DataError, Fault, listed, nearest
from taskloom.tasks import Task
from taskloom.tasks._losses import ClassWeights, LabelLoss, label_weights
from taskloom.types import Row


class LabelledTask(Task):
    """A task whose head has one output for each label; the labels are those of the training rows, sorted.

    Attributes:
        labels: in the order of the head's outputs.
        ids: label -> its place among them.
        form: the form of the loss.
        class_weights: as asked for.
        weights: what was made of it in `fit`: [label], or as the task weighs its labels; None for no weights.
    """

    label_column = "label"

    def __init__(
        self, *, max_length: int = 256, form: LabelLoss | None = None, class_weights: ClassWeights = None
    ) -> None:
        super().__init__(max_length=max_length)
        self.labels: list[Any] = []
        self.ids: dict[Any, int] = {}
        self.form = form or LabelLoss()
        self.class_weights = class_weights
        self.weights: list[Any] | None = None

    def labels_of(self, row: Row) -> Iterable[Any]:
        """Give the labels that a row carries."""
        return (row[self.label_column],)

    def fit(self, rows: Sequence[Row]) -> None:
        """Take the labels of the training rows, and weigh them where that is asked for.

        Raises:
            DataError: there are fewer than two, or a weight is given to none of them.
        """
        found = {label for row in rows for label in self.labels_of(row)}
        if len(found) < 2:
            only = f"only {listed([str(label) for label in found])}" if found else "none"
            fix = "Delete the task, or add rows of another label"
            raise DataError(Fault(self.label_column, "have two labels or more in training", only, fix))
        self._set(self.completed(sorted(found, key=lambda label: (type(label).__name__, label))))
        self.weights = self.weigh(rows)

    def completed(self, labels: list[Any]) -> list[Any]:
        """Add the labels that the head needs beside those of the training rows."""
        return labels

    def weigh(self, rows: Sequence[Row]) -> list[Any] | None:
        """Make the labels' weights of `class_weights` and the training rows."""
        counts = Counter(label for row in rows for label in self.labels_of(row))
        return label_weights(self.class_weights, self.labels, counts)

    def weights_for(self, output: Tensor) -> Tensor | None:
        """Give the labels' weights in an output's precision and on its device; None for no weights."""
        weights = self.weights
        return None if weights is None else torch.tensor(weights, dtype=output.dtype, device=output.device)

    def unseen(self, row: Row) -> str | None:
        """Say which label of a row no training row has."""
        for label in self.labels_of(row):
            if label not in self.ids:
                near = nearest(str(label), map(str, self.labels))
                return f"have a `{self.label_column}` that training has, not `{label}`. {near}"
        return None

    def state(self) -> dict[str, Any]:
        """Give the labels in the order of the head's outputs, and their weights where they have any."""
        held = {"labels": self.labels}
        return held if self.weights is None else {**held, "class_weights": self.weights}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take the labels and their weights back."""
        self._set(list(state["labels"]))
        self.weights = state.get("class_weights")

    def most_frequent(self, rows: Sequence[Row]) -> Any:
        """Give the most frequent label of some rows, the first in order among equals."""
        counts = Counter(label for row in rows for label in self.labels_of(row))
        return max(self.labels, key=lambda label: counts[label])

    def choices(self) -> int | None:
        """Count the labels."""
        return len(self.labels)

    def _set(self, labels: list[Any]) -> None:
        self.labels = labels
        self.ids = {label: index for index, label in enumerate(labels)}


def label_fault(value: Any, column: str) -> str | None:
    """Say why a value is no label, or None: labels are texts, whole numbers or booleans."""
    if isinstance(value, str):
        return None if value.strip() else f"have a label in `{column}`, which is empty"
    if isinstance(value, bool | int):
        return None
    return f"have a label in `{column}`, not {'nothing' if value is None else f'`{value}`'}"
