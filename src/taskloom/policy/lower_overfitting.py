"""Lower tasks that overfit, step by step, and raise them again when they recover."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from taskloom.policy import Curve, Decision, Policy, Watched
from taskloom.policy._curves import DEVIATIONS, mean, noise, shown, since, times

WORDS = {"loss": "validation loss", "score": "score"}


class LowerOverfitting(Policy):
    """Train a task less while its training loss still falls and its validation loss rises or its score falls.

    Prefer it where small tasks are repeated for many epochs beside large ones. Do not with fewer than about ten
    evaluations in the run; nor against tasks that forget, whose training loss rises as well (`rest_converged` wakes
    them, `raise_behind` raises them).

    Formula: with ``p = patience`` and the values since the task's last change, it overfits when ``mean(train[-p:]) <
    mean(train[-2p:-p])`` while ``mean(bad[-p:])`` exceeds ``m = mean(bad[-2p:-p])`` by more than ``margin |m|`` and by
    more than ``3 sigma sqrt(2/p)``, where ``bad`` is the validation loss or minus the score and ``sigma`` the curve's
    noise (its median second difference, scaled as for normal numbers). A validation loss that rises counts only where
    the score does not rise beyond its noise: sureness spoils a loss before it spoils answers. The factor becomes
    ``max(floor, shrink x factor)``. It recovers once ``mean(bad[-p:]) <= m + margin |m|``, with m of the time it was
    first lowered: the factor becomes ``min(1, factor / shrink)``.

    Options:
        patience: evaluations in each of the two means that are compared, from 1 (2).
        margin: relative change that is nothing yet (0.01).
        shrink: what one decision multiplies the factor by, between 0 and 1 (0.5).
        floor: the least factor (0.1): with none of a task at all, others could overwrite what it needs.

    State: for each task the step of its last change; for each that is lowered its factor, what showed it, and m.

    >>> policy = LowerOverfitting(patience=1)
    >>> losses = {"a": [(10, 1.0), (20, 0.5)]}
    >>> held = {"a": [(10, 0.9), (20, 1.2)]}
    >>> seen = Watched(20, 100, {}, losses, held, {"a": 1.0}, rest=0.25, conflicts=[])
    >>> [(each.task, each.factor) for each in policy.decide(seen)]
    [('a', 0.5)]
    """

    needs = frozenset({"validation_losses"})

    def __init__(
        self,
        *,
        patience: Annotated[int, Field(ge=1)] = 2,
        margin: Annotated[float, Field(ge=0)] = 0.01,
        shrink: Annotated[float, Field(gt=0, lt=1)] = 0.5,
        floor: Annotated[float, Field(gt=0, le=1)] = 0.1,
    ) -> None:
        self.patience = patience
        self.margin = margin
        self.shrink = shrink
        self.floor = floor
        self._changed: dict[str, int] = {}
        self._lowered: dict[str, dict[str, Any]] = {}

    def decide(self, watched: Watched) -> list[Decision]:
        """Lower and raise tasks; see the class."""
        decisions = []
        for task, factor in watched.factors.items():
            if factor == 0:
                self._changed[task] = watched.step
                continue
            decision = self._recover(watched, task) or self._lower(watched, task)
            if decision:
                self._changed[task] = watched.step
                decisions.append(decision)
        return decisions

    def _lower(self, watched: Watched, task: str) -> Decision | None:
        held = self._lowered.get(task, {"factor": 1.0})
        factor = max(self.floor, held["factor"] * self.shrink)
        training = self._two_means(watched.losses.get(task, ()), task)
        if factor >= held["factor"] or training is None or training[1] >= training[0]:
            return None
        for kind, words in WORDS.items():
            found = self._rise(watched, kind, task)
            if found is None:
                continue
            before, now, limit = found
            self._lowered[task] = {"measure": kind, "level": before, **held, "factor": factor}
            sign = 1 if kind == "loss" else -1
            reason = (
                f"`{task}` overfits: its training loss fell from {shown(training[0])} to {shown(training[1])}, while "
                f"its {words} went from {shown(sign * before)} to {shown(sign * now)}, by more than "
                f"{shown(limit)}, what `margin` and noise allow; each is a mean over {times(self.patience)}."
            )
            return Decision(watched.step, self.name, task, factor, reason)
        return None

    def _rise(self, watched: Watched, kind: str, task: str) -> tuple[float, float, float] | None:
        """Give what a measure of badness was before and is now, and what it may rise by; None where it rose no more."""
        curve = self._curve(watched, kind, task)
        means = self._two_means(curve, task)
        if means is None:
            return None
        before, now = means
        limit = max(self.margin * abs(before), self._spread(curve))
        if now - before <= limit:
            return None
        if kind == "loss":
            answers = self._curve(watched, "score", task)
            scores = self._two_means(answers, task)
            if scores is not None and scores[0] - scores[1] > self._spread(answers):
                return None
        return before, now, limit

    def _recover(self, watched: Watched, task: str) -> Decision | None:
        held = self._lowered.get(task)
        if held is None:
            return None
        values = since(self._curve(watched, held["measure"], task), self._changed[task])
        if len(values) < self.patience:
            return None
        now, level = mean(values[-self.patience :]), held["level"]
        if now > level + self.margin * abs(level):
            return None
        factor = min(1.0, held["factor"] / self.shrink)
        self._lowered[task] = {**held, "factor": factor}
        if factor == 1.0:
            del self._lowered[task]
        sign = 1 if held["measure"] == "loss" else -1
        reason = (
            f"`{task}` recovers: its {WORDS[held['measure']]} is {shown(sign * now)} over {times(self.patience)}, back "
            f"at the {shown(sign * level)} it had before it overfitted."
        )
        return Decision(watched.step, self.name, task, factor, reason)

    def _curve(self, watched: Watched, kind: str, task: str) -> Curve:
        """Give how bad a task was at each evaluation, by its validation loss or by its score."""
        if kind == "loss":
            return watched.validation_losses.get(task, ())
        return [(step, -value) for step, value in watched.scores.get(task, ()) if value is not None]

    def _two_means(self, curve: Curve, task: str) -> tuple[float, float] | None:
        """Give the means of the evaluations before the last `patience` and of these; None where they are too few."""
        values, patience = since(curve, self._changed.get(task, -1)), self.patience
        if len(values) < 2 * patience:
            return None
        return mean(values[-2 * patience : -patience]), mean(values[-patience:])

    def _spread(self, curve: Curve) -> float:
        return DEVIATIONS * noise(since(curve, -1)) * math.sqrt(2 / self.patience)

    def state(self) -> dict[str, Any]:
        """Give the steps of the last changes, and what is known of lowered tasks."""
        lowered = {task: dict(held) for task, held in self._lowered.items()}
        return {"changed": dict(self._changed), "lowered": lowered}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take both back."""
        self._changed = dict(state["changed"])
        self._lowered = {task: dict(held) for task, held in state["lowered"].items()}
