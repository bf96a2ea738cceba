"""Rows that hold several sequences of one task, where that leaves less padding than rows of one sequence each.

Within a row every sequence counts its places from 0, and attention stays within it, so that the backbone sees what it
sees of the sequence alone. What is packed is told by `Packing`, and unpacked by the model before its heads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from taskloom.batches.chunks import (
    OVERHEAD_TOKENS,
    Padding,
    add_labels,
    by_task_of,
    collate,
    cut,
    fill,
    parts_of,
    sequences_of,
)
from taskloom.tasks import Task
from taskloom.types import Chunk, Item, Packing

Drawn = Sequence[tuple[str, Item]]
Lengths = Sequence[Sequence[int]]
Place = tuple[int, int]
"""A sequence: the number of its item, and its number in the item."""

ROW_TOKENS = (32, 64, 128, 256, 512)
"""Lengths of rows that are tried, beside that of each task's longest sequence and that of the longest of all."""

DOUBLING_TOKENS = 2048
"""In rows of so many tokens a token costs twice its work elsewhere, by attention; from 700 to 1800 were measured in an
encoder of width 384, with and without dropout in attention, and wider ones have more."""


@dataclass(frozen=True)
class Unit:
    """Rows that stay together, since an item's sequences do.

    Attributes:
        rows: the sequences of each row.
        half: which half of its task's items they are.
    """

    rows: Sequence[Sequence[Place]]
    half: int


@dataclass(frozen=True)
class Rectangle:
    """Items that become one chunk.

    Attributes:
        items: their numbers, rising.
        units: the rows they are packed into; empty where each sequence has a row of its own.
        price: what it costs, in tokens of work.
    """

    items: Sequence[int]
    units: Sequence[Unit]
    price: float


def packed_chunks(
    drawn: Drawn, tasks: Mapping[str, Task], padding: Padding, limit_tokens: int, *, halves: bool
) -> list[Chunk]:
    """Cut items into rectangles, some of packed rows, and pad each.

    Rows are packed only where that costs less; rows of several lengths are tried. See `chunks`, and `pack`.
    """
    lengths = [[len(sequence) for sequence in item["input_ids"]] for _, item in drawn]
    longest = max(map(max, lengths))
    plans = [_unpacked(lengths, range(len(drawn)), limit_tokens)]
    for tokens in (0, *(each for each in ROW_TOKENS if each < longest), longest):
        units = pack([name for name, _ in drawn], lengths, tokens, limit_tokens, halves=halves)
        plans.append(_packed(lengths, units, limit_tokens))
    best = min(plans, key=lambda plan: sum(rectangle.price for rectangle in plan))
    return [_collated(rectangle, drawn, tasks, padding) for rectangle in best]


def pack(names: Sequence[str], lengths: Lengths, tokens: int, limit_tokens: int, *, halves: bool) -> list[Unit]:
    """Put items of one task together into rows, longest first, each into the first row that has room for it.

    Args:
        names: [item] the task of each item.
        lengths: [item] the lengths of each item's sequences.
        tokens: of a row, or as many as the task's longest sequence has; an item with more has rows of its own.
        limit_tokens: most tokens of a row that holds several items.
        halves: whether a task's items go to one of two halves by turns, and no row holds items of both; there are
            statistics that compare the gradients of the two.

    Returns:
        rows that hold every sequence once.
    """
    groups: dict[tuple[str, int], list[int]] = {}
    seen: dict[str, int] = {}
    room: dict[str, int] = {}
    for item, name in enumerate(names):
        seen[name] = seen.get(name, -1) + 1
        room[name] = max(room.get(name, tokens), *lengths[item])
        groups.setdefault((name, seen[name] % 2 if halves else 0), []).append(item)
    units = []
    for (name, half), items in groups.items():
        capacity = min(room[name], limit_tokens)
        whole = [item for item in items if sum(lengths[item]) <= capacity]
        for row in first_fit([sum(lengths[item]) for item in whole], capacity):
            inside = [(whole[each], place) for each in row for place in range(len(lengths[whole[each]]))]
            units.append(Unit([inside], half))
        units += [
            Unit([[(item, place) for place in row] for row in first_fit(lengths[item], capacity)], half)
            for item in sorted(set(items).difference(whole))
        ]
    return units


def first_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Put things into bins, the longest first, each into the first bin with room: their numbers, bin by bin."""
    bins: list[list[int]] = []
    room: list[int] = []
    for thing in sorted(range(len(lengths)), key=lambda each: -lengths[each]):
        place = next((number for number, left in enumerate(room) if left >= lengths[thing]), len(bins))
        if place == len(bins):
            bins.append([])
            room.append(capacity)
        bins[place].append(thing)
        room[place] -= lengths[thing]
    return bins


def lay(
    sequences: Mapping[str, Sequence[Sequence[int]]], rows: Sequence[Sequence[int]], padding: Padding
) -> tuple[dict[str, torch.Tensor], Packing]:
    """Lay sequences into rows.

    Args:
        sequences: input -> [sequence, token].
        rows: the numbers of each row's sequences; every sequence stands in one.
        padding: how inputs are filled up.

    Returns:
        the inputs of the rows, and where in them the sequences are.
    """
    held = {key: [[number for i in row for number in given[i]] for row in rows] for key, given in sequences.items()}
    lengths = [len(sequence) for sequence in sequences["input_ids"]]
    held["position_ids"] = [[place for each in row for place in range(lengths[each])] for row in rows]
    inputs = fill(held, padding)
    width = inputs["input_ids"].shape[1]
    row_of, start_of = [0] * len(lengths), [0] * len(lengths)
    for number, row in enumerate(rows):
        start = number * width
        for each in row:
            row_of[each], start_of[each] = number, start
            start += lengths[each]
    longest, ends = torch.arange(max(lengths)), torch.tensor(lengths).unsqueeze(1)
    places = torch.tensor(start_of).unsqueeze(1) + torch.minimum(longest, ends - 1)
    return inputs, Packing(torch.tensor(row_of), places, (longest < ends).to(torch.int64), [0] * len(rows))


def _price(tokens: int, rows: int) -> float:
    """Say what a rectangle costs, in tokens of work."""
    return OVERHEAD_TOKENS + rows * tokens * (1 + tokens / DOUBLING_TOKENS)


def _unpacked(lengths: Lengths, items: Sequence[int], limit_tokens: int) -> list[Rectangle]:
    """Cut items into rectangles without packed rows."""
    longest = np.array([max(lengths[item]) for item in items])
    counts = np.array([len(lengths[item]) for item in items])
    return [
        Rectangle(sorted(items[each] for each in group), (), _price(longest[group].max(), counts[group].sum()))
        for group in cut(longest, counts, limit_tokens)
    ]


def _packed(lengths: Lengths, units: Sequence[Unit], limit_tokens: int) -> list[Rectangle]:
    """Cut packed rows into rectangles, and give up those that cost no less than rectangles without packed rows."""
    tokens = [[sum(lengths[item][place] for item, place in row) for row in unit.rows] for unit in units]
    longest = np.array([max(each) for each in tokens])
    counts = np.array([len(unit.rows) for unit in units])
    found = []
    for group in cut(longest, counts, limit_tokens):
        items = sorted({item for each in group for row in units[each].rows for item, _ in row})
        rows = Rectangle(items, [units[each] for each in group], _price(longest[group].max(), counts[group].sum()))
        alone = _unpacked(lengths, items, limit_tokens)
        found += alone if sum(each.price for each in alone) <= rows.price else [rows]
    return found


def _collated(rectangle: Rectangle, drawn: Drawn, tasks: Mapping[str, Task], padding: Padding) -> Chunk:
    """Make the chunk; of packed rows, a task's stand together, and among them those of each half."""
    if not rectangle.units:
        return collate([drawn[item] for item in rectangle.items], tasks, padding)
    names = list(dict.fromkeys(drawn[item][0] for item in rectangle.items))
    order = sorted(rectangle.items, key=lambda item: names.index(drawn[item][0]))
    held = [drawn[item] for item in order]
    places = [(item, place) for item in order for place in range(len(drawn[item][1]["input_ids"]))]
    number = {place: index for index, place in enumerate(places)}
    arranged = sorted(rectangle.units, key=lambda unit: (names.index(drawn[unit.rows[0][0][0]][0]), unit.half))
    rows = [[number[place] for place in row] for unit in arranged for row in unit.rows]
    inputs, packing = lay(sequences_of([item for _, item in held]), rows, padding)
    packing.halves = [unit.half for unit in arranged for _ in unit.rows]
    chunk = Chunk(inputs, parts_of(by_task_of(held), tasks, packing.mask.shape[1]), packing)
    add_labels(chunk, tasks, padding)
    return chunk
