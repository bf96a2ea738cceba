"""Mitigation: what a task's training does so that its groups are served alike; the option `fairness` of a task.

A mitigation is a class that learns from the training rows in ``begin``, and then does one of four things, whatever it
overrides: add rows (`appended`), weigh the losses of rows (`factors`, from what `note` and `close` saw), or put rows
into strata that are drawn alike (`strata`). To add one, put a file here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from taskloom.errors import ConfigError, Fault
from taskloom.room import Room
from taskloom.types import Row

if TYPE_CHECKING:
    from taskloom.tasks import Task

Numbers = NDArray[np.float64]

ANSWERED = frozenset({"label", "labels", "tags", "number", "choice"})
"""Kinds of answers that stay right when words of the question are swapped."""


@dataclass(frozen=True)
class Groups:
    """What a mitigation learns from the training rows.

    Attributes:
        group: [example] the group of each row.
        label: [example] its label as text; None where the task's rows have no single label from a list.
    """

    group: Sequence[str]
    label: Sequence[str] | None = None

    def strata(self, by_label: bool) -> list[str]:
        """Give each row's group, or its group and label where rows have one and that is asked for: [example]."""
        if not by_label or self.label is None:
            return list(self.group)
        return [f"{group}, {label}" for group, label in zip(self.group, self.label, strict=True)]


class Mitigation(ABC):
    """One way to narrow the gap between the groups of a task while it is trained.

    Class attributes:
        needs_group: whether it cannot do without a column of groups.
        needs_label: whether every row must have one label from a list.
        draws: whether it says which rows are drawn.
    """

    needs_group: ClassVar[bool] = True
    needs_label: ClassVar[bool] = False
    draws: ClassVar[bool] = False

    @abstractmethod
    def begin(self, groups: Groups) -> None:
        """Learn from the training rows, those that were appended among them."""

    def appended(self, rows: Sequence[Row], task: Task) -> list[tuple[int, Row]]:
        """Give rows to be trained on besides, each with the place of the row that it was made of; by default none."""
        return []

    def strata(self) -> list[str] | None:
        """Give the stratum of each training row, where all are to be drawn alike often: [example]; None for as is."""
        return None

    def factors(self, rows: Sequence[int]) -> Numbers | None:
        """Say what the losses of some training rows are multiplied with now: [row]; None for nothing."""
        return None

    def note(self, rows: Sequence[int], losses: Sequence[float]) -> None:  # noqa: B027 - most have nothing to learn
        """See the losses of some rows of a step, before they are multiplied."""

    def forget(self) -> None:  # noqa: B027
        """Forget what was noted: a step begins."""

    def sums(self) -> Numbers | None:
        """Give what was noted in this step, to be added up over processes: [2, stratum]; None for nothing."""
        return None

    def close(self, sums: Numbers) -> None:  # noqa: B027
        """End an optimizer step, with its `sums` of all processes."""

    def kept(self) -> dict[str, Any]:
        """Give what run.yaml keeps in the place of options that name a file; by default nothing."""
        return {}

    def shown(self) -> dict[str, float]:
        """Give what the record of a step says of it: stratum -> number; empty for nothing."""
        return {}

    def state(self) -> dict[str, Any]:
        """Give what has to be there to go on bit for bit, ready for JSON."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:  # noqa: B027
        """Take back what `state` gave."""

    def check(self, task: Task | type[Task]) -> None:
        """Refuse a type of task that it can do nothing for.

        Raises:
            ConfigError: the task's rows have no label, and it needs one.
        """
        if self.needs_label and task.predicts != "label":
            requirement = "fit the task, whose rows must have one label from a list"
            fix = "Write `balanced_sampling` or `group_dro`"
            found = f"`{self.name}` for a task that answers with {KINDS.get(task.predicts, task.predicts)}"
            raise ConfigError(Fault("method", requirement, found, fix))

    @property
    def name(self) -> str:
        """Its name in run files."""
        return type(self).__module__.rpartition(".")[2]


KINDS = {
    "labels": "several labels",
    "tags": "tags",
    "number": "a number",
    "choice": "one of a row's own choices",
    "text": "a text",
    "extraction": "extracted texts",
    "loss": "nothing",
}
"""Kinds of answers in words."""

MITIGATIONS: Room[Mitigation] = Room("taskloom.mitigation", "mitigation")
