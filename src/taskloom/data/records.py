"""What reading gives: rows that know where they stand, and lines that are no rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from taskloom.errors import Fault
from taskloom.types import Row

BadRows = Literal["refuse", "skip"]
"""What to do with a line or row that is wrong: refuse the data and list all, or leave it out and count it."""

SPLITS = ("train", "validation", "test")
"""The splits, in the order of every message and mapping."""

Unit = Literal["line", "row"]


def place_of(file: str, line: int | None, unit: Unit) -> str:
    """Write where something stands: ``train.jsonl:17``, or ``train.parquet row 17`` where there are no lines."""
    if line is None:
        return file
    return f"{file}:{line}" if unit == "line" else f"{file} row {line}"


@dataclass(frozen=True, slots=True)
class Record:
    """One row and where it stands.

    Attributes:
        row: its columns.
        file: the file, hub split or run-file key it came from.
        line: the line at which it starts, or its row number from 1; None where neither is known.
        unit: what `line` counts.
    """

    row: Row
    file: str
    line: int | None
    unit: Unit = "line"

    @property
    def place(self) -> str:
        """Where the row stands, for messages."""
        return place_of(self.file, self.line, self.unit)


@dataclass(frozen=True, slots=True)
class BadRow:
    """A line or row that cannot be used, and why.

    Attributes:
        file: as of a `Record`.
        line: as of a `Record`.
        requirement: what it should be, as the words after "should".
        found: what is there instead.
        fix: what to write instead.
        unit: what `line` counts.
    """

    file: str
    line: int | None
    requirement: str
    found: str = ""
    fix: str = ""
    unit: Unit = "line"

    @property
    def fault(self) -> Fault:
        """The same as a sentence."""
        return Fault(place_of(self.file, self.line, self.unit), self.requirement, self.found, self.fix)


@dataclass
class FileReading:
    """What one file, hub split or list of rows holds.

    Attributes:
        records: its rows, in order.
        bad: its lines that are no rows, in order.
        faults: what makes the whole of it unusable; `bad_rows` cannot skip these.
    """

    records: list[Record] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


@dataclass
class Reading:
    """What a task's data holds.

    Attributes:
        source: the data's name, as messages say it.
        splits: split -> its rows, in the order of `SPLITS`.
        bad: split -> its lines that are no rows.
        faults: what makes the whole unusable.
    """

    source: str
    splits: dict[str, list[Record]] = field(default_factory=dict)
    bad: dict[str, list[BadRow]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def add(self, split: str, part: FileReading) -> None:
        """Take in one split."""
        self.splits[split] = part.records
        self.bad[split] = part.bad
        self.faults += part.faults


def in_order(bad: Iterable[BadRow]) -> list[BadRow]:
    """Sort what is wrong with one split by its place in the file."""
    return sorted(bad, key=lambda each: each.line or 0)
