"""What to do with each task, in a sentence with its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from taskloom.affinity import Transfer
from taskloom.errors import listed
from taskloom.planning.partition import Partition

Action = Literal["train together", "train alone", "drop", "gather rows"]

LIMIT_NAMED = 4
"""How many tasks of a group one sentence names."""

FEW_ROWS = 500
"""A task with fewer training rows is short of them, where it gains nothing from the others."""


@dataclass(frozen=True)
class Advice:
    """What to do with one task.

    Attributes:
        task: its name.
        action: what is advised.
        reason: one sentence with its figures.
        gain: what is foretold of it, in the unit of transfer.
    """

    task: str
    action: Action
    reason: str
    gain: float


def advise(
    transfer: Transfer, chosen: Partition, weights: Mapping[str, float], rows: Mapping[str, int]
) -> list[Advice]:
    """Say for each task what to do with it, and why.

    Args:
        transfer: of the tasks.
        chosen: the partition that is advised.
        weights: task -> importance; one of 0 is there for the others' sake alone.
        rows: task -> training rows, where known.
    """
    group_of = {task: group for group in chosen.groups for task in group}
    return [
        _advice(transfer, place, group_of[place], float(chosen.gains[place]), weights[name], rows.get(name))
        for place, name in enumerate(transfer.tasks)
    ]


def _advice(
    transfer: Transfer, place: int, group: Sequence[int], gain: float, weight: float, rows: int | None
) -> Advice:
    names, effect = transfer.tasks, np.nan_to_num(transfer.effect)
    name, others = names[place], [other for other in range(len(names)) if other != place]
    given, got = effect[place, others], effect[others, place]
    together = [names[other] for other in group if other != place]
    if not weight and given.mean() <= 0:
        reason = f"its own score does not count, and to the others it does {_signed(given.mean())} on average"
        return Advice(name, "drop", reason, gain)
    if together:
        whole = len(together) == len(others) > 1
        who = "all others together" if whole else listed(together, LIMIT_NAMED)
        reason = f"{who} {_does(together)} {_signed(gain)} for it"
        back = float(effect[place, list(set(group) - {place})].mean())
        if gain < 0 < back:
            reason += f", and it does {_signed(back)} for them"
        elif gain < 0:
            reason += ", and no other grouping is told from this one"
        return Advice(name, "train together", reason, gain)
    if rows is not None and rows < FEW_ROWS and got.max() <= 0:
        reason = f"it has {rows} training rows, and no task helps it: the best one does {_signed(got.max())}"
        return Advice(name, "gather rows", reason, gain)
    return Advice(name, "train alone", _alone(transfer, place, others), gain)


def _alone(transfer: Transfer, place: int, others: Sequence[int]) -> str:
    """Say why a task is best left alone: what hurts it, what it hurts, or that nothing helps it."""
    names, effect = transfer.tasks, np.nan_to_num(transfer.effect)
    worst = min(others, key=lambda other: effect[other, place])
    hurt = min(others, key=lambda other: effect[place, other])
    if effect[worst, place] < 0 or effect[place, hurt] < 0:
        if effect[worst, place] <= effect[place, hurt]:
            return f"{names[worst]} does {_signed(effect[worst, place])} for it"
        return f"it does {_signed(effect[place, hurt])} for {names[hurt]}"
    best = max(others, key=lambda other: effect[other, place])
    return f"the others do better without it; {names[best]} would do {_signed(effect[best, place])} for it"


def _does(names: Sequence[str]) -> str:
    return "does" if len(names) == 1 else "do"


def _signed(value: float) -> str:
    return f"{value:+.3g}"
