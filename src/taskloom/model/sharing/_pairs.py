"""Pairs of low-rank factors: one of each task, or several side by side that all tasks use."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from taskloom.model.sharing._routing import Factors, RoutedLinear
from taskloom.model.sharing._rows import ByTask


class TaskPairs(nn.Module):
    """A pair of factors of each task, gathered by row.

    Args:
        rank: of a pair.
        scaling: of the update.
    """

    def __init__(self, rank: int, scaling: float) -> None:
        super().__init__()
        self.rank = rank
        self.scaling = scaling
        self.down = ByTask()
        self.up = ByTask()

    def put(self, task: str, layer: RoutedLinear, copied: Factors | None = None) -> None:
        """Give a task its pair: a copy, or a fresh one, which changes nothing yet."""
        down, up = copied or (layer.fresh_down(self.rank), layer.fresh_up(self.rank))
        self.down.put(task, down.detach().clone())
        self.up.put(task, up.detach().clone())

    def pair(self, task: str) -> Factors:
        """Give a task's pair as it is trained, without the scaling."""
        return self.down.of(task), self.up.of(task)

    def added(self, x: Tensor, layer: RoutedLinear) -> Tensor:
        """Give each row its task's update: [row, token, in] -> [row, token, out]."""
        narrow = self.down.project(layer.task_rows, x, layer.path) * self.scaling
        return self.up.project(layer.task_rows, narrow, layer.path)

    def factors(self, task: str) -> Factors:
        """Give a task's pair with the scaling in the second."""
        down, up = self.pair(task)
        return down, up * self.scaling


class StackedPairs(nn.Module):
    """Several pairs side by side, of which each row or token takes a weighted sum: two products for all of them.

    Args:
        layer: the layer that they stand beside.
        count: E, how many pairs.
        rank: r of each.
        scaling: of the update.
    """

    def __init__(self, layer: RoutedLinear, count: int, rank: int, scaling: float) -> None:
        super().__init__()
        self.count = count
        self.rank = rank
        self.scaling = scaling
        self.down = nn.Parameter(torch.cat([layer.fresh_down(rank) for _ in range(count)]))
        self.up = nn.Parameter(layer.fresh_up(count * rank))

    def added(self, x: Tensor, gate: Tensor | None = None) -> Tensor:
        """Give the sum of the pairs' updates.

        Args:
            x: [row, token, in].
            gate: weights [row, token or 1, E]; all 1 where None.

        Returns:
            [row, token, out].
        """
        narrow = functional.linear(x, self.down)
        if gate is None:
            return functional.linear(narrow * self.scaling, self.up)
        apart = narrow.view(narrow.shape[0], narrow.shape[1], self.count, self.rank)
        weighed = apart * (gate * self.scaling).unsqueeze(-1)
        return functional.linear(weighed.view(narrow.shape), self.up)

    def factors(self, gate: Tensor | None = None) -> Factors:
        """Give the pairs under weights [E] as one, with the scaling in the second."""
        if gate is None:
            return self.down, self.up * self.scaling
        return self.down, self.up * (gate.repeat_interleave(self.rank) * self.scaling)

    def pair(self, place: int) -> Factors:
        """Give one of the pairs, without the scaling."""
        part = slice(place * self.rank, (place + 1) * self.rank)
        return self.down[part], self.up[:, part]


def side_by_side(pairs: Sequence[Factors]) -> Factors:
    """Give several updates as one of the summed rank."""
    return torch.cat([down for down, _ in pairs]), torch.cat([up for _, up in pairs], dim=1)
