"""The predictions of a run as the page's sections read them, from its folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskloom.record import Record, read_lines

if TYPE_CHECKING:
    from taskloom.reports.facts import RunFacts

TEST = "test"


@dataclass(frozen=True)
class Answers:
    """What was said of the test rows of one task.

    Attributes:
        task: its name.
        type: of the task, as data.json has it; "" where that is not known.
        lines: [example] lines of predictions.
    """

    task: str
    type: str
    lines: Sequence[Mapping[str, Any]]

    @property
    def chooses(self) -> bool:
        """Whether it answers with one of a few labels."""
        return (
            bool(self.lines)
            and all(
                isinstance(line.get("prediction"), str | int | bool)
                and isinstance(line.get("reference"), str | int | bool)
                and line.get("right") is not None
                for line in self.lines
            )
            and not self.type.startswith(("text_to_text", "completion", "chat", "extractive", "multiple_choice"))
        )

    @property
    def tags(self) -> bool:
        """Whether it answers with a tag for each word."""
        return "token" in self.type or "tagging" in self.type

    @property
    def several(self) -> bool:
        """Whether it answers with a set of labels."""
        return self.type == "multi_label"

    def probabilities(self) -> list[Mapping[str, float]] | None:
        """Give the probability of each label, row by row: None where they were not recorded."""
        held = [(line.get("detail") or {}).get("probabilities") for line in self.lines]
        known = [each for each in held if isinstance(each, Mapping)]
        return known if held and len(known) == len(held) else None


def answers_of(run: RunFacts) -> list[Answers]:
    """Give the predictions of every task, in the order of the tasks; tasks without any are left out."""
    return list(_read(run.folder, tuple((task, _type(run, task)) for task in run.tasks)))


def _type(run: RunFacts, task: str) -> str:
    return run.data[task].type if task in run.data else ""


@lru_cache(maxsize=4)  # every section reads the same lines
def _read(folder: Path, tasks: tuple[tuple[str, str], ...]) -> tuple[Answers, ...]:
    return tuple(_found(folder, tasks))


def _found(folder: Path, tasks: tuple[tuple[str, str], ...]) -> Iterator[Answers]:
    record = Record(folder)
    for task, kind in tasks:
        lines = list(read_lines(record.predictions(task, TEST)))
        if lines:
            yield Answers(task, kind, lines)


def text_of(line: Mapping[str, Any]) -> str:
    """Give all that was asked, as one text."""
    values = (line.get("input") or {}).values()
    return " ".join(" ".join(map(str, value)) if isinstance(value, list) else str(value) for value in values)
