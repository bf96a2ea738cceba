"""Data: rows from files, memory and the hub, checked against their task, split without leakage, tokenised once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from taskloom.data.columns import map_columns
from taskloom.data.records import SPLITS, BadRows, Record
from taskloom.data.rows import Counts, SplitCounts, check_rows
from taskloom.data.sources import Data, read, refusals, survey
from taskloom.data.splits import Made, complete, leaks
from taskloom.errors import DataError
from taskloom.types import Row

if TYPE_CHECKING:
    from taskloom.tasks import Task

__all__ = [
    "SPLITS",
    "BadRows",
    "Corpus",
    "Counts",
    "Data",
    "Made",
    "Record",
    "SplitCounts",
    "check_rows",
    "complete",
    "leaks",
    "load",
    "map_columns",
    "read",
]


@dataclass
class Corpus:
    """A task's rows, ready to be tokenised.

    Attributes:
        name: the task's name.
        splits: split -> its rows under the task's columns.
        places: split -> where each of its rows stands ("train.jsonl:17").
        counts: rows read, kept and skipped, by the splits of the data.
        made: the splits that were made out of train.
        leaks: (earlier split, later split) -> rows of the later whose text also stands in the earlier, of the splits
            that the data has itself.
    """

    name: str
    splits: dict[str, list[Row]]
    places: dict[str, list[str]]
    counts: Counts
    made: tuple[Made, ...]
    leaks: dict[tuple[str, str], int]


def load(
    name: str,
    data: Data,
    task: Task,
    *,
    columns: Mapping[str, str] | None = None,
    bad_rows: BadRows = "refuse",
    seed: int = 0,
    validation: float = 0.1,
    test: float = 0.1,
    group: str | None = None,
) -> Corpus:
    """Read a task's data, check it, fit the task, and make the splits that are missing.

    The task is fitted on all rows that the data calls train, before splits are made out of them: a label that only a
    held-out row has is then known, and not a fault of the user's data.

    Args:
        name: the task's name; messages say ``tasks.NAME``.
        data: as of `read`.
        task: what the rows are for; fitted in place.
        columns: the task's column -> the user's, where they differ.
        bad_rows: refuse the data, or skip lines and rows that are wrong.
        seed: of the splits that are made.
        validation: the share of train for a validation split, where there is none; 0 makes none.
        test: the same for test.
        group: the task's column whose values keep rows on one side of a split that is made; None for near duplicates.

    Raises:
        DataError: everything that is wrong with the task's data.
    """
    where = f"tasks.{name}"
    reading = survey(where, data)
    if reading.faults:
        raise DataError(*refusals(reading, bad_rows))
    try:
        mapped = map_columns(reading.splits, columns or {}, task, where, source=reading.source)
    except DataError as error:
        raise DataError(*error.faults, *refusals(reading, bad_rows)) from None
    kept, counts = check_rows(mapped, task, where=where, bad_rows=bad_rows, bad=reading.bad)
    overlaps = leaks(kept, task.identity_columns)
    shares = {"validation": validation, "test": test}
    whole, made = complete(kept, task.identity_columns, **shares, seed=seed, group=group, where=f"{where}.data")
    rows = {split: [record.row for record in records] for split, records in whole.items()}
    places = {split: [record.place for record in records] for split, records in whole.items()}
    return Corpus(name, rows, places, counts, made, overlaps)
