"""Rest tasks that have converged, and wake them when they fall."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from taskloom.policy import Decision, Policy, Watched
from taskloom.policy._curves import DEVIATIONS, mean, noise, shown, since, times


class RestConverged(Policy):
    """Rest a task whose score no longer improves, and wake it when its score falls (dynamic stop-and-go).

    Prefer it where tasks of unequal size or difficulty train together, as a guard that costs nothing: small tasks stop
    being repeated once they are learned, what they would have drawn goes to the others, and a task that cannot be
    learned rests as well. Do not with fewer than about ten evaluations in the run; nor where scores move in jumps that
    come late, as the score of a hard task may that stays at chance for long.

    Formula: with ``p = patience`` and the scores ``s`` since the task's last change, it rests once ``max(s[-p:])`` is
    no more than ``threshold |b|`` above ``b = max(s[:-p])``, and ``mean(s[-p:])`` no more than that above the mean of
    the ``p`` scores before. It wakes once ``mean(s[-k:])``, ``k`` up to p, lies below the mean ``m`` of the p scores at
    which it went to rest by more than ``wake_drop |m|`` and by more than ``3 sigma sqrt(1/p + 1/k)``, where ``sigma``
    is the noise of its scores up to then (the median second difference, scaled as for normal numbers).

    Options:
        patience: evaluations without an improvement, from 1 (2, as in the paper).
        threshold: relative improvement that counts as one (0.001, as in the paper).
        wake_drop: relative fall that wakes (0.005, as in the paper).
        rest_share: factor of a resting task; by default that of the run, and where the run says nothing 0.25: the paper
            trains a resting task in one iteration of four.

    State: for each task the step of its last change; for each that rests, its mean score and noise as it went to rest.

    Differs: the paper compares single scores with the best one. The best of many noisy scores lies above what the task
    can do, so that under noise alone every resting task would soon wake: here a fall is measured from the mean at which
    the task went to rest, and against noise. The mean must have stopped rising as well as the best, so that a lucky
    score does not so soon send an improving task to rest. After each change the scores count anew; the paper waits for
    one evaluation.

    Paper: Lu et al., 12-in-1: Multi-Task Vision and Language Representation Learning, CVPR 2020, arXiv:1912.02315.

    >>> policy = RestConverged()
    >>> curve = list(enumerate([0.5, 0.7, 0.8, 0.8, 0.8, 0.8], start=1))
    >>> seen = Watched(6, 20, {"a": curve}, {}, {}, {"a": 1.0}, rest=0.25, conflicts=[])
    >>> [(each.task, each.factor) for each in policy.decide(seen)]
    [('a', 0.25)]
    >>> seen = Watched(7, 20, {"a": [*curve, (7, 0.6)]}, {}, {}, {"a": 0.25}, rest=0.25, conflicts=[])
    >>> [(each.task, each.factor) for each in policy.decide(seen)]
    [('a', 1.0)]
    """

    def __init__(
        self,
        *,
        patience: Annotated[int, Field(ge=1)] = 2,
        threshold: Annotated[float, Field(ge=0)] = 0.001,
        wake_drop: Annotated[float, Field(ge=0)] = 0.005,
        rest_share: Annotated[float, Field(ge=0, lt=1)] | None = None,
    ) -> None:
        self.patience = patience
        self.threshold = threshold
        self.wake_drop = wake_drop
        self.rest_share = rest_share
        self._changed: dict[str, int] = {}
        self._resting: dict[str, dict[str, float]] = {}

    def decide(self, watched: Watched) -> list[Decision]:
        """Rest and wake tasks; see the class."""
        decisions = []
        for task, factor in watched.factors.items():
            if factor == 0 and task not in self._resting:
                self._changed[task] = watched.step
                continue
            scores = since(watched.scores.get(task, ()), self._changed.get(task, -1))
            judge = self._wake if task in self._resting else self._rest
            decision = judge(watched, task, scores)
            if decision:
                self._changed[task] = watched.step
                decisions.append(decision)
        return decisions

    def _rest(self, watched: Watched, task: str, scores: list[float]) -> Decision | None:
        patience = self.patience
        if len(scores) < 2 * patience:
            return None
        last, before = scores[-patience:], scores[:-patience]
        best, mean_before, level = max(before), mean(before[-patience:]), mean(last)
        rises = max(last) > best + self.threshold * abs(best)
        if rises or level > mean_before + self.threshold * abs(mean_before):
            return None
        self._resting[task] = {"level": level, "noise": noise(since(watched.scores[task], -1))}
        factor = watched.rest if self.rest_share is None else self.rest_share
        reason = (
            f"`{task}` rests: in its last {times(patience)} its best score was {shown(max(last))}, not more than "
            f"{self.threshold:.3g} (relative) above the {shown(best)} it had before, and its mean went from "
            f"{shown(mean_before)} to {shown(level)}."
        )
        return Decision(watched.step, self.name, task, float(factor), reason)

    def _wake(self, watched: Watched, task: str, scores: list[float]) -> Decision | None:
        last = scores[-self.patience :]
        if not last:
            return None
        level, now = self._resting[task]["level"], mean(last)
        spread = self._resting[task]["noise"] * math.sqrt(1 / self.patience + 1 / len(last))
        limit = max(self.wake_drop * abs(level), DEVIATIONS * spread)
        if level - now <= limit:
            return None
        del self._resting[task]
        reason = (
            f"`{task}` wakes: its score fell from {shown(level)}, where it went to rest, to {shown(now)} over "
            f"{times(len(last))}, by {shown(level - now)} and so by more than {shown(limit)}, "
            f"what `wake_drop` and the noise of its scores allow."
        )
        return Decision(watched.step, self.name, task, 1.0, reason)

    def state(self) -> dict[str, Any]:
        """Give the steps of the last changes, and what is known of resting tasks."""
        resting = {task: dict(held) for task, held in self._resting.items()}
        return {"changed": dict(self._changed), "resting": resting}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take both back."""
        self._changed = dict(state["changed"])
        self._resting = {task: dict(held) for task, held in state["resting"].items()}
