"""The user's columns under the names that a task knows."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from taskloom.data.records import Record
from taskloom.errors import DataError, Fault, listed, nearest

if TYPE_CHECKING:
    from taskloom.tasks import Task

GROUP = "group"
"""The optional column of every task: scores are also given by its values, and a split can keep them whole."""

PROTECTED = "fairness.group"
"""The column of a row's group where a task has `fairness`; no column of a task has a dot, so it stands beside all."""

ABSENT = object()
"""What a row gives for a column that it lacks."""


@dataclass(frozen=True)
class _Choice:
    """Which of the user's columns serves a column of the task; `asked` where the user wrote it."""

    column: str
    user: str
    asked: bool
    required: bool


@dataclass(frozen=True)
class _Names:
    """What messages call the task and its data."""

    where: str
    source: str


def map_columns(
    splits: Mapping[str, Sequence[Record]],
    mapping: Mapping[str, str],
    task: Task | type[Task],
    where: str,
    *,
    source: str = "",
) -> dict[str, list[Record]]:
    """Bring rows under the column names of a task.

    Args:
        splits: split -> its rows as the user wrote them.
        mapping: the task's column -> the user's, ``answers.text`` for a field inside one; a column that is not named
            has the same name in both.
        task: whose columns are meant.
        where: the task's key in the run file, such as ``tasks.intent``, for messages.
        source: the data's name in messages; `where` + ".data" when empty.

    Returns:
        Split -> its rows with the task's columns alone, and ``group`` where there is one. A column that a row lacks
        is absent from it, an optional one also where its value is None or an empty text.

    Raises:
        DataError: a key that the task does not know, or a column that the data does not have.
    """
    known = [*task.columns, *task.optional_columns, GROUP, *({PROTECTED} & mapping.keys())]
    faults = [_unknown_key(key, known, where) for key in mapping if key not in known]
    choices = [
        _Choice(column, mapping.get(column, column), column in mapping, column in task.columns)
        for column in dict.fromkeys(known)
    ]
    names = _Names(where, source or f"{where}.data")
    for choice in choices:
        if choice.required or choice.asked:
            used = {other.user for other in choices if other is not choice}
            faults += _missing(choice, splits, used, names)
    if faults:
        raise DataError(*faults)
    return {split: [_mapped(record, choices) for record in records] for split, records in splits.items()}


def value_at(row: Mapping[str, Any], name: str) -> Any:
    """Give a column's value by its name, or by its path; the marker `ABSENT` where there is none.

    A list of objects on the way gives the list of their values: ``answers.text`` reads both
    ``{"text": ["a", "b"]}`` and ``[{"text": "a"}, {"text": "b"}]``.
    """
    if name in row:
        return row[name]
    head, dot, rest = name.partition(".")
    if not dot or head not in row:
        return ABSENT
    inside = row[head]
    if isinstance(inside, Mapping):
        return value_at(inside, rest)
    if isinstance(inside, list) and all(isinstance(each, Mapping) for each in inside):
        values = [value_at(each, rest) for each in inside]
        return ABSENT if any(value is ABSENT for value in values) else values
    return ABSENT


def _mapped(record: Record, choices: Iterable[_Choice]) -> Record:
    row = {}
    for choice in choices:
        value = value_at(record.row, choice.user)
        # Where JSON leaves a column out, Parquet and the hub write None, and CSV an empty field.
        if value is ABSENT or (value in (None, "") and not choice.required):
            continue
        row[choice.column] = value
    return Record(row, record.file, record.line, record.unit)


def _unknown_key(key: str, known: Sequence[str], where: str) -> Fault:
    names = list(dict.fromkeys(known))
    hint = nearest(key, names)
    requirement = f"be a column of the task ({listed(names)})"
    return Fault(f"{where}.columns.{key}", requirement, f"`{key}`", hint if hint.startswith("Did") else "")


def _missing(choice: _Choice, splits: Mapping[str, Sequence[Record]], used: set[str], names: _Names) -> list[Fault]:
    """Say where a column is in no row: of all the data, or of one split."""
    filled = [split for split, records in splits.items() if records]
    absent = [split for split in filled if all(value_at(record.row, choice.user) is ABSENT for record in splits[split])]
    if not absent:
        return []
    if len(absent) == len(filled):
        every = [record.row for split in filled for record in splits[split]]
        return [_no_column(choice, every, used, names.where, names.source)]
    if not choice.required:
        return []
    return [
        _no_column(choice, [record.row for record in splits[split]], used, names.where, splits[split][0].file)
        for split in absent
    ]


def _no_column(choice: _Choice, rows: Sequence[Mapping[str, Any]], used: set[str], where: str, source: str) -> Fault:
    columns = _columns_of(rows)
    inside = _columns_inside(rows, choice.user)
    listing = (
        f"the columns of `{choice.user.partition('.')[0]}` are {inside}" if inside else f"the columns are {columns}"
    )
    guess = _guess(choice, [name for name in [*inside, *columns] if name not in used])
    key = f"columns.{choice.column}" if choice.column != PROTECTED else PROTECTED
    name = key.rpartition(".")[2]
    fix = f"Write `{name}: {guess}`" if guess else f"Write `{name}: NAME` with one of them"
    return Fault(f"{where}.{key}", f"be a column of `{source}`", f"`{choice.user}`; {listing}", fix)


def _columns_of(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    names: dict[str, None] = {}
    for row in rows:
        names.update(dict.fromkeys(row))
    return [str(name) for name in names]


def _columns_inside(rows: Iterable[Mapping[str, Any]], name: str) -> list[str]:
    """List the fields of the column that a dotted name starts with, dotted too."""
    head, dot, _ = name.partition(".")
    if not dot:
        return []
    for row in rows:
        value = row.get(head)
        inner = value[0] if isinstance(value, list) and value else value
        if isinstance(inner, Mapping):
            return [f"{head}.{field}" for field in inner]
    return []


def _guess(choice: _Choice, free: Sequence[str]) -> str:
    """Guess the column that was meant among those that no other column of the task uses."""
    for name in (choice.user, choice.column):
        close = difflib.get_close_matches(name, free, n=1, cutoff=0.6)
        if close:
            return close[0]
    return free[0] if len(free) == 1 else ""
