"""What a study's runs show: each arm against each task alone, paired by seed, with verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from taskloom.bootstrap import Interval
from taskloom.composite import Composite
from taskloom.evaluation import build_metric
from taskloom.record import Record, read_lines
from taskloom.statistics import Verdict, equivalence, paired_interval, verdicts

Floats = NDArray[np.float64]
COMPOSITE = "composite"
LEAST_SCORE = 0.05
"""A reference below this makes a relative change meaningless; it counts as this much."""


@dataclass(frozen=True)
class TaskScores:
    """One arm's scores of one task.

    Attributes:
        task: its name.
        metric: its own.
        raw: [seed] as the metric gives them.
        scores: [seed] normalised, greater is better.
        floor: [seed] what the best constant answer gets, normalised; NaN where there is none.
    """

    task: str
    metric: str
    raw: Floats
    scores: Floats
    floor: Floats


@dataclass(frozen=True)
class ArmFacts:
    """What one arm came to.

    Attributes:
        name: of the arm.
        tasks: task -> its scores.
        cost: trained parameters of all its models, their rows, tokens, steps and minutes, one seed on average.
        models: how many there are to be served.
    """

    name: str
    tasks: Mapping[str, TaskScores]
    cost: Mapping[str, float]
    models: int

    def matrix(self) -> Floats:
        """Give normalised scores: [task, seed]."""
        return np.stack([each.scores for each in self.tasks.values()])


@dataclass(frozen=True)
class Comparison:
    """One arm against the reference.

    Attributes:
        arm: its name.
        verdicts: one for each task, corrected for all of them.
        equivalence: task -> p-value of the claim that it lies within the margin of the reference.
        composite: of the one number over all tasks, a comparison of its own.
        delta_m: [seed] mean over tasks of the change relative to the reference.
        worst: the task that lost most, and its mean difference.
        harmed: share of tasks whose mean difference is below nought.
        ratio: geometric mean over tasks and seeds of score by reference.
    """

    arm: str
    verdicts: Sequence[Verdict]
    equivalence: Mapping[str, float]
    composite: Verdict
    delta_m: Floats
    worst: tuple[str, float]
    harmed: float
    ratio: float


def scores_of(records: Sequence[Record], task: str, split: str = "test") -> TaskScores:
    """Read one task's own score of several seeds: [seed]."""
    found = []
    for record in records:
        own = [each for each in record.scores() if each.task == task and each.split == split and each.group is None]
        found.append(own[0])
    metric = build_metric(found[0].metric)
    raw = np.array([each.value for each in found])
    floor = np.array([np.nan if each.baseline is None else each.baseline for each in found])
    known = np.where(np.isnan(floor), np.nan, metric.normalise(np.nan_to_num(floor)))
    return TaskScores(task, found[0].metric, raw, metric.normalise(raw), known)


def compare(
    arm: ArmFacts,
    reference: ArmFacts,
    weights: Mapping[str, float],
    *,
    how: Composite,
    margin: float,
    level: float,
    intervals: Mapping[str, Interval] | None = None,
) -> Comparison:
    """Hold one arm against the reference, seed by seed.

    Args:
        arm: whose tasks are the reference's.
        reference: each task alone.
        weights: task -> importance in the composite.
        how: makes one number of all tasks' scores.
        margin: a difference that does not matter.
        level: of the verdicts.
        intervals: task -> interval of the mean difference over seeds and examples.
    """
    names = list(reference.tasks)
    mine, theirs = arm.matrix(), reference.matrix()
    differences = mine - theirs
    ends = {name: (each.low, each.high) for name, each in (intervals or {}).items()}
    told = verdicts({name: row.tolist() for name, row in zip(names, differences, strict=True)},
                    level=level, intervals=ends)  # fmt: skip
    counted = [place for place, name in enumerate(names) if weights[name] > 0] or list(range(len(names)))
    kept = [names[place] for place in counted]
    shares = np.array([weights[name] or 1.0 for name in kept])
    whole = how.combine(mine[counted], shares, kept) - how.combine(theirs[counted], shares, kept)
    safe = np.maximum(theirs, LEAST_SCORE)
    means = differences.mean(axis=1)
    place = int(means.argmin())
    return Comparison(
        arm=arm.name,
        verdicts=told,
        equivalence={name: equivalence(row, margin) for name, row in zip(names, differences, strict=True)},
        composite=verdicts({COMPOSITE: whole.tolist()}, level=level)[0],
        delta_m=(differences / safe).mean(axis=0),
        worst=(names[place], float(means[place])),
        harmed=float((means < 0).mean()),
        ratio=float(np.exp(np.log(np.maximum(mine, 1e-6) / np.maximum(theirs, 1e-6)).mean())),
    )


def over_examples(
    arm: Sequence[Record],
    reference: Sequence[Record],
    task: str,
    metric: str,
    *,
    resamples: int,
    confidence: float,
    split: str = "test",
) -> Interval | None:
    """Bootstrap a task's mean difference over seeds and test examples; None where predictions are gone.

    Args:
        arm: [seed] its runs of the task.
        reference: [seed] those of the reference.
        task: its name.
        metric: its own.
        resamples: of the bootstrap.
        confidence: of the interval.
        split: whose examples.
    """
    pairs = []
    for one, other in zip(reference, arm, strict=True):
        lines = [list(read_lines(record.predictions(task, split))) for record in (one, other)]
        if not lines[0] or len(lines[0]) != len(lines[1]):
            return None
        held = [[line["prediction"] for line in rows] for rows in lines]
        pairs.append((held[0], held[1], [line["reference"] for line in lines[0]]))
    return paired_interval(build_metric(metric), pairs, resamples=resamples, confidence=confidence)


def ranks(arms: Sequence[ArmFacts]) -> dict[str, float]:
    """Give each arm's mean rank over tasks and seeds, 1 for the best; it depends on which arms there are."""
    held = np.stack([arm.matrix() for arm in arms])  # [arm, task, seed]
    placed = stats.rankdata(-held, axis=0)
    return {arm.name: float(placed[place].mean()) for place, arm in enumerate(arms)}


def regret(arms: Sequence[ArmFacts]) -> dict[str, float]:
    """Give each arm's normalised regret: how far between a constant answer and the best arm it stays, task by task.

    Returns:
        arm -> mean over tasks of ``(best - score) / (best - floor)``; 0 for an arm that is best at everything.
    """
    means = np.stack([arm.matrix().mean(axis=1) for arm in arms])  # [arm, task]
    floors = np.array([np.nan_to_num(each.floor).mean() for each in arms[0].tasks.values()])
    best = means.max(axis=0)
    span = np.maximum(best - floors, LEAST_SCORE)
    return {arm.name: float(((best - means[place]) / span).mean()) for place, arm in enumerate(arms)}


def as_row(found: Comparison) -> dict[str, Any]:
    """Give a comparison ready for JSON."""
    return {
        "arm": found.arm,
        "tasks": [each.as_row() | {"equivalence": found.equivalence[each.task]} for each in found.verdicts],
        "composite": found.composite.as_row(),
        "delta_m": found.delta_m.tolist(),
        "worst": list(found.worst),
        "harmed": found.harmed,
        "ratio": found.ratio,
    }
