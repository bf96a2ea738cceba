"""What mixtures that follow training share: numbers that stay finite, running means, and shares from scores."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

LIMIT = 1e9
"""What is larger counts as this, so that sums of many stay finite."""


def numbers(values: Mapping[str, float]) -> dict[str, float]:
    """Keep what is a number, within `LIMIT`; a loss that is NaN or infinite says nothing of its task."""
    return {task: min(max(float(value), -LIMIT), LIMIT) for task, value in values.items() if math.isfinite(value)}


def move(means: dict[str, float], values: Mapping[str, float], keep: float) -> None:
    """Move running means towards new values, in place; a task begins at its first value, one without a value stays.

    Args:
        means: task -> running mean.
        values: task -> new value.
        keep: share of the past in the mean.
    """
    for task, value in values.items():
        before = means.get(task, value)
        # Not `keep * before + (1 - keep) * value`: that moves by rounding alone where nothing has changed.
        means[task] = before + (1 - keep) * (value - before)


def filled(known: Mapping[str, float], tasks: Iterable[str]) -> dict[str, float]:
    """Give every task a value: one that is not known counts as the mean of those that are, and all as 0 without any."""
    tasks = list(tasks)
    there = [known[task] for task in tasks if task in known]
    mean = math.fsum(there) / len(there) if there else 0.0
    return {task: known.get(task, mean) for task in tasks}


def softmax(logits: Mapping[str, float]) -> dict[str, float]:
    """Give shares proportional to the exponentials."""
    largest = max(logits.values())
    powers = {task: math.exp(logit - largest) for task, logit in logits.items()}
    total = math.fsum(powers.values())
    return {task: power / total for task, power in powers.items()}


def proportional(scores: Mapping[str, float]) -> dict[str, float]:
    """Give shares proportional to scores from 0; equal ones where all are 0."""
    total = math.fsum(scores.values())
    return {task: score / total if total else 1 / len(scores) for task, score in scores.items()}


def explored(shares: Mapping[str, float], exploration: float) -> dict[str, float]:
    """Spread a part of the draws evenly, so that no task is lost sight of."""
    return {task: (1 - exploration) * share + exploration / len(shares) for task, share in shares.items()}
