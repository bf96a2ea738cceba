"""Rectangles of like length: a step's sequences, cut so that little of the work is padding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from taskloom.tasks import Task
from taskloom.types import Chunk, Item, Part

OVERHEAD_TOKENS = 128
"""What one more rectangle costs, in tokens of work: launching a forward and a backward pass is not free."""


@dataclass(frozen=True)
class Padding:
    """How the backbone's inputs are filled up, by key: the tokenizer's padding token, zeros for the rest."""

    input_ids: int

    def value(self, key: str) -> int:
        """Give the filling of one input."""
        return self.input_ids if key == "input_ids" else 0


def cut(lengths: NDArray[np.int64], rows: NDArray[np.int64], limit_tokens: int) -> list[list[int]]:
    """Cut items into groups whose rectangles cost least, counting padding and the price of a further rectangle.

    Items are sorted by length; the best cut of the sorted line is found by dynamic programming.

    Args:
        lengths: [item] longest sequence of each item.
        rows: [item] sequences of each item.
        limit_tokens: tokens of a rectangle; an item that alone has more stands alone.

    Returns:
        groups of item indices, longest first; every item stands in exactly one.
    """
    order = np.argsort(-lengths, kind="stable")
    long, wide = lengths[order], rows[order]
    before = np.concatenate([[0], wide.cumsum()])
    count = len(order)
    best = np.full(count + 1, np.inf)
    best[0] = 0.0
    start_of = np.zeros(count + 1, dtype=np.int64)
    for end in range(1, count + 1):
        starts = np.arange(end)
        area = long[:end] * (before[end] - before[:end])
        fits = (area <= limit_tokens) | (starts == end - 1)
        cost = np.where(fits, best[:end] + area + OVERHEAD_TOKENS, np.inf)
        start_of[end] = int(cost.argmin())
        best[end] = cost[start_of[end]]
    groups: list[list[int]] = []
    end = count
    while end:
        groups.append([int(place) for place in order[start_of[end] : end]])
        end = int(start_of[end])
    return groups[::-1]


def collate(drawn: Sequence[tuple[str, Item]], tasks: Mapping[str, Task], padding: Padding) -> Chunk:
    """Pad items into one rectangle; items of a task stand together, in the order given.

    Args:
        drawn: task name and item, for each item.
        tasks: task name -> task.
        padding: how inputs are filled up.
    """
    by_task: dict[str, list[Item]] = {}
    for name, item in drawn:
        by_task.setdefault(name, []).append(item)
    sequences = [item["input_ids"] for items in by_task.values() for item in items]
    tokens = max(len(sequence) for item in sequences for sequence in item)
    inputs: dict[str, torch.Tensor] = {}
    first = next(iter(by_task.values()))[0]
    for key in ("input_ids", "token_type_ids"):
        if key in first:
            rows = [row for items in by_task.values() for item in items for row in item[key]]
            filled = [row + [padding.value(key)] * (tokens - len(row)) for row in rows]
            inputs[key] = torch.tensor(filled, dtype=torch.int64)
    lengths = torch.tensor([len(sequence) for item in sequences for sequence in item])
    inputs["attention_mask"] = (torch.arange(tokens) < lengths.unsqueeze(1)).to(torch.int64)
    parts, row = {}, 0
    for name, items in by_task.items():
        sizes = [len(item["input_ids"]) for item in items]
        rows_of = torch.arange(row, row + sum(sizes))
        parts[name] = Part(rows_of, sizes, tasks[name].targets(items, tokens), items)
        row += sum(sizes)
    return Chunk(inputs, parts)


def chunks(
    drawn: Sequence[tuple[str, Item]], tasks: Mapping[str, Task], padding: Padding, limit_tokens: int
) -> list[Chunk]:
    """Cut items into rectangles and pad each."""
    lengths = np.array([max(map(len, item["input_ids"])) for _, item in drawn])
    rows = np.array([len(item["input_ids"]) for _, item in drawn])
    return [
        collate([drawn[index] for index in sorted(group)], tasks, padding) for group in cut(lengths, rows, limit_tokens)
    ]
