"""Raise tasks that are behind what they reach alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from taskloom.policy import Decision, Policy, Watched
from taskloom.policy._curves import noise, shown, since

DEVIATIONS = 2.0
"""How many standard deviations of one score a gap has to exceed before it counts as one."""

ENOUGH = 7
"""How many scores tell noise from the bend that every learning curve begins with."""


class RaiseBehind(Policy):
    """Train a task more while its score is behind the one that it reaches alone.

    Prefer it where no task may come out worse than if it had been trained alone, and these scores are known. Do not
    where the model is too small for all tasks: what one is given, the others lose; nor with references of other data.

    Formula: with the newest score s and the reference r, the gap is ``d = (r - s) / |r|`` (``r - s`` where r is 0). A
    task is raised once d exceeds ``margin`` and, from its seventh score on, twice the noise of its scores (the median
    second difference, scaled as for normal numbers, divided by ``|r|``); its factor is then ``min(limit, 1 + gain d)``.
    While it is raised, the factor follows d wherever it would change by a quarter or more; at ``d <= 0`` it is 1 again.

    Options:
        references: task -> its score when trained alone, higher is better; tasks that are not named are left alone.
        margin: relative gap that is nothing yet (0.02).
        gain: what a gap is multiplied by, above 0 (5.0: at a gap of a fifth a task counts twice).
        limit: the largest factor, from 1 to 10 (3.0).
        after: share of the run before which nothing is raised (0.25): early on every task is behind the score it
            reaches in the end, and raising all raises none.

    State: the factors of raised tasks.

    >>> policy = RaiseBehind(references={"a": 0.8}, after=0)
    >>> seen = Watched(10, 100, {"a": [(10, 0.6)]}, {}, {}, {"a": 1.0}, rest=0.25, conflicts=[])
    >>> [(each.task, round(each.factor, 2)) for each in policy.decide(seen)]
    [('a', 2.25)]
    """

    def __init__(
        self,
        *,
        references: dict[str, float],
        margin: Annotated[float, Field(ge=0)] = 0.02,
        gain: Annotated[float, Field(gt=0)] = 5.0,
        limit: Annotated[float, Field(ge=1, le=10)] = 3.0,
        after: Annotated[float, Field(ge=0, lt=1)] = 0.25,
    ) -> None:
        self.references = references
        self.margin = margin
        self.gain = gain
        self.limit = limit
        self.after = after
        self._raised: dict[str, float] = {}

    def decide(self, watched: Watched) -> list[Decision]:
        """Raise tasks and let them go; see the class."""
        if watched.step < self.after * watched.steps:
            return []
        judged = [task for task, factor in watched.factors.items() if factor > 0 and task in self.references]
        found = (self._judge(watched, task) for task in judged)
        return [decision for decision in found if decision]

    def _judge(self, watched: Watched, task: str) -> Decision | None:
        scores = since(watched.scores.get(task, ()), -1)
        if not scores:
            return None
        reference, score, factor = self.references[task], scores[-1], self._raised.get(task, 1.0)
        scale = abs(reference) or 1.0
        gap = (reference - score) / scale
        new = min(self.limit, 1 + self.gain * max(gap, 0.0))
        spread = noise(scores) if len(scores) >= ENOUGH else 0.0
        allowed = max(self.margin, DEVIATIONS * spread / scale)
        if task not in self._raised and (gap <= allowed or new == 1.0):
            return None
        if gap <= 0:
            del self._raised[task]
            reason = f"`{task}` has caught up: its score {shown(score)} reaches its reference {shown(reference)}."
            return Decision(watched.step, self.name, task, 1.0, reason)
        if abs(new - factor) < factor / 4 and task in self._raised:
            return None
        self._raised[task] = new
        reason = (
            f"`{task}` is behind: its score {shown(score)} lies {shown(100 * gap)} % below its reference "
            f"{shown(reference)}, where {shown(100 * allowed)} % is allowed."
        )
        return Decision(watched.step, self.name, task, new, reason)

    def state(self) -> dict[str, Any]:
        """Give the factors of raised tasks."""
        return {"raised": dict(self._raised)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take them back."""
        self._raised = dict(state["raised"])
