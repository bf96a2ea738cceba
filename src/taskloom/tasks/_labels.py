"""Tasks that answer with names from a list which the training rows give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from taskloom.errors import DataError, Fault, listed, nearest
from taskloom.tasks import Task
from taskloom.types import Row


class LabelledTask(Task):
    """A task whose head has one output for each label; the labels are those of the training rows, sorted."""

    label_column = "label"

    def __init__(self, *, max_length: int = 256) -> None:
        super().__init__(max_length=max_length)
        self.labels: list[Any] = []
        self.ids: dict[Any, int] = {}

    def labels_of(self, row: Row) -> Iterable[Any]:
        """Give the labels that a row carries."""
        return (row[self.label_column],)

    def fit(self, rows: Sequence[Row]) -> None:
        """Take the labels of the training rows.

        Raises:
            DataError: there are fewer than two.
        """
        found = {label for row in rows for label in self.labels_of(row)}
        if len(found) < 2:
            only = f"only {listed([str(label) for label in found])}" if found else "none"
            fix = "Delete the task, or add rows of another label"
            raise DataError(Fault(self.label_column, "have two labels or more in training", only, fix))
        self._set(sorted(found, key=lambda label: (type(label).__name__, label)))

    def unseen(self, row: Row) -> str | None:
        """Say which label of a row no training row has."""
        for label in self.labels_of(row):
            if label not in self.ids:
                near = nearest(str(label), map(str, self.labels))
                return f"have a `{self.label_column}` that training has, not `{label}`. {near}"
        return None

    def state(self) -> dict[str, Any]:
        """Give the labels in the order of the head's outputs."""
        return {"labels": self.labels}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take the labels back."""
        self._set(list(state["labels"]))

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
