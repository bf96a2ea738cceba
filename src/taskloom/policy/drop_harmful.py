"""Drop tasks that pull against all others and learn nothing themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from taskloom.gradients.conflict import Interval, interval
from taskloom.policy import Decision, Policy, Watched
from taskloom.policy._curves import mean, noise, shown, since, times


class DropHarmful(Policy):
    """Drop a task for good that pulls against the sum of the others and is no better than a constant answer.

    Prefer it where tasks were gathered without a look at each, and one may be broken: labels at random or shifted. Do
    not as a cure for conflict: gradients of tasks that help each other conflict as well, and conflict is no proof of
    harm (Elich et al. 2023; Mueller et al. 2024). A task is dropped only where there is nothing to lose: it has shown
    no answer that a constant does not give. Whether the others gain is not measured; only a run without it tells.

    Formula: over the last `records` conflict records, ``c_t = cos(g_t, sum_{s != t} g_s) = sum_s G_ts / sqrt(G_tt
    sum_{s, u != t} G_su)`` from each record's Gramian G. A task is suspect at an evaluation where the upper end of the
    interval of the mean of c_t (Student's, 95 %) lies below 0, and the mean of its last `patience` scores is at most
    one standard error (their noise, divided by ``sqrt(patience)``) above the score of the best constant answer. It is
    dropped when it was suspect at `patience` evaluations in a row. Only one task is dropped at an evaluation, the one
    with the lowest interval, and records then count anew: without it the others' sum is another one. The last two tasks
    are never dropped, nor one whose constant score is not known.

    Options:
        patience: evaluations in a row, from 1 (3).
        records: the latest conflict records that are looked at, from 2 (20).
        after: share of the run before which nothing is dropped (0.25): a hard task stays at a constant for a while.
        constants: task -> score of a constant answer, higher is better, instead of what the run measures (none).

    State: for each task at how many evaluations in a row it was suspect; the last step; which records count; what was
    dropped.

    Errors: none of its own; without conflict records (`balance.record_steps`) nothing is ever dropped.

    Paper: Elich et al., Challenging Common Paradigms in Multi-Task Learning, 2023, arXiv:2311.04698; Mueller et al.,
    Can Optimization Trajectories Explain Multi-Task Transfer?, 2024, arXiv:2408.14677; both on what conflict does not
    show.

    >>> policy = DropHarmful(patience=1, after=0, constants={"c": 0.5})
    >>> against = {"tasks": ["a", "b", "c"], "gramian": [[1.0, 0.5, -0.5], [0.5, 1.0, -0.4], [-0.5, -0.4, 1.0]]}
    >>> scores = {"a": [(10, 0.9)], "b": [(10, 0.9)], "c": [(10, 0.5)]}
    >>> seen = Watched(10, 100, scores, {}, {}, dict.fromkeys("abc", 1.0), rest=0.25, conflicts=[against] * 5)
    >>> [(each.task, each.factor) for each in policy.decide(seen)]
    [('c', 0.0)]
    """

    needs = frozenset({"conflicts", "baselines"})

    def __init__(
        self,
        *,
        patience: Annotated[int, Field(ge=1)] = 3,
        records: Annotated[int, Field(ge=2)] = 20,
        after: Annotated[float, Field(ge=0, lt=1)] = 0.25,
        constants: dict[str, float] | None = None,
    ) -> None:
        self.patience = patience
        self.records = records
        self.after = after
        self.constants = constants or {}
        self._suspect: dict[str, int] = {}
        self._dropped: list[str] = []
        self._step = -1
        self._first = 0

    def decide(self, watched: Watched) -> list[Decision]:
        """Count suspect evaluations, and drop one task at most; see the class."""
        if watched.step <= self._step or watched.step < self.after * watched.steps:
            return []
        self._step = watched.step
        trained = [task for task, factor in watched.factors.items() if factor > 0 and task not in self._dropped]
        records = list(watched.conflicts)[self._first :][-self.records :]
        found: dict[str, tuple[Interval, float, float]] = {}
        for task in watched.factors:
            evidence = self._evidence(watched, task, records) if task in trained else None
            self._suspect[task] = self._suspect.get(task, 0) + 1 if evidence else 0
            if evidence and self._suspect[task] >= self.patience:
                found[task] = evidence
        if not found or len(trained) <= 2:
            return []
        task = min(found, key=lambda each: (found[each][0].high, each))
        self._suspect, self._first = {}, len(watched.conflicts)
        self._dropped.append(task)
        cosine, score, constant = found[task]
        reason = (
            f"`{task}` is dropped: over {cosine.n} conflict records the cosine of its gradient with the sum of the "
            f"others' is {shown(cosine.mean)}, in 95 % between {shown(cosine.low)} and {shown(cosine.high)}, and its "
            f"score {shown(score)} is not beyond noise above the {shown(constant)} of a constant answer, at "
            f"{times(self.patience)} in a row."
        )
        return [Decision(watched.step, self.name, task, 0.0, reason)]

    def _evidence(
        self, watched: Watched, task: str, records: list[dict[str, Any]]
    ) -> tuple[Interval, float, float] | None:
        """Give the interval of a suspect task's cosine, its score, and the constant's; None where it is not suspect."""
        constant = self.constants.get(task, watched.baselines.get(task))
        scores = since(watched.scores.get(task, ()), -1)
        if constant is None or not math.isfinite(constant) or not scores:
            return None
        last = scores[-self.patience :]
        score = mean(last)
        if score > constant + noise(scores) / math.sqrt(len(last)):
            return None
        cosine = interval(cosine_with_others(record, task) for record in records)
        return (cosine, score, constant) if cosine.high < 0 else None

    def state(self) -> dict[str, Any]:
        """Give the counts, the last step, the first record that counts, and what was dropped."""
        return {
            "suspect": dict(self._suspect),
            "dropped": list(self._dropped),
            "step": self._step,
            "first": self._first,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take all back."""
        self._suspect, self._dropped = dict(state["suspect"]), list(state["dropped"])
        self._step, self._first = state["step"], state["first"]


def cosine_with_others(record: Mapping[str, Any], task: str) -> float:
    """Give the cosine of a task's gradient with the sum of the others' in one record; NaN where it has none.

    Args:
        record: ``tasks``, and ``gramian`` [task, task] with null where a number was not finite.
        task: its name.
    """
    names = record["tasks"]
    if task not in names:
        return math.nan
    gramian = [[math.nan if value is None else float(value) for value in row] for row in record["gramian"]]
    place = names.index(task)
    others = [index for index in range(len(names)) if index != place]
    if not all(math.isfinite(value) for row in gramian for value in row):
        return math.nan
    own, along = gramian[place][place], math.fsum(gramian[place][index] for index in others)
    rest = math.fsum(gramian[one][other] for one in others for other in others)
    return along / math.sqrt(own * rest) if own > 0 and rest > 0 else math.nan
