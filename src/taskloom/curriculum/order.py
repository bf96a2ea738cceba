"""Which task enters when, and how many of a task's items are open: pure, from difficulties to a plan's changes.

Competence: ``c(t) = min(1, sqrt(t (1 - c0^2) / T + c0^2))`` (Platanios et al., Competence-based curriculum learning for
neural machine translation, 2019, arXiv:1903.09848), so that new items come in at a rate that falls as more are open.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from taskloom.batches.plan import Pace
from taskloom.config.sections import ItemCurriculum, TaskCurriculum

ROUNDING = 1e-9
"""What a product of shares may be off by, in steps."""

DIRECTIONS = {"easy_first": "easy first", "hard_first": "hard first"}


@dataclass(frozen=True)
class Entry:
    """A task is trained, or is not, from a step on.

    Attributes:
        update: optimizer steps done before.
        task: its name.
        factor: 1 where it is trained from here on, 0 where it is not.
        reason: a full sentence.
    """

    update: int
    task: str
    factor: float
    reason: str


@dataclass(frozen=True)
class Competence:
    """The share of a task's items that is open, by optimizer steps done.

    Attributes:
        start: c0, the share at the first step.
        updates: T, the steps after which all are open.

    >>> [Competence(0.1, 100)(update) for update in (0, 25, 100, 1000)]  # doctest: +ELLIPSIS
    [0.1, 0.5074..., 1.0, 1.0]
    """

    start: float
    updates: float

    def __call__(self, update: int) -> float:
        """Give the share at a step."""
        if update >= self.updates:
            return 1.0
        return min(1.0, math.sqrt(update * (1 - self.start**2) / self.updates + self.start**2))


def order_of_tasks(section: TaskCurriculum, difficulty: Mapping[str, float]) -> list[str]:
    """Give the tasks in the order of entering; alike ones as they stand in the run file.

    Args:
        section: by what, and in which direction.
        difficulty: task -> its difficulty; not read where the order is listed.
    """
    if section.by == "listed":
        return list(section.order or [])
    sign = 1 if section.direction == "easy_first" else -1
    return sorted(difficulty, key=lambda name: sign * difficulty[name])


def starts(section: TaskCurriculum, tasks: int, updates: int) -> list[int]:
    """Give the step after which each place of the order enters: [task], the first ones at 0, the last by `until`."""
    later = tasks - section.first
    stages = [math.floor(section.until * updates * stage / later + ROUNDING) for stage in range(1, later + 1)]
    return [0] * section.first + stages


def entries(
    order: Sequence[str], section: TaskCurriculum, updates: int, difficulty: Mapping[str, float]
) -> list[Entry]:
    """Give what changes when, by step.

    Every task has a line at step 0, which says whether it is trained from the start.

    Args:
        order: the tasks in the order of entering.
        section: how many are there from the start, until when the last enters, and whether tasks leave.
        updates: optimizer steps of the run.
        difficulty: task -> what it was ordered by, for the reasons; may be empty.
    """
    found = []
    for place, (name, start) in enumerate(zip(order, starts(section, len(order), updates), strict=True)):
        why = f"{place + 1} of {len(order)} {_why(section, difficulty.get(name))}"
        if start:
            found.append(Entry(0, name, 0.0, f"`{name}` waits until {start} steps are done: {why}."))
            found.append(Entry(start, name, 1.0, f"`{name}` enters: {why}."))
        else:
            found.append(Entry(0, name, 1.0, f"`{name}` is there from the start: {why}."))
        if section.leave and place >= section.first:
            kept = "task" if section.first == 1 else f"{section.first} tasks"
            reason = f"`{order[place - section.first]}` leaves as `{name}` enters: the newest {kept} alone stays."
            reason = reason.replace("alone stays", "alone stay") if section.first > 1 else reason
            found.append(Entry(start, order[place - section.first], 0.0, reason))
    return sorted(found, key=lambda entry: entry.update)


def pace(section: ItemCurriculum, difficulty: ArrayLike, updates: int) -> Pace:
    """Give the pacing of one task's items.

    Args:
        section: direction, start and end.
        difficulty: [item] difficulties; alike items keep their order.
        updates: optimizer steps of the run.
    """
    values = np.asarray(difficulty, dtype=np.float64)
    order = np.argsort(values if section.direction == "easy_first" else -values, kind="stable")
    return Pace(order, Competence(section.start, section.until * updates))


def _why(section: TaskCurriculum, value: float | None) -> str:
    """Say what a task's place comes from."""
    if section.by == "listed":
        return "as listed"
    words = f"by {section.by}, {DIRECTIONS[section.direction]}"
    return words if value is None else f"{words} ({told(section, value)})"


def told(section: TaskCurriculum, value: float) -> str:
    """Say a task's difficulty in its own unit."""
    if section.by == "length":
        return f"{value:.1f} tokens an item"
    if not math.isfinite(value):
        return "a loss that is not finite"
    if section.by == "loss":
        return f"zero-shot loss {value:.3f}"
    return f"its loss {'fell' if value <= 0 else 'rose'} by {abs(value):.1%} in the probe"
