"""From the run file's `curriculum:` to a plan that follows it, with difficulty found or read back."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taskloom.batches.plan import Plan
from taskloom.config import Config
from taskloom.config.sections import CurriculumSection
from taskloom.curriculum.measuring import Measuring
from taskloom.curriculum.order import entries, order_of_tasks, pace
from taskloom.errors import ConfigError, Fault, listed
from taskloom.gradients.ranks import rank, wait_for_all
from taskloom.model import MultiTaskModel
from taskloom.policy import Decision
from taskloom.preparation import Prepared
from taskloom.record import VERSION, Record, write_json

POLICY = "curriculum"
"""Who a curriculum's decisions are by, in decisions.jsonl."""


@dataclass(frozen=True)
class Difficulty:
    """How difficult tasks and items are.

    Attributes:
        tasks: task -> difficulty, empty where the order is listed; None where there is no order, or none known yet.
        items: task -> [item] difficulties, of the tasks that are paced; None as above.
    """

    tasks: Mapping[str, float] | None = None
    items: Mapping[str, NDArray[np.float64]] | None = None


def begin_curriculum(
    config: Config,
    prepared: Prepared,
    model: MultiTaskModel,
    plan: Plan,
    folder: Path,
    *,
    tell: Callable[[str], None] = lambda text: None,
) -> list[Decision]:
    """Apply a run's curriculum to its plan; a difficulty that takes the model is measured once in a run's life.

    Call it once in every process that trains, at the start and when resuming, after the model is on its device and
    holds the weights that a run begins with, and before the plan has drawn anything or takes up the state of a
    checkpoint: what policies changed since lies in that state. What is measured is written to the folder's
    curriculum.json, whole or not at all, and read from there when the run is resumed. The model, its gradients and
    random numbers are as before, bit for bit.

    Args:
        config: the run.
        prepared: its data.
        model: not trained yet.
        plan: of this run; its `factors` and `paces` are changed.
        folder: the run folder.
        tell: says something to the user.

    Returns:
        what happens to tasks, by step; `step` is the number of optimizer steps after which it holds. Empty without
        `curriculum.tasks`.

    Raises:
        ConfigError: a task would never be drawn, or a step would have no rows.
    """
    section = config.curriculum
    difficulty = known_difficulty(section, prepared)
    missing_tasks = section.tasks is not None and difficulty.tasks is None
    missing_items = section.items is not None and difficulty.items is None
    if missing_tasks or missing_items:
        record = Record(folder)
        if not rank() and not _is_complete(record.curriculum(), section, prepared):
            _measure(config, Measuring(config, prepared, model, tell), record)
        wait_for_all()
        held = record.curriculum()
        # Also a run that has just measured reads what it wrote, so that it is the same as when it is resumed.
        tasks = _tasks_of(held) if missing_tasks else difficulty.tasks
        items = _items_of(held) if missing_items else difficulty.items
        difficulty = Difficulty(tasks, items)
    return apply(plan, section, difficulty)


def known_difficulty(section: CurriculumSection, prepared: Prepared) -> Difficulty:
    """Give what is known of difficulty without a model: lengths, and the order that is listed."""
    tasks: dict[str, float] | None = None
    items: dict[str, NDArray[np.float64]] | None = None
    if section.tasks is not None and section.tasks.by in {"length", "listed"}:
        listed = section.tasks.by == "listed"
        tasks = {} if listed else {name: float(_tokens(prepared, name).mean()) for name in prepared.tasks}
    if section.items is not None and section.items.by == "length":
        items = {name: _tokens(prepared, name) for name in paced_tasks(section, prepared)}
    return Difficulty(tasks, items)


def apply(plan: Plan, section: CurriculumSection, difficulty: Difficulty) -> list[Decision]:
    """Change a plan that has drawn nothing yet, as far as difficulty is known; see `begin_curriculum`."""
    if section.items is not None and difficulty.items is not None:
        plan.paces |= {name: pace(section.items, held, plan.updates) for name, held in difficulty.items.items()}
    if section.tasks is None or difficulty.tasks is None:
        return []
    order = order_of_tasks(section.tasks, difficulty.tasks)
    found = entries(order, section.tasks, plan.updates, difficulty.tasks)
    for entry in found:  # by step, since a change takes what holds later along
        plan.scale(entry.task, entry.factor, entry.update, layer="curriculum")
    _refuse_idleness(plan)
    return [Decision(entry.update, POLICY, entry.task, entry.factor, entry.reason) for entry in found]


def _refuse_idleness(plan: Plan) -> None:
    """Refuse a schedule under which a task is never drawn, or a step has no rows."""
    totals, empty = plan.foreseen()
    never = [name for name, count in totals.items() if not count]
    if never:
        fix = "Train longer, lower `until`, or write `leave: false`"
        raise ConfigError(Fault("curriculum.tasks", "let every task be drawn", f"no draw of {listed(never, 10)}", fix))
    if empty is not None:
        fix = "Write `leave: false`, a larger `first`, or other `start_step`, `end_step` and `max_epochs` of tasks"
        found = f"none in step {empty}"
        raise ConfigError(Fault("curriculum.tasks", "leave a task with rows to every step", found, fix))


def paced_tasks(section: CurriculumSection, prepared: Prepared) -> list[str]:
    """Give the tasks whose items are paced, in the order of the run."""
    if section.items is None:
        return []
    return [name for name in prepared.tasks if section.items.tasks is None or name in section.items.tasks]


def _tokens(prepared: Prepared, name: str) -> NDArray[np.float64]:
    return prepared.items[name]["train"].tokens.astype(np.float64)


# --- what is measured -------------------------------------------------------------------------------------------------


def _measure(config: Config, measuring: Measuring, record: Record) -> None:
    """Measure what the section asks for, and write it."""
    section = config.curriculum
    found: dict[str, Any] = {}
    if section.tasks is not None and section.tasks.by in {"loss", "speed"}:
        by = section.tasks.by
        measuring.tell(f"curriculum: measuring the tasks' {'zero-shot losses' if by == 'loss' else 'learning speed'}")
        values = measuring.task_losses() if by == "loss" else measuring.task_speeds()
        found["tasks"] = {"by": by, "difficulty": {name: _short(value) for name, value in values.items()}}
    if section.items is not None and section.items.by == "loss":
        held = {}
        for name in paced_tasks(section, measuring.prepared):
            measuring.tell(f"curriculum: measuring the zero-shot losses of the items of {name}")
            held[name] = [_short(value) for value in measuring.item_losses(name).tolist()]
        found["items"] = {"by": "loss", "difficulty": held}
    write_json(record.curriculum_json, {"version": VERSION, **found})


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def _is_complete(held: Mapping[str, Any], section: CurriculumSection, prepared: Prepared) -> bool:
    """Say whether the file holds what the section asks for, of the items that there are now."""
    if section.tasks is not None and section.tasks.by in {"loss", "speed"}:
        tasks = held.get("tasks", {})
        if tasks.get("by") != section.tasks.by or tasks["difficulty"].keys() != prepared.tasks.keys():
            return False
    if section.items is None or section.items.by != "loss":
        return True
    counts = {name: len(values) for name, values in held.get("items", {}).get("difficulty", {}).items()}
    return counts == {name: len(prepared.items[name]["train"]) for name in paced_tasks(section, prepared)}


def _tasks_of(held: Mapping[str, Any]) -> dict[str, float]:
    return {name: _number(value) for name, value in held["tasks"]["difficulty"].items()}


def _items_of(held: Mapping[str, Any]) -> dict[str, NDArray[np.float64]]:
    return {name: np.array([_number(v) for v in values]) for name, values in held["items"]["difficulty"].items()}


def _number(value: float | None) -> float:
    return math.inf if value is None else float(value)  # JSON has no infinity
