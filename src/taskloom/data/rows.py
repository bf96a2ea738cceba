"""Rows that a task can use, and those that it cannot."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from taskloom.data.columns import GROUP
from taskloom.data.records import BadRow, BadRows, Record, in_order
from taskloom.errors import DataError, Fault

if TYPE_CHECKING:
    from taskloom.tasks import Task


@dataclass
class SplitCounts:
    """How many rows of one split were read and kept.

    Attributes:
        read: lines or rows in the data, those that are wrong included.
        kept: rows that the run uses.
        skipped: why -> how many were left out for it, most frequent first.
    """

    read: int = 0
    kept: int = 0
    skipped: dict[str, int] = field(default_factory=dict)


@dataclass
class Counts:
    """How many rows of each split were read and kept, for the run folder."""

    splits: dict[str, SplitCounts] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Give split -> read, kept, skipped."""
        return {
            split: {"read": counts.read, "kept": counts.kept, "skipped": dict(counts.skipped)}
            for split, counts in self.splits.items()
        }


def check_rows(
    splits: Mapping[str, Sequence[Record]],
    task: Task,
    *,
    where: str,
    bad_rows: BadRows = "refuse",
    bad: Mapping[str, Sequence[BadRow]] | None = None,
) -> tuple[dict[str, list[Record]], Counts]:
    """Keep the rows that a task can use, and fit the task on those of train.

    Every row is checked by itself; then the task learns from the train rows, and the other splits are checked for
    what train could not teach.

    Args:
        splits: split -> its rows under the task's columns; train among them.
        task: checks the rows, and is fitted in place.
        where: the task's key in the run file, for messages.
        bad_rows: "refuse" raises on the first pass over the data with all that is wrong; "skip" leaves out and counts.
        bad: split -> lines that were no rows, refused or counted with the rest.

    Returns:
        Split -> the rows kept, and the counts.

    Raises:
        DataError: rows to refuse, a split without any row left, or what `task.fit` raises, with the task's key.
    """
    wrong = {split: list((bad or {}).get(split, ())) for split in splits}
    read = {split: len(splits[split]) + len(wrong[split]) for split in splits}
    kept = {split: _sieve(records, wrong[split], task, fitted=False) for split, records in splits.items()}
    faults: list[Fault] = []
    if kept["train"]:
        try:
            task.fit([record.row for record in kept["train"]])
        except DataError as error:
            faults += [_under(where, fault, task) for fault in error.faults]
        else:
            others = {split: records for split, records in kept.items() if split != "train"}
            kept |= {split: _sieve(records, wrong[split], task, fitted=True) for split, records in others.items()}
    if bad_rows == "refuse":
        refused = [each.fault for split in splits for each in in_order(wrong[split])]
        faults = [*refused, *faults]
    else:
        faults = [*(_emptied(where, split, wrong[split], task) for split in splits if not kept[split]), *faults]
    if faults:
        raise DataError(*faults)
    counts = {split: SplitCounts(read[split], len(kept[split]), _reasons(wrong[split], task)) for split in splits}
    return kept, Counts(counts)


def _sieve(records: Sequence[Record], wrong: list[BadRow], task: Task, *, fitted: bool) -> list[Record]:
    """Give the rows that pass; what does not is added to `wrong`."""
    kept = []
    for record in records:
        complaint = task.unseen(record.row) if fitted else _complaint(record, task)
        if complaint is None:
            kept.append(record)
        else:
            requirement, fix = _parts(complaint)
            wrong.append(BadRow(record.file, record.line, requirement, fix=fix, unit=record.unit))
    return kept


def _parts(complaint: str) -> tuple[str, str]:
    """Part what a task says of a row from a hint that follows as a sentence of its own."""
    requirement, tick, hint = complaint.strip().partition("`. ")
    return (f"{requirement}`", hint) if tick else (requirement.rstrip("."), "")


def _complaint(record: Record, task: Task) -> str | None:
    # Asked here once, so that no task has to guard its own look-ups.
    for column in task.columns:
        if column not in record.row:
            return f"have a `{column}`"
    group = record.row.get(GROUP)
    if group is not None and not isinstance(group, str | int | float):
        return f"have one name or number in `{GROUP}`. Found a `{type(group).__name__}`"
    return task.fault(record.row)


def _reasons(wrong: Sequence[BadRow], task: Task) -> dict[str, int]:
    return dict(Counter(_reason(each, task) for each in wrong).most_common())


def _reason(bad: BadRow, task: Task) -> str:
    """Give what was wrong without the values that were found, which would make every row a reason of its own."""
    columns = {*task.columns, *task.optional_columns, GROUP}

    def without_value(quoted: re.Match[str]) -> str:
        return quoted[0] if quoted[1].partition(".")[0] in columns else "`…`"

    requirement = re.split(r", not |\. Found ", bad.requirement)[0]
    return re.sub(r"(?<![\w-])\d+", "…", re.sub(r"`([^`]*)`", without_value, requirement))


def _under(where: str, fault: Fault, task: Task) -> Fault:
    """Name the task's key: it knows its column or option, but not its name among the faults of several tasks."""
    column = fault.where in task.columns or fault.where in task.optional_columns
    return replace(fault, where=f"{where}.columns.{fault.where}" if column else f"{where}.{fault.where}")


def _emptied(where: str, split: str, wrong: Sequence[BadRow], task: Task) -> Fault:
    reasons = [f"{count} should {reason}" for reason, count in list(_reasons(wrong, task).items())[:5]]
    found = f"{len(wrong)} row{'s' * (len(wrong) != 1)}, all skipped: {'; '.join(reasons)}" if wrong else "none"
    return Fault(f"{where}.data.{split}", "keep at least one row", found)
