"""Plans with shares that a test gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taskloom.batches.plan import Plan, TaskDraws
from taskloom.mixture.fixed import Fixed


def plan_of(
    sizes: Mapping[str, int], shares: Mapping[str, float], *, rows: int, steps: int, seed: int = 0, **options: Any
) -> Plan:
    """Make a plan that draws by fixed shares, one micro-batch a step."""
    tasks = {name: TaskDraws(size) for name, size in sizes.items()}
    return Plan(tasks, Fixed(ratios=dict(shares)), rows=rows, updates=steps, seed=seed, **options)


def sequence_of(plan: Plan, name: str) -> list[int]:
    """Give the items of one task in the order in which they are drawn."""
    return [item for index in range(len(plan)) for item in plan.micro(index).items.get(name, [])]
