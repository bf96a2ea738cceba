"""What the data shows before anything is trained: sizes, entropy of labels, leaks, and what could be told at all."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from taskloom.config import Config
from taskloom.inspection import TaskFacts, check
from taskloom.statistics import detectable, smallest_p

DISAGREEMENT = 0.1
"""Share of answers in which two models of one task are taken to differ, before there are any."""

FEW_HELD_OUT = 200
"""Fewer rows than this to be scored on are told of."""

ONE_LABEL = {"classification", "token_classification"}
"""Types whose loss is that of one label at a time, so that the entropy of labels is a loss."""

LEVEL = 0.05
"""How often a claim may be a false alarm."""


@dataclass(frozen=True)
class TaskProfile:
    """What one task's data is.

    Attributes:
        task: its name.
        rows: split -> rows.
        tokens: of a training sequence, the median.
        labels: how many different ones; 0 for numbers and words.
        entropy: of the training labels, in nats: the loss of a model that has learned nothing but how frequent each is;
            None of a task that gives no single label.
        detectable: the smallest difference of validation scores that one seed could show four times in five, if two
            models answered `DISAGREEMENT` of the rows differently.
        warnings: in words.
    """

    task: str
    rows: Mapping[str, int]
    tokens: int
    labels: int
    entropy: float | None
    detectable: float
    warnings: Sequence[str]


def profile(base: Config) -> list[TaskProfile]:
    """Look at the data of every task; nothing is trained.

    Args:
        base: the run of all tasks.

    Raises:
        TaskloomError: with everything that is wrong with the run.
    """
    facts = check(base)
    shared: dict[str, dict[str, int]] = {each.name: {} for each in facts.tasks}
    for each in facts.shared:
        shared[each.task][each.trained] = each.total
    return [_of(each, shared[each.name]) for each in facts.tasks]


def _of(facts: TaskFacts, shared: Mapping[str, int]) -> TaskProfile:
    held = facts.rows.get("validation", 0)
    return TaskProfile(
        task=facts.name,
        rows=dict(facts.rows),
        tokens=facts.tokens[0],
        labels=len(facts.labels),
        entropy=entropy(facts.labels.values()) if facts.type in ONE_LABEL else None,
        detectable=detectable(math.sqrt(DISAGREEMENT), held),
        warnings=_warnings(facts, shared),
    )


def entropy(shares: Iterable[float]) -> float:
    """Give the entropy of shares that add up to 1, in nats."""
    return -sum(share * math.log(share) for share in shares if share > 0)


def _warnings(facts: TaskFacts, shared: Mapping[str, int]) -> list[str]:
    found = [f"{count} rows of {pair} are the same" for pair, count in facts.leaks.items()]
    found += [f"{count} rows that it is scored on are trained on by {other}" for other, count in shared.items()]
    few = {split: n for split, n in facts.rows.items() if split != "train" and n < FEW_HELD_OUT}
    if few:
        sizes = " and ".join(f"{n} {split}" for split, n in few.items())
        reach = detectable(math.sqrt(DISAGREEMENT), min(few.values()))
        found.append(f"{sizes} rows are few: a difference below about {reach:.2f} would not be seen")
    return found


def seeds_for_a_claim(tasks: int, level: float = LEVEL) -> int:
    """Give how many paired seeds it takes before any of so many tasks could be called helped or harmed."""
    seeds = 1
    while tasks * smallest_p(seeds) > level:
        seeds += 1
    return seeds
