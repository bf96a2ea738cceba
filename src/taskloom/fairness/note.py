"""fairness.json: what was found out about the groups of a run's tasks, read by reports.

::

    {"version": 1, "tasks": {TASK: {
        "groups":     [one entry for each choice of columns and split; see `auditing.Audit.as_json`],
        "swaps":      one entry; see `swapping.Swapped.as_json`,
        "thresholds": one entry; see `thresholds.Adjusted.as_json`}}}

A command replaces its own entry and keeps the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taskloom.record import VERSION, Record, read_note, write_json

FILE = "fairness.json"


def read_fairness(record: Record) -> dict[str, dict[str, Any]]:
    """Give each task's entries; none where nothing was looked at yet."""
    tasks: dict[str, dict[str, Any]] = read_note(record.folder / FILE).get("tasks", {})
    return tasks


def note_groups(record: Record, task: str, entry: Mapping[str, Any]) -> None:
    """Write an entry about groups, in the place of one of the same columns and split."""
    tasks = read_fairness(record)
    held = tasks.setdefault(task, {}).setdefault("groups", [])
    held[:] = [old for old in held if (old["columns"], old["split"]) != (entry["columns"], entry["split"])]
    held.append(entry)
    _write(record, tasks)


def note_entry(record: Record, task: str, key: str, entry: Mapping[str, Any]) -> None:
    """Write the one entry that a task has of a kind: "swaps" or "thresholds"."""
    tasks = read_fairness(record)
    tasks.setdefault(task, {})[key] = entry
    _write(record, tasks)


def _write(record: Record, tasks: Mapping[str, Any]) -> None:
    write_json(record.folder / FILE, {"version": VERSION, "tasks": tasks})
