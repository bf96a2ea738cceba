"""A plan: for every number of groups the best one, which of them to take, and what to do with each task."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from taskloom.affinity import Transfer
from taskloom.planning.advice import Advice, advise
from taskloom.planning.partition import (
    LIMIT_EXACT,
    Partition,
    best_partitions,
    drawn_effects,
    gains_of,
    optimism,
    simplest_within_noise,
    value_of,
)
from taskloom.record import VERSION, read_note, write_json

FILE = "plan.json"
DRAWS = 400
"""Draws of what effects could be, behind intervals and the choice of a plan."""

EXCESS_DRAWS = 40
"""Draws in which the best groupings are looked for again."""

CONFIDENCE = (0.025, 0.975)


@dataclass(frozen=True)
class Grouping:
    """The best way to part the tasks into k groups.

    Attributes:
        k: how many groups.
        groups: tasks by name.
        gains: task -> what training in its group is foretold to do for it.
        composite: weighted mean of the gains, less what choosing the best of many groupings adds to it.
        low: lower end of its interval, by effects as they could be.
        high: its upper end.
        above_joint: share of those draws in which it is above one group of all tasks.
        parameters: trained parameters, heads among them, of k models of the run's kind; None where that is not known.
        measured: task -> what training in its group did, once it was measured by pairs; None before.
    """

    k: int
    groups: Sequence[Sequence[str]]
    gains: Mapping[str, float]
    composite: float
    low: float
    high: float
    above_joint: float
    parameters: int | None = None
    measured: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Plan:
    """Which tasks to train together.

    Attributes:
        tasks: names.
        estimator: what transfer was found by.
        is_measured: whether that was measured; else all figures are foretold.
        unit: of gains.
        exact: whether every way to part the tasks was weighed.
        unknown: how many effects are not known and count as none.
        plans: the best grouping for each number of groups, from 1 on.
        chosen: the number of groups that is advised.
        advice: what to do with each task.
    """

    tasks: Sequence[str]
    estimator: str
    is_measured: bool
    unit: str
    exact: bool
    unknown: int
    plans: Sequence[Grouping]
    chosen: int
    advice: Sequence[Advice] = field(default_factory=tuple)

    @property
    def best(self) -> Grouping:
        """The grouping that is advised."""
        return self.plans[self.chosen - 1]


def make_plan(
    transfer: Transfer,
    *,
    weights: Mapping[str, float] | None = None,
    rows: Mapping[str, int] | None = None,
    parameters: Mapping[str, int] | None = None,
    truth: Transfer | None = None,
    k: int | None = None,
) -> Plan:
    """Part tasks into groups by what they do for each other.

    Args:
        transfer: predicted or measured.
        weights: task -> importance; 1 for all by default.
        rows: task -> training rows, for advice.
        parameters: "shared", and those of each task's head, of the run; None where they are not known.
        truth: transfer as measured, to be put beside what was foretold.
        k: the number of groups to choose; by default the fewest that are not told from the best.

    Raises:
        ValueError: there is one task alone, or `k` is no number of groups that they can be parted into.
    """
    names, count = transfer.tasks, len(transfer.tasks)
    if count < 2:
        raise ValueError("`transfer` should be of two tasks at least. Found one.")
    if k is not None and not 1 <= k <= count:
        raise ValueError(f"`k` should be from 1 to {count}. Found `{k}`.")
    counts = np.array([1.0 if weights is None else weights[name] for name in names])
    counts = counts if counts.sum() > 0 else np.ones(count)
    found = best_partitions(transfer.effect, counts)
    samples = _samples(transfer, found, counts)
    unsure = bool(np.isnan(transfer.low).all())
    # Without intervals nothing is told from anything, and one group is the simplest.
    chosen = k or (1 if unsure else simplest_within_noise(samples.mean(axis=0), samples) + 1)
    if unsure:
        samples = np.full_like(samples[:1], np.nan)
    held = [_grouping(each, names, samples[:, [place, 0]], parameters, truth) for place, each in enumerate(found)]
    return Plan(
        tasks=names,
        estimator=transfer.estimator,
        is_measured=transfer.measured,
        unit=transfer.unit,
        exact=count <= LIMIT_EXACT,
        unknown=max(int(np.isnan(transfer.effect).sum()) - count, 0),
        plans=held,
        chosen=chosen,
        advice=advise(transfer, found[chosen - 1], dict(zip(names, counts, strict=True)), rows or {}),
    )


def _samples(transfer: Transfer, found: Sequence[Partition], counts: Any) -> Any:
    """Give what each plan could be worth: [draw, plan].

    The best of many groupings is chosen by its noise too; what that adds is taken off again.
    """
    drawn = drawn_effects(transfer.effect, transfer.low, transfer.high, DRAWS)
    few = EXCESS_DRAWS if len(counts) <= LIMIT_EXACT else EXCESS_DRAWS // 4
    excess = optimism(drawn[:few], transfer.effect, counts)
    return np.array([[value_of(each.groups, effect, counts) for each in found] for effect in drawn]) - excess


def _grouping(
    found: Partition,
    names: Sequence[str],
    samples: Any,
    parameters: Mapping[str, int] | None,
    truth: Transfer | None,
) -> Grouping:
    """Give a partition in the user's terms; `samples` are its values and those of one group of all: [draw, 2]."""
    low, high = np.quantile(samples[:, 0], CONFIDENCE)
    measured = None
    if truth is not None:
        gains = gains_of(found.groups, truth.among(tuple(names)).effect)
        measured = dict(zip(names, gains.tolist(), strict=True))
    size = None
    if parameters is not None:
        heads = sum(parameters.get(name, 0) for name in names)
        size = len(found.groups) * parameters["shared"] + heads
    return Grouping(
        k=len(found.groups),
        groups=[[names[task] for task in group] for group in found.groups],
        gains=dict(zip(names, found.gains.tolist(), strict=True)),
        composite=found.value if np.isnan(samples[0, 0]) else float(samples[:, 0].mean()),
        low=float(low),
        high=float(high),
        above_joint=math.nan if np.isnan(samples[0, 0]) else float((samples[:, 0] > samples[:, 1]).mean()),
        parameters=size,
        measured=measured,
    )


def write_plan(plan: Plan, path: Path) -> None:
    """Write it as JSON."""
    write_json(path, {"version": VERSION, **asdict(plan)})


def read_plan(path: Path) -> Plan | None:
    """Read what `write_plan` wrote; None where there is nothing."""
    held = read_note(path)
    if not held:
        return None
    held.pop("version")
    plans = [Grouping(**each) for each in held.pop("plans")]
    advice = [Advice(**each) for each in held.pop("advice")]
    return Plan(**held, plans=plans, advice=advice)
