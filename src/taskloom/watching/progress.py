"""How a run stands: the lines of its folder, summed up as they come."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taskloom.lock import holder_lives
from taskloom.record import Record, read_note
from taskloom.watching.curve import Curve
from taskloom.watching.tail import Tail

LIMIT_RECENT = 50
"""The last steps, of which speed and shares are means."""

LIMIT_LOSSES = 10
"""The last steps with rows of a task, of which its loss is the mean."""

LIMIT_CONFLICTS = 20
"""The last recorded steps, of which cosines are means."""

LIMIT_DECISIONS = 3

KILLED, SCORING = "killed", "scoring"
"""What state.json cannot say: a process that is gone said nothing, and training ends before scoring does."""


@dataclass
class TaskProgress:
    """How one task stands.

    Attributes:
        curve: its loss over the run.
        losses: loss and examples of the last steps in which it had rows.
        counts: its examples in the last steps.
        weight: with which its gradient counted last.
        learning_rate: of its own parts, in the last step; None where the run did not record it.
        metric: the name of its own metric; empty before the first evaluation.
        score: of the last evaluation.
        before: of the evaluation at an earlier step; None where there was none.
    """

    curve: Curve = field(default_factory=Curve)
    losses: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=LIMIT_LOSSES))
    counts: deque[int] = field(default_factory=lambda: deque(maxlen=LIMIT_RECENT))
    weight: float | None = None
    learning_rate: float | None = None
    metric: str = ""
    score: float | None = None
    before: float | None = None

    @property
    def loss(self) -> float | None:
        """The mean loss of the examples of the last steps in which it had any."""
        count = sum(count for _, count in self.losses)
        return sum(loss * each for loss, each in self.losses) / count if count else None

    @property
    def examples(self) -> int:
        """How many examples it had in the last steps."""
        return sum(self.counts)


class Progress:
    """Follows a run folder; `update` reads what is new.

    Args:
        folder: the run folder.

    Attributes:
        tasks: name -> how it stands, in the run's order.
        step: the last step that was read.
        steps: how many the run has; None where its folder does not say.
        status: as in state.json, or `KILLED`, or `SCORING`.
        composite: the last composite score, and the one before.
        learning_rate: of the shared parts, in the last step.
        decisions: the last lines of decisions.
        skipped: how many steps were left out because a gradient was not finite.

    Raises:
        RunFolderError: from `update`, where the folder is no run folder, or of another version.
    """

    def __init__(self, folder: Path | str) -> None:
        self.record = Record(folder)
        self._steps, self._decisions = Tail(self.record.steps_jsonl), Tail(self.record.decisions_jsonl)
        self.steps: int | None = None
        self.status = ""
        self.decisions: deque[Mapping[str, Any]] = deque(maxlen=LIMIT_DECISIONS)
        self._begin()

    def _begin(self) -> None:
        self.tasks: dict[str, TaskProgress] = {}
        self.step = 0
        self.composite: tuple[float | None, float | None] = (None, None)
        self.learning_rate: float | None = None
        self.skipped = 0
        self._speeds: deque[tuple[float, float]] = deque(maxlen=LIMIT_RECENT)  # seconds and tokens
        self._conflicts: deque[float] = deque(maxlen=LIMIT_CONFLICTS)
        self._scored = -1  # the step of the last evaluation

    def update(self) -> None:
        """Read what was written since last asked."""
        # Before the lines: of a run that has ended by then, none is missed.
        self.status = self._status()
        if self.steps is None:
            self.steps = read_note(self.record.data_json).get("updates")
        anew, rows = self._steps.read()
        if anew:
            self._begin()
        for row in rows:
            self.step = max(self.step, int(row["step"]))
            if "evaluation" in row:
                self._evaluated(int(row["step"]), row["evaluation"])
            elif "tasks" in row:
                self._stepped(row)
        anew, decided = self._decisions.read()
        if anew:
            self.decisions.clear()
        self.decisions.extend(decided)

    def _status(self) -> str:
        # A run writes how it ended before it frees its lock, and one that goes on takes its lock before it says so.
        lives = holder_lives(self.record.lock_json)
        status = Record.open(self.record.folder).state.status
        if lives:
            return "running"
        return KILLED if status == "running" else status

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.status not in {"", "running"}

    @property
    def phase(self) -> str:
        """Say what the run does."""
        return SCORING if self.status == "running" and self.step == self.steps else self.status

    @property
    def seconds_left(self) -> float | None:
        """Estimate the time that the remaining steps take, without evaluations; None where it can't be told."""
        if self.steps is None or not self._speeds or self.phase != "running":
            return None
        return statistics.median(seconds for seconds, _ in self._speeds) * (self.steps - self.step)

    @property
    def tokens_per_second(self) -> float | None:
        """The speed of the last steps, in useful tokens."""
        seconds = sum(each for each, _ in self._speeds)
        return sum(tokens for _, tokens in self._speeds) / seconds if seconds else None

    @property
    def conflict(self) -> tuple[float, int] | None:
        """The mean cosine of pairs of tasks over the last recorded steps, and how many these are; None without any."""
        held = [each for each in self._conflicts if math.isfinite(each)]
        return (sum(held) / len(held), len(held)) if held else None

    def share(self, name: str) -> float | None:
        """Give the share of the last steps' examples that were a task's; None before the first step."""
        total = sum(task.examples for task in self.tasks.values())
        return self.tasks[name].examples / total if total else None

    def _stepped(self, row: Mapping[str, Any]) -> None:
        self.learning_rate = row.get("learning_rate")
        self.skipped += "skipped" in row
        seconds, speed = row.get("seconds"), row.get("tokens_per_second")
        if seconds and speed is not None:
            self._speeds.append((seconds, seconds * speed))
        if row.get("conflict"):
            from taskloom.gradients.conflict import mean_cosine  # numpy is needed only where conflict is recorded

            self._conflicts.append(mean_cosine(row["conflict"]["gramian"]))
        for name, held in row["tasks"].items():
            task = self.tasks.setdefault(name, TaskProgress())
            task.counts.append(held["examples"])
            task.learning_rate = held.get("learning_rate")
            if held["examples"]:
                task.weight = held["weight"]
                if held["loss"] is not None:  # one that was not finite has no JSON
                    task.losses.append((held["loss"], held["examples"]))
                    task.curve.add(held["loss"])

    def _evaluated(self, step: int, evaluation: Mapping[str, Any]) -> None:
        # The end of a run may be scored twice, once as any evaluation and once for the best checkpoint.
        again, self._scored = step == self._scored, step
        self.composite = (evaluation.get("composite"), self.composite[1 if again else 0])
        for name, metrics in evaluation["tasks"].items():
            task = self.tasks.setdefault(name, TaskProgress())
            task.metric = next(iter(metrics), "")
            score = metrics.get(task.metric)
            task.score, task.before = score, task.before if again else task.score
