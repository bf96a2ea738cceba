"""What a report says of the tasks' gradients against each other, from the recorded steps of a run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from taskloom.gradients.conflict import Interval, Pair, layer_cosines, pairs

LIMIT_PAIRS = 45
"""Pairs that a page shows: all of ten tasks; of more tasks those with the lowest cosines."""


@dataclass(frozen=True)
class WeightLine:
    """What one task's gradient counted over the run.

    Attributes:
        task: its name.
        first: its weight in the first step in which it had rows.
        last: in the last one.
        low: least of all steps.
        high: most of all steps.
    """

    task: str
    first: float
    last: float
    low: float
    high: float


@dataclass(frozen=True)
class ConflictFacts:
    """Conflict over the recorded steps of a run.

    Attributes:
        records: how many steps were recorded.
        pairs: each pair of tasks, those with the lowest cosine first.
        left_out: pairs that are not shown.
        layers: names of the layers.
        by_layer: for each shown pair, its mean cosine in each layer, None where it is not known.
        conflicting: how many pairs conflict beyond noise.
        weights: each task's weights, where they were not constant.
        skipped: steps that were left out, with the tasks whose gradients were not finite.
    """

    records: int
    pairs: list[Pair]
    left_out: int
    layers: list[str]
    by_layer: list[list[float | None]]
    conflicting: int
    weights: list[WeightLine]
    skipped: list[tuple[int, list[str]]]

    @property
    def sentence(self) -> str:
        """Say in a sentence what was seen."""
        total = len(self.pairs) + self.left_out
        if not total:
            return "No conflict was recorded."
        seen = f"In {self.records} recorded steps, {self.conflicting} of {total} pairs of tasks"
        return f"{seen} had gradients in conflict beyond what noise alone shows."


def conflict_facts(steps: list[dict[str, Any]], tasks: list[str]) -> ConflictFacts | None:
    """Sum up the recorded steps; None where a run recorded nothing of its gradients."""
    records = [row["conflict"] for row in steps if row.get("conflict")]
    weights, skipped = _weights(steps, tasks), [(row["step"], row["skipped"]) for row in steps if "skipped" in row]
    if not records and not weights and not skipped:
        return None
    found = sorted(pairs(records, tasks), key=lambda pair: _known(pair.cosine))
    by_layer = layer_cosines(records, tasks)
    shown = found[:LIMIT_PAIRS]
    return ConflictFacts(
        len(records),
        shown,
        len(found) - len(shown),
        list(by_layer),
        [[_mean(held.get(pair.tasks)) for held in by_layer.values()] for pair in shown],
        sum(pair.conflict for pair in found),
        weights,
        skipped,
    )


def _weights(steps: list[dict[str, Any]], tasks: list[str]) -> list[WeightLine]:
    lines = []
    applied = [row["tasks"] for row in steps if "skipped" not in row]
    for task in tasks:
        held = [row[task]["weight"] for row in applied if row.get(task, {}).get("examples")]
        if held and max(held) > min(held):
            lines.append(WeightLine(task, held[0], held[-1], min(held), max(held)))
    return lines


def _known(interval: Interval) -> float:
    return interval.mean if math.isfinite(interval.mean) else math.inf


def _mean(interval: Interval | None) -> float | None:
    return interval.mean if interval is not None and math.isfinite(interval.mean) else None
