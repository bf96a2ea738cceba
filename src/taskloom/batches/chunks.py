"""Rectangles of like length: a step's sequences, cut so that little of the work is padding."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from taskloom.tasks import Task
from taskloom.types import IGNORED, Chunk, Item, Part

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

OVERHEAD_TOKENS = 96
"""What one more rectangle costs, in tokens of work: launching a forward and a backward pass is not free.

About 50 were measured on one core in an encoder of width 384 with an adapter; more cores work off tokens faster.
"""


@dataclass(frozen=True)
class Padding:
    """How the backbone's inputs are filled up, by key: the tokenizer's padding token, zeros for the rest.

    Attributes:
        input_ids: the padding token.
        decoder_start: the token that an encoder-decoder begins to write with; None for other backbones.
    """

    input_ids: int
    decoder_start: int | None = None

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerFast, backbone: Any) -> Self:
        """Give that of a tokenizer and of a backbone's configuration."""
        return cls(int(tokenizer.pad_token_id or 0), getattr(backbone, "decoder_start_token_id", None))

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


def fill(rows: Mapping[str, Sequence[Sequence[int]]], padding: Padding) -> dict[str, torch.Tensor]:
    """Fill rows up to the longest.

    Args:
        rows: input -> [row, token]; the same lengths for every input, ``input_ids`` among them.
        padding: how inputs are filled up.

    Returns:
        each input [row, token] int64, and ``attention_mask``, 1 where a token is real.
    """
    lengths = torch.tensor([len(row) for row in rows["input_ids"]])
    tokens = int(lengths.max())
    inputs = {
        key: torch.tensor([[*row, *[padding.value(key)] * (tokens - len(row))] for row in held], dtype=torch.int64)
        for key, held in rows.items()
    }
    inputs["attention_mask"] = (torch.arange(tokens) < lengths.unsqueeze(1)).to(torch.int64)
    return inputs


def sequences_of(items: Sequence[Item]) -> dict[str, list[list[int]]]:
    """Give the sequences of some items one after the other: input -> [sequence, token]."""
    found = {"input_ids": [sequence for item in items for sequence in item["input_ids"]]}
    if any(item.get("token_type_ids") for item in items):  # prompts are tokenised in pieces, all of the first type
        typed = [item.get("token_type_ids") or [[0] * len(ids) for ids in item["input_ids"]] for item in items]
        found["token_type_ids"] = [sequence for held in typed for sequence in held]
    return found


def parts_of(by_task: Mapping[str, Sequence[Item]], tasks: Mapping[str, Task], tokens: int) -> dict[str, Part]:
    """Give each task its share of a chunk whose sequences stand in the order of tasks and items.

    Args:
        by_task: task name -> its items.
        tasks: task name -> task.
        tokens: of the longest sequence.
    """
    parts, start = {}, 0
    for name, items in by_task.items():
        sizes = [len(item["input_ids"]) for item in items]
        own = torch.arange(start, start + sum(sizes))
        parts[name] = Part(own, sizes, tasks[name].targets(items, tokens), items)
        start += sum(sizes)
    return parts


def by_task_of(drawn: Iterable[tuple[str, Item]]) -> dict[str, list[Item]]:
    """Put the items of each task together, in the order given."""
    by_task: dict[str, list[Item]] = {}
    for name, item in drawn:
        by_task.setdefault(name, []).append(item)
    return by_task


def collate(drawn: Sequence[tuple[str, Item]], tasks: Mapping[str, Task], padding: Padding) -> Chunk:
    """Pad items into one rectangle; items of a task stand together, in the order given.

    Args:
        drawn: task name and item, for each item.
        tasks: task name -> task.
        padding: how inputs are filled up.
    """
    by_task = by_task_of(drawn)
    inputs = fill(sequences_of([item for items in by_task.values() for item in items]), padding)
    chunk = Chunk(inputs, parts_of(by_task, tasks, inputs["input_ids"].shape[1]))
    add_labels(chunk, tasks, padding)
    return chunk


def add_labels(chunk: Chunk, tasks: Mapping[str, Task], padding: Padding) -> None:
    """Give a chunk whose tasks read words its ``labels``, and what an encoder-decoder is to write after."""
    held = {name: part.targets["labels"] for name, part in chunk.parts.items() if tasks[name].reads == "words"}
    if not held:
        return
    count = sum(len(part.sequences) for part in chunk.parts.values())
    labels = torch.full((count, max(each.shape[1] for each in held.values())), IGNORED)
    for name, own in held.items():
        labels[chunk.parts[name].sequences, : own.shape[1]] = own
    chunk.inputs["labels"] = labels
    if padding.decoder_start is not None:
        before = labels.new_full((count, 1), padding.decoder_start)
        written = torch.cat([before, labels[:, :-1]], dim=1)
        chunk.inputs["decoder_input_ids"] = written.masked_fill(written == IGNORED, padding.input_ids)


def chunks(
    drawn: Sequence[tuple[str, Item]], tasks: Mapping[str, Task], padding: Padding, limit_tokens: int
) -> list[Chunk]:
    """Cut items into rectangles and pad each."""
    found = []
    for kind in apart(drawn, tasks):
        lengths = np.array([max(map(len, item["input_ids"])) for _, item in kind])
        rows = np.array([len(item["input_ids"]) for _, item in kind])
        groups = cut(lengths, rows, limit_tokens)
        found += [collate([kind[index] for index in sorted(group)], tasks, padding) for group in groups]
    return found


def apart(drawn: Sequence[tuple[str, Item]], tasks: Mapping[str, Task]) -> list[list[tuple[str, Item]]]:
    """Part what an encoder-decoder only reads from what it also writes for; other backbones take all together."""
    kinds: dict[bool, list[tuple[str, Item]]] = {}
    for name, item in drawn:
        task = tasks[name]
        kinds.setdefault(task.reads == "words" and task.family == "encoder_decoder", []).append((name, item))
    return list(kinds.values())
