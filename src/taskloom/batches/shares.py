"""Shares between a floor and a limit."""

from __future__ import annotations

from collections.abc import Mapping


def bounded(weights: Mapping[str, float], floor: float, most: Mapping[str, float]) -> dict[str, float]:
    """Make shares in proportion to weights that respect a floor, and limits above it.

    Where a task reaches its limit, what it cannot take goes to the others in proportion. Limits that together leave
    less than the whole are stretched alike, since a step is always full.

    Args:
        weights: task -> a number above 0.
        floor: least share of every task.
        most: task -> its greatest share; may be above 1.

    Returns:
        task -> share; they add up to 1. Empty for no task.
    """
    if not weights:
        return {}
    floor = min(floor, 1 / len(weights))
    total = sum(weights.values())
    wanted = {name: floor + (1 - floor * len(weights)) * weight / total for name, weight in weights.items()}
    fixed: dict[str, float] = {}
    while True:
        rest, free = 1 - sum(fixed.values()), [name for name in weights if name not in fixed]
        if not free:
            whole = sum(fixed.values())
            return {name: fixed[name] / whole for name in weights}
        scale = rest / sum(wanted[name] for name in free)
        over = [name for name in free if wanted[name] * scale > most[name] * (1 + 1e-12)]
        if not over:
            return {name: fixed.get(name, wanted[name] * scale) for name in weights}
        fixed |= {name: most[name] for name in over}
