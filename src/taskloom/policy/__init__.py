"""Policies: at each evaluation, from what the tasks have shown so far to how much each one is trained from here on.

A policy is a class with one method, ``decide``. To add one, put a file here. Pure Python and numpy: a policy sees
curves, no model and no Trainer, and so it can be tried on the curves of a run that is over.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal, Self

from taskloom.room import Room

Curve = Sequence[tuple[int, float]]
"""What was measured at each evaluation: (step, value), in order."""

Needs = Literal["conflicts", "validation_losses", "baselines"]
"""What a policy reads beside scores and training losses, and what costs something to have."""

LIMIT_FACTOR = 10.0
"""The largest factor, of one policy and of all together."""


@dataclass(frozen=True)
class Watched:
    """What a run has shown up to an evaluation.

    Attributes:
        step: optimizer steps done.
        steps: optimizer steps of the run.
        scores: task -> every validation score so far; higher is better.
        losses: task -> mean training loss since the evaluation before, at each evaluation.
        validation_losses: task -> mean loss on validation rows at each evaluation; may be empty.
        factors: task -> the factor in force now, in the order of the run's tasks: 1 is as configured, 0 is not trained.
        rest: the factor of a resting task.
        conflicts: the conflict records so far, as steps.jsonl holds them; may be empty.
        baselines: task -> the score of the best constant answer on the validation rows, where it is known.
    """

    step: int
    steps: int
    scores: Mapping[str, Curve]
    losses: Mapping[str, Curve]
    validation_losses: Mapping[str, Curve]
    factors: Mapping[str, float]
    rest: float
    conflicts: Sequence[dict[str, Any]]
    baselines: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """One task is trained more or less from here on.

    Attributes:
        step: optimizer steps done when it was decided.
        policy: the policy's name; of several that decided at once, their names with " + " between.
        task: the task's name.
        factor: what its share and its weight are multiplied by from here on: 1 is as configured, 0 is dropped.
        reason: a full sentence, with the numbers that decided.
    """

    step: int
    policy: str
    task: str
    factor: float
    reason: str

    def as_row(self) -> dict[str, Any]:
        """Give the line of decisions.jsonl, in its fixed order of keys."""
        return asdict(self)


class Policy(ABC):
    """From what was watched to decisions.

    Subclasses take their options as keyword arguments. A policy knows only its own factors: it says 1 where it has
    nothing against a task, and decides again only where its own factor changes. A task that is not trained (factor 0)
    is not judged, and what it scored meanwhile is not held against it later.

    Class attributes:
        needs: what it reads beside scores and training losses.
    """

    needs: ClassVar[frozenset[Needs]] = frozenset()

    @property
    def name(self) -> str:
        """The name that stands in run files: that of its file, or ``package.module:ClassName`` where it is not ours."""
        package, _, file = type(self).__module__.rpartition(".")
        return file if package == __name__ else f"{type(self).__module__}:{type(self).__qualname__}"

    def begin(self, tasks: Sequence[str]) -> None:  # noqa: B027 - most policies need no names beforehand
        """Learn the names of all tasks of the run, before the first step; raises ConfigError for wrong options."""

    @abstractmethod
    def decide(self, watched: Watched) -> list[Decision]:
        """Give what changes, called once at each evaluation in their order; called again, it changes nothing more.

        Returns:
            at most one decision a task, in the order of ``watched.factors``; the factors are the policy's own, from 0
            to 10.
        """

    def state(self) -> dict[str, Any]:
        """Give what is kept from one evaluation to the next, ready for JSON; floats come back bit for bit."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - a policy may keep nothing
        """Take back what `state` gave."""


class Policies:
    """Several policies over one run, in order.

    Each policy has a factor of its own for each task, 1 at first, and the factor in force is their product, at most 10.
    So a policy's word holds until it takes it back itself, whatever the others say meanwhile: a task that one policy
    drops (0) stays dropped, and one that rests at 0.25 while another raises it to 2 is trained at 0.5. The order
    decides nothing but in which order reasons are told.

    Args:
        policies: those of the run, none at all where it has none.

    >>> class Halve(Policy):
    ...     def decide(self, watched):
    ...         return [Decision(watched.step, "halve", "a", 0.5, "It is step 10.")] if watched.step == 10 else []
    >>> both = Policies([Halve(), Halve()])
    >>> seen = Watched(10, 100, {}, {}, {}, {"a": 1.0}, 0.25, [])
    >>> [(each.task, each.factor) for each in both.decide(seen)]
    [('a', 0.25)]
    """

    def __init__(self, policies: Sequence[Policy]) -> None:
        self.policies = list(policies)
        self._own: list[dict[str, float]] = [{} for _ in self.policies]

    @classmethod
    def of(cls, sections: Sequence[Mapping[str, Any]], tasks: Sequence[str]) -> Self:
        """Make the policies of a run.

        Args:
            sections: entries of a checked run file's `policies`: each with its `name` and its options.
            tasks: names of all tasks of the run.

        Raises:
            ConfigError: a policy finds its options wrong for these tasks.
        """
        made = []
        for section in sections:
            options = {key: value for key, value in section.items() if key != "name"}
            policy = POLICIES.load(section["name"])(**options)
            policy.begin(tasks)
            made.append(policy)
        return cls(made)

    @property
    def needs(self) -> frozenset[Needs]:
        """What any of them reads beside scores and training losses."""
        return frozenset().union(*(policy.needs for policy in self.policies))

    def factor(self, task: str) -> float:
        """Give a task's factor in force."""
        return min(math.prod(own.get(task, 1.0) for own in self._own), LIMIT_FACTOR)

    def decide(self, watched: Watched) -> list[Decision]:
        """Ask every policy, and give one decision for each task whose factor in force changes.

        Where the others' factors are not 1, the reason ends with the product. What a policy says of a task that
        another one has dropped changes nothing, and is kept without a line.
        """
        before = {task: self.factor(task) for task in watched.factors}
        told: dict[str, list[Decision]] = {task: [] for task in watched.factors}
        for policy, own in zip(self.policies, self._own, strict=True):
            for decision in policy.decide(watched):
                told[decision.task].append(decision)
                own[decision.task] = decision.factor
        changed = [task for task in watched.factors if told[task] and self.factor(task) != before[task]]
        return [self._merged(told[task]) for task in changed]

    def _merged(self, decisions: list[Decision]) -> Decision:
        """Make one decision with the factor in force of what one or several policies said of a task."""
        first, factor = decisions[0], self.factor(decisions[0].task)
        reasons = [each.reason for each in decisions]
        if len(decisions) > 1 or factor != first.factor:
            reasons.append(f"With what every policy says of it, its factor is {factor:g}.")
        names = dict.fromkeys(each.policy for each in decisions)
        return Decision(first.step, " + ".join(names), first.task, factor, " ".join(reasons))

    def state(self) -> dict[str, Any]:
        """Give every policy's state and factors, ready for JSON."""
        held = zip(self.policies, self._own, strict=True)
        return {
            "policies": [{"name": policy.name, "state": policy.state(), "factors": dict(own)} for policy, own in held]
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave; the policies are those that gave it, in the same order."""
        for policy, own, saved in zip(self.policies, self._own, state["policies"], strict=True):
            policy.restore(saved["state"])
            own.clear()
            own.update({task: float(factor) for task, factor in saved["factors"].items()})


POLICIES: Room[Policy] = Room("taskloom.policy", "policy")
