"""Cross-validation: every row of every task is tested once, by a model that has not seen its text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from taskloom.config import Config, load_config
from taskloom.data import read
from taskloom.data.columns import ABSENT, value_at
from taskloom.data.folds import KEPT, FoldRow, folds
from taskloom.data.splits import identity_text
from taskloom.errors import ConfigError, Fault
from taskloom.record import VERSION, Record, check_own, write_json
from taskloom.run import ConfigLike, as_config, train
from taskloom.tasks import TASKS, Task
from taskloom.types import Row

FILE, FOLDS = "cross_validation.json", "folds"
PARTS = 5
"""Into how many parts of equal size numbers are sorted, so that folds have alike ones."""


def cross_validate(
    config: ConfigLike,
    out: str | Path,
    *,
    count: int | None = None,
    assignments: Sequence[str] = (),
    console: Console | None = None,
) -> dict[str, Any]:
    """Train as many runs as there are folds, and sum up their scores; called again, go on where it stopped.

    All rows of all splits are cut into folds: alike in labels, groups and near duplicates on one side, and a text that
    several tasks share in the same fold for all. Each fold is tested by a run on the others, whose validation rows are
    made out of them as usual.

    Args:
        config: a run file's path, a mapping, or a `Config`.
        out: where the runs and the outcome go.
        count: folds; by default those of ``evaluation.cross_validation``.
        assignments: ``a.b=value`` overrides.
        console: where progress is shown.

    Returns:
        what `FILE` holds: ``tasks`` (task -> metric -> ``mean``, ``deviation``, ``values`` by fold) and ``kept`` (task
        -> rows that are never tested, since their label stands in no other text).

    Raises:
        ConfigError: no number of folds is given, or a task has fewer rows than folds.
    """
    config, console, folder = as_config(config, assignments), console or Console(quiet=True), Path(out)
    check_own(folder, FOLDS, FILE)
    settings = config.evaluation.cross_validation
    count = count or (settings.folds if settings else None)
    if not count:
        fix = "Write `cross_validation: {folds: 5}`"
        raise ConfigError(Fault("evaluation.cross_validation", "say how many folds there are", "nothing", fix))
    held = {name: _read(config, name) for name in config.tasks}
    _refuse_small(held, count)
    described = {name: _fold_rows(config, name, rows) for name, rows in held.items()}
    placed = folds(described, count, config.training["seed"])
    base = _of_one_fold(config)
    runs = []
    for fold in range(count):
        console.print(f"fold {fold + 1} of {count}", highlight=False)
        rows = {name: _parted(held[name], placed[name], fold) for name in held}
        runs.append(train(base, folder / FOLDS / str(fold + 1), rows=rows, console=console).record)
    kept = {name: int((each == KEPT).sum()) for name, each in placed.items()}
    outcome = {"version": VERSION, "folds": count, "kept": kept, "tasks": summed_up(runs)}
    write_json(folder / FILE, outcome)
    return outcome


def summed_up(runs: Sequence[Record]) -> dict[str, dict[str, dict[str, Any]]]:
    """Give mean, deviation and values of every task's and metric's test score over runs."""
    found: dict[str, dict[str, list[float]]] = {}
    for record in runs:
        for score in record.scores():
            if score.split == "test" and score.group is None:
                found.setdefault(score.task, {}).setdefault(score.metric, []).append(score.value)
    return {
        task: {
            metric: {
                "mean": float(np.mean(values)),
                "deviation": float(np.std(values, ddof=1)) if len(values) > 1 else float("nan"),
                "values": values,
            }
            for metric, values in metrics.items()
        }
        for task, metrics in found.items()
    }


def _refuse_small(held: Mapping[str, Sequence[Row]], count: int) -> None:
    for name, rows in held.items():
        if len(rows) < count:
            found = f"{len(rows)} rows for {count} folds"
            raise ConfigError(Fault(f"tasks.{name}.data", "have as many rows as there are folds", found))


def _of_one_fold(config: Config) -> Config:
    """Give the run of one fold: tested on its rows, which are in memory."""
    values = config.resolved()
    values["evaluation"] |= {"cross_validation": None, "splits": ["test"]}
    base = load_config(values)
    tasks = {name: section.model_copy(update={"data": "memory"}) for name, section in base.tasks.items()}
    return replace(base, tasks=tasks)


def _read(config: Config, name: str) -> list[Row]:
    """Give a task's rows of all splits, as the user has them."""
    splits = read(f"tasks.{name}", config.data_of(name), bad_rows=config.bad_rows)
    rows = [record.row for held in splits.values() for record in held]
    limit = config.tasks[name].limit_rows
    return rows[:limit] if limit else rows


def _parted(rows: Sequence[Row], placed: Any, fold: int) -> dict[str, list[Row]]:
    return {
        "train": [row for row, own in zip(rows, placed, strict=True) if own != fold],
        "test": [row for row, own in zip(rows, placed, strict=True) if own == fold],
    }


def _fold_rows(config: Config, name: str, rows: Sequence[Row]) -> list[FoldRow]:
    """Say of each row what decides its fold: its text, its labels and its group."""
    section = config.tasks[name]
    task: Task = TASKS.load(section.type)(**config.options(name))
    by_group = config.splits.by == "group"
    numbers = parts_of_numbers(task, rows, section.columns)
    found = []
    for place, row in enumerate(rows):
        own = {
            column: _value(row, column, section.columns) for column in (*task.identity_columns, *task.answer_columns)
        }
        labels = numbers[place] if numbers else _labels(own, sorted(task.answer_columns))
        group = _value(row, "group", section.columns) if by_group else None
        text = identity_text(own, task.identity_columns)
        found.append(FoldRow(text, labels, None if group is None else str(group)))
    return found


def _value(row: Row, column: str, columns: Mapping[str, str]) -> Any:
    value = value_at(row, columns.get(column, column))
    return None if value is ABSENT else value


def _labels(row: Row, answers: Sequence[str]) -> tuple[str, ...]:
    """Give a row's labels: names, or the names in a list of them; texts of several words are no labels."""
    found: list[str] = []
    for column in answers:
        value = row.get(column)
        held = value if isinstance(value, list) else [value]
        named = [each for each in held if isinstance(each, bool | int | str) and len(str(each).split()) == 1]
        found += [f"{column}={each}" for each in named]
    return tuple(dict.fromkeys(found))


def parts_of_numbers(task: Task, rows: Sequence[Row], columns: Mapping[str, str]) -> list[tuple[str, ...]]:
    """Sort the numbers that a task predicts into parts of equal size; nothing for other tasks."""
    if task.predicts != "number":
        return []
    (answer,) = task.answer_columns & task.columns.keys()
    values = np.array([_number(_value(row, answer, columns)) for row in rows])
    ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    return [(f"part {int(rank * PARTS / len(rows))}",) for rank in ranks]


def _number(value: Any) -> float:
    """Read a number; what is none, in rows that may be left out, comes last."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
