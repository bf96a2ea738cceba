"""Which model to ship: first no harm, then the composite, then what is simplest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taskloom.errors import listed

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Candidate:
    """An arm that was trained to its end.

    Attributes:
        name: of the arm.
        differences: task -> [seed] validation score less that alone.
        models: how many it takes.
    """

    name: str
    differences: Mapping[str, Floats]
    models: int


@dataclass(frozen=True)
class Decision:
    """What is shipped.

    Attributes:
        arm: whose models answer for most tasks.
        single: tasks that their own single-task models answer for.
        reason: in one sentence.
        composite: weighted mean of the tasks' differences, with the single tasks' at nought.
    """

    arm: str
    single: Sequence[str]
    reason: str
    composite: float


def decide(
    candidates: Sequence[Candidate], clean: Sequence[str], weights: Mapping[str, float], margin: float
) -> Decision:
    """Choose by what comes first: no clean task below its score alone; then the composite; then the fewest models.

    Where every candidate harms a clean task by more than the margin, the tasks that it harms go to models of their own,
    and the best such mix is chosen.

    Args:
        candidates: in order of simplicity; two whose composites differ by less than the margin are alike.
        clean: tasks whose labels can be learned.
        weights: task -> importance.
        margin: a difference that does not matter.

    Raises:
        ValueError: there is no candidate.
    """
    if not candidates:
        raise ValueError("`candidates` should hold one at least. Found none.")
    harmed = {
        each.name: [name for name in clean if not each.differences[name].mean() >= -margin] for each in candidates
    }
    whole = [each for each in candidates if not harmed[each.name]]
    pool = whole or list(candidates)
    values = {each.name: _composite(each, harmed[each.name], weights) for each in pool}
    best = max(values.values())
    near = [each for each in pool if values[each.name] >= best - margin]
    chosen = min(near, key=lambda each: (each.models + len(harmed[each.name]), -values[each.name]))
    single, value = harmed[chosen.name], values[chosen.name]
    return Decision(chosen.name, single, _reason(chosen.name, single, value, [each.name for each in near]), value)


def _composite(candidate: Candidate, single: Sequence[str], weights: Mapping[str, float]) -> float:
    total = sum(weights.values()) or 1.0
    kept = {name: 0.0 if name in single else float(each.mean()) for name, each in candidate.differences.items()}
    return sum(weights[name] * value for name, value in kept.items()) / total


def _reason(arm: str, single: Sequence[str], value: float, near: Sequence[str]) -> str:
    harm = "no clean task is below its score alone by more than the margin"
    if single:
        harm = (
            f"{listed(single)} would be harmed and keeps a model of its own"
            if len(single) == 1
            else (f"{listed(single)} would be harmed and keep models of their own")
        )
    others = [name for name in near if name != arm]
    alike = f", and it is the simplest of those that do not differ by more, with {listed(others)}" if others else ""
    return f"{harm}; the composite is {value:+.3f} against single tasks{alike}"


def as_row(found: Decision) -> dict[str, Any]:
    """Give a decision ready for JSON."""
    return {"arm": found.arm, "single": list(found.single), "reason": found.reason, "composite": found.composite}
