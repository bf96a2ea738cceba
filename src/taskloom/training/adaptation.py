"""What training does about its own plan: mixtures that watch it, policies, and the log of what they decide."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from taskloom.batches.plan import Plan
from taskloom.mixture import Seen
from taskloom.policy import Decision, Policies, Watched
from taskloom.record import write_text

PLAN_FILE = "plan.json"
"""What a plan and what watches it carry from step to step, in a checkpoint."""

REST = 0.25
"""Factor of a task that rests, where a policy does not say otherwise."""


class Adaptation:
    """Tells the mixture and the policies what training shows, and puts what they decide into the plan.

    Args:
        plan: of the run.
        policies: in order; none decides nothing.
        update_steps: optimizer steps of one window of the mixture.
        log: takes a decision's line.
        tell: says something to the user.
        baselines: task -> validation score of the best constant answer, where a policy reads it.
        lower: tasks whose score is better where it is lower; shown with the other sign.
    """

    def __init__(
        self,
        plan: Plan,
        policies: Policies,
        *,
        update_steps: int = 20,
        log: Callable[[Mapping[str, Any]], None] = lambda row: None,
        tell: Callable[[str], None] = lambda text: None,
        baselines: Mapping[str, float] | None = None,
        lower: Collection[str] = (),
    ) -> None:
        self.plan = plan
        self.signs = {name: -1.0 if name in lower else 1.0 for name in plan.tasks}
        self.baselines = {name: self.signs[name] * value for name, value in (baselines or {}).items()}
        self.policies = policies
        self.update_steps = update_steps
        self.log = log
        self.tell = tell
        self._window = _Sums()
        self._since = _Sums()
        self._scores: dict[str, list[tuple[int, float]]] = {}
        self._losses: dict[str, list[tuple[int, float]]] = {}
        self._validation: dict[str, list[tuple[int, float]]] = {}
        self._conflicts: list[dict[str, Any]] = []

    def step(
        self,
        done: int,
        losses: Mapping[str, float],
        rows: Mapping[str, int],
        conflict: Mapping[str, Any] | None,
    ) -> None:
        """Take up an optimizer step.

        Args:
            done: optimizer steps so far, this one included.
            losses: task -> sum of its examples' losses.
            rows: task -> how many examples these were.
            conflict: the step's conflict record, where it has one.
        """
        self._since.add(losses, rows)
        if conflict is not None and "conflicts" in self.policies.needs:
            self._conflicts.append(dict(conflict))
        if self.plan.mixture.pace != "window":
            return
        self._window.add(losses, rows)
        if done % self.update_steps == 0 and done + self.plan.ahead < self.plan.updates:
            newest = {name: held[-1][1] for name, held in self._scores.items()}
            self.plan.mixture.observe(Seen(done, self._window.means(), dict(self._window.rows), newest))
            self.plan.reweigh(done)
            self._window = _Sums()

    def evaluated(
        self, done: int, scores: Mapping[str, float], validation_losses: Mapping[str, float] | None = None
    ) -> list[Decision]:
        """Take up an evaluation, and put into force what the policies decide.

        Args:
            done: optimizer steps so far.
            scores: task -> the first of its metrics.
            validation_losses: task -> mean loss of validation rows, where it is known.

        Returns:
            what was decided.
        """
        for held, found in (
            (self._scores, {name: self.signs[name] * value for name, value in scores.items()}),
            (self._losses, self._since.means()),
            (self._validation, validation_losses or {}),
        ):
            for name, value in found.items():
                held.setdefault(name, []).append((done, float(value)))
        self._since = _Sums()
        if not self.policies.policies or done + self.plan.ahead >= self.plan.updates:
            return []
        factors = self.plan.factors(done + self.plan.ahead)
        watched = Watched(
            done,
            self.plan.updates,
            self._scores,
            self._losses,
            self._validation,
            factors,
            REST,
            self._conflicts,
            self.baselines,
        )
        decisions = self.policies.decide(watched)
        for decision in decisions:
            start = self.plan.scale(decision.task, decision.factor, done)
            self.log({**decision.as_row(), "from_step": start})
            self.tell(
                f"step {done}: {decision.task} counts {decision.factor:g} times from step {start} on: {decision.reason}"
            )
        return decisions

    def save(self, folder: Path) -> None:
        """Write what has to be there to go on bit for bit."""
        state = {
            "plan": self.plan.state(),
            "policies": self.policies.state(),
            "window": self._window.state(),
            "since": self._since.state(),
            "scores": self._scores,
            "losses": self._losses,
            "validation_losses": self._validation,
            "conflicts": self._conflicts,
        }
        write_text(folder / PLAN_FILE, json.dumps(state))

    def load(self, folder: Path) -> None:
        """Take back what `save` wrote."""
        state = json.loads((folder / PLAN_FILE).read_text(encoding="utf-8"))
        self.plan.restore(state["plan"])
        self.policies.restore(state["policies"])
        self._window, self._since = _Sums.of(state["window"]), _Sums.of(state["since"])
        self._scores, self._losses, self._validation = (
            {name: [(int(step), value) for step, value in held] for name, held in state[key].items()}
            for key in ("scores", "losses", "validation_losses")
        )
        self._conflicts = state["conflicts"]


class _Sums:
    """Sums of losses and numbers of rows of each task."""

    def __init__(self) -> None:
        self.losses: dict[str, float] = defaultdict(float)
        self.rows: dict[str, int] = defaultdict(int)

    @classmethod
    def of(cls, state: Mapping[str, Mapping[str, Any]]) -> _Sums:
        """Make one from what `state` gave."""
        made = cls()
        made.losses.update(state["losses"])
        made.rows.update(state["rows"])
        return made

    def add(self, losses: Mapping[str, float], rows: Mapping[str, int]) -> None:
        """Add a step."""
        for name, count in rows.items():
            if count:
                self.losses[name] += losses[name]
                self.rows[name] += count

    def means(self) -> dict[str, float]:
        """Give the mean loss of each task that had a row."""
        return {name: self.losses[name] / count for name, count in self.rows.items()}

    def state(self) -> dict[str, dict[str, Any]]:
        """Give everything, as JSON."""
        return {"losses": dict(self.losses), "rows": dict(self.rows)}


def first_scores(values: Mapping[str, float], tasks: Sequence[str]) -> dict[str, float]:
    """Give each task's score, the first of its metrics in an evaluation's ``TASK/METRIC`` values."""
    scores: dict[str, float] = {}
    for key, value in values.items():
        name, slash, _ = key.partition("/")
        if slash and name in tasks:
            scores.setdefault(name, value)
    return scores
