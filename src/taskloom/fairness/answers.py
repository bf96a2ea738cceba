"""A finished run's answers on a split, with the group of each row: predictions joined with columns of the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taskloom.config import Config, in_memory, read_config
from taskloom.data.columns import ABSENT, value_at
from taskloom.data.sources import survey
from taskloom.errors import DataError, Fault, RunFolderError, listed, nearest
from taskloom.preparation import InMemory
from taskloom.record import Record, read_lines
from taskloom.types import Row

LIMIT_GROUPS = 30
"""How many groups are compared; a column of more is no column of groups."""

BETWEEN = ", "
"""What stands between the values of several columns."""


@dataclass(frozen=True)
class Answers:
    """What a run answered, by group.

    Attributes:
        lines: [example] lines of predictions, of rows that have a group.
        groups: [example] the group of each; values of several columns with a comma between.
        without_group: how many rows were left out because a column is empty.
    """

    lines: list[dict[str, Any]]
    groups: list[str]
    without_group: int

    @property
    def predictions(self) -> list[Any]:
        """[example] what the run said."""
        return [line["prediction"] for line in self.lines]

    @property
    def references(self) -> list[Any]:
        """[example] what is right."""
        return [line["reference"] for line in self.lines]


def finished(folder: Any, task: str) -> tuple[Record, Config]:
    """Open a run folder that has a task.

    Raises:
        RunFolderError: the folder is no run folder.
        DataError: the run has no such task.
    """
    record = Record.open(folder)
    config = read_config(record.run_yaml)
    if task not in config.tasks:
        raise DataError(Fault("--task", "be a task of the run", f"`{task}`", nearest(task, config.tasks)))
    return record, config


def lines_of(record: Record, task: str, split: str) -> list[dict[str, Any]]:
    """Read the predictions of a task's split.

    Raises:
        RunFolderError: there are none.
    """
    lines = list(read_lines(record.predictions(task, split)))
    if not lines:
        more = "" if split == "test" else " --split test"
        fix = f"`taskloom evaluate {record.folder} --split {split}{more}` makes them"
        requirement = f"hold predictions of `{task}` on {split}"
        raise RunFolderError(Fault(str(record.folder), requirement, "none", fix))
    return lines


def answers_of(
    record: Record, config: Config, task: str, columns: Sequence[str], split: str, rows: InMemory | None = None
) -> Answers:
    """Join a split's predictions with the groups of their rows.

    A column is looked for in the lines themselves, then in the data, whose rows are found by their places.

    Args:
        record: the run's.
        config: its run file.
        task: the task.
        columns: columns of the data, or those of the task that the run file maps; several make groups of all.
        split: which one.
        rows: the rows in memory that the run was trained with, where it was.

    Raises:
        RunFolderError: there are no predictions.
        DataError: a column is missing, has one value alone or too many, or the data cannot be read.
    """
    lines = lines_of(record, task, split)
    raw = _raw_rows(config, task, rows) if any(not _in_lines(lines, column) for column in columns) else {}
    values = [_values(config, task, column, lines, raw) for column in columns]
    kept, groups = [], []
    for place, line in enumerate(lines):
        held = [each[place] for each in values]
        if all(value is not None for value in held):
            kept.append(line)
            groups.append(BETWEEN.join(str(value) for value in held))
    found, where = sorted(set(groups)), "--group " + " --group ".join(columns)
    if len(found) < 2:
        said = f"`{found[0]}` alone in {len(kept)} rows of {split}" if found else f"no value in {len(lines)} rows"
        raise DataError(Fault(where, "have two groups or more", said))
    if len(found) > LIMIT_GROUPS:
        fix = "Add a column of fewer groups to the data, such as ranges of a number"
        raise DataError(Fault(where, f"have {LIMIT_GROUPS} groups or fewer", f"{len(found)} values", fix))
    return Answers(kept, groups, len(lines) - len(kept))


def _in_lines(lines: Sequence[Mapping[str, Any]], column: str) -> bool:
    return all(column in line["input"] for line in lines)


def _raw_rows(config: Config, task: str, rows: InMemory | None) -> dict[str, Row]:
    """Read a task's data as the user wrote it: place -> row."""
    where = f"tasks.{task}"
    data: Any = (rows or {}).get(task, config.data_of(task))
    if isinstance(data, str) and in_memory(data):
        fix = f"Give them as `rows={{'{task}': [...]}}`"
        raise DataError(Fault(f"{where}.data", "come with the rows in memory that the run had", "none", fix))
    reading = survey(where, data)
    if reading.faults:
        raise DataError(*reading.faults)
    return {record.place: record.row for records in reading.splits.values() for record in records}


def _values(
    config: Config, task: str, column: str, lines: Sequence[Mapping[str, Any]], raw: Mapping[str, Row]
) -> list[Any]:
    """Give a column's value in each row; None where it has none."""
    if _in_lines(lines, column):
        return [line["input"][column] for line in lines]
    name = config.tasks[task].columns.get(column, column)
    places = [line["place"] for line in lines]
    gone = [place for place in places if place not in raw]
    if gone:
        requirement, found = "hold the rows that the run answered", f"no row {gone[0]}"
        fix = "Bring the data back to what it was, or score the run again with `taskloom evaluate`"
        raise DataError(Fault(f"tasks.{task}.data", requirement, found, fix))
    values = [value_at(raw[place], name) for place in places]
    if all(value is ABSENT for value in values):
        known = list(dict.fromkeys(key for place in places for key in raw[place]))
        found = f"`{name}`; the columns are {listed(known)}"
        hint = nearest(name, known)
        raise DataError(Fault("--group", "be a column of the data", found, hint if hint.startswith("Did") else ""))
    return [None if value is ABSENT or value in (None, "") else value for value in values]
