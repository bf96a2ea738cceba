"""Steps for balancing methods: statistics as the engine would give them, out of a matrix of gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from taskloom.balance import BALANCES, Balance, Statistics

NAMES = ("intent", "slots", "urgency", "mood", "answer", "topics", "reply", "title")


def gradients(
    count: int, *, seed: int = 0, rank: int | None = None, spread: float = 1.0, scale: float = 1.0, params: int = 12
) -> Tensor:
    """Draw gradients [task, param] of a known rank, whose lengths differ by a factor of about `spread`."""
    generator = torch.Generator().manual_seed(seed)
    rank = min(rank or count, count)
    left = torch.randn(count, rank, generator=generator, dtype=torch.float64)
    right = torch.randn(rank, params, generator=generator, dtype=torch.float64)
    if rank == count:  # a product of two square matrices would be nearly dependent
        left = torch.eye(count, dtype=torch.float64)
    drawn = left @ right
    lengths = torch.rand(count, 1, generator=generator, dtype=torch.float64)
    return scale * spread ** (lengths - 0.5) * drawn / drawn.norm(dim=1, keepdim=True).clamp(min=1e-300)


def seen_of(
    jacobian: Tensor,
    losses: Sequence[float] | None = None,
    *,
    tasks: Sequence[str] | None = None,
    preference: Sequence[float] | None = None,
    step: int = 0,
    **more: Any,
) -> Statistics:
    """Give the statistics of a step; the halves of each task's rows differ from the whole by something fixed."""
    count = len(jacobian)
    losses = losses if losses is not None else [1.0 + 0.5 * place for place in range(count)]
    off = 0.4 * jacobian.roll(1, dims=1)
    return Statistics(
        tasks=tuple(tasks or NAMES[:count]),
        losses=torch.tensor(losses, dtype=torch.float64),
        preference=torch.tensor(preference or [1 / count] * count, dtype=torch.float64),
        step=step,
        gramian=jacobian @ jacobian.T,
        cross_gramian=(jacobian + off) @ (jacobian - off).T,
        jacobian=jacobian,
        **more,
    )


def made(name: str, tasks: Sequence[str] = NAMES, **options: Any) -> Balance:
    """Make a method and begin; options that it cannot do without are filled in."""
    for option, (_, default) in BALANCES.options(name).items():
        if default is ... and option not in options:
            numbers = {task: 1.0 + NAMES.index(task) for task in tasks}
            options[option] = numbers if option == "weights" else tasks[0]
    few = {"krum": {"n_byzantine": 0}, "trimmed_mean": {"trim_number": 1 if len(tasks) > 2 else 0}}
    balance = BALANCES.load(name)(**(few.get(name, {}) | options))
    balance.begin(tasks)
    return balance
