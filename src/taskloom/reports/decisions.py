"""What a report says of a run's decisions: which task was trained when, how much, by whose word and why."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from taskloom.policy import Decision

LIMIT_LINES = 200
"""Decisions that a page lists; the timeline is drawn from all of them."""


@dataclass(frozen=True)
class Stretch:
    """A part of a run in which a task's factor stayed the same.

    Attributes:
        left: where it begins, in percent of the run.
        width: how much of the run it is, in percent.
        factor: the factor.
        first: the step at which it begins.
    """

    left: float
    width: float
    factor: float
    first: int

    @property
    def kind(self) -> str:
        """Say how much the task is trained: "none", "less", "full" or "more"."""
        if self.factor == 1:
            return "full"
        return "none" if self.factor == 0 else "less" if self.factor < 1 else "more"


@dataclass(frozen=True)
class Strip:
    """One task's factor over the run."""

    task: str
    stretches: list[Stretch]

    @property
    def words(self) -> str:
        """Say what is drawn."""
        return ", ".join(f"factor {each.factor:g} from step {each.first}" for each in self.stretches)


@dataclass(frozen=True)
class DecisionFacts:
    """All decisions of a run.

    Attributes:
        lines: the first ones, in the order of the log.
        left_out: how many more there are.
        strips: each task that was decided on, in the order of its first decision.
        steps: the step at which the drawing ends.
    """

    lines: list[Decision]
    left_out: int
    strips: list[Strip]
    steps: int


def decision_facts(rows: list[dict[str, Any]], last: int) -> DecisionFacts | None:
    """Sum up the log of decisions; None where nothing was decided.

    Args:
        rows: lines of decisions.jsonl.
        last: the last step of the run.
    """
    if not rows:
        return None
    lines = [_line(row) for row in rows]
    steps = max(1, last, *(line.step for line in lines))
    by_task: dict[str, list[Decision]] = {}
    for line in lines:
        by_task.setdefault(line.task, []).append(line)
    strips = [Strip(task, _stretches(held, steps)) for task, held in by_task.items()]
    return DecisionFacts(lines[:LIMIT_LINES], len(lines[LIMIT_LINES:]), strips, steps)


def _line(row: dict[str, Any]) -> Decision:
    factor = row.get("factor")
    known = float(factor) if isinstance(factor, int | float) else math.nan
    step = row["step"] if isinstance(row.get("step"), int) else 0
    return Decision(step, str(row.get("policy") or ""), str(row.get("task")), known, str(row.get("reason") or ""))


def _stretches(lines: list[Decision], steps: int) -> list[Stretch]:
    """Give the parts of the run between a task's decisions; of several in one step the last one holds."""
    factors = {0: 1.0} | {line.step: line.factor for line in lines if math.isfinite(line.factor)}
    starts = sorted(factors)
    found = []
    for start, end in zip(starts, [*starts[1:], steps], strict=True):
        if end > start:
            found.append(
                Stretch(round(100 * start / steps, 2), round(100 * (end - start) / steps, 2), factors[start], start)
            )
    return found
