"""The training loader's data set: one entry is one micro-batch, cut into chunks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import torch.utils.data

from taskloom.batches.chunks import Padding, chunks
from taskloom.batches.draws import Draws
from taskloom.tasks import Task
from taskloom.types import Item, Step


class ItemSource(Protocol):
    """Anything that gives items by index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Item: ...


class Steps(torch.utils.data.Dataset[Step]):
    """Micro-batches by number: drawn by `Draws`, cut into chunks; safe in worker processes.

    Args:
        draws: which items each micro-batch holds.
        items: task -> its training items.
        tasks: task name -> task.
        padding: how inputs are filled up.
        limit_tokens: tokens of one rectangle.
    """

    def __init__(
        self,
        draws: Draws,
        items: Mapping[str, ItemSource],
        tasks: Mapping[str, Task],
        padding: Padding,
        limit_tokens: int,
    ) -> None:
        self.draws = draws
        self.items = items
        self.tasks = tasks
        self.padding = padding
        self.limit_tokens = limit_tokens

    def __len__(self) -> int:
        """Give the number of micro-batches in the run."""
        return len(self.draws)

    def __getitem__(self, index: int) -> Step:
        """Build one micro-batch."""
        drawn = [(name, self.items[name][i]) for name, indices in self.draws.step(index).items() for i in indices]
        return self.build(drawn)

    def build(self, drawn: Sequence[tuple[str, Item]]) -> Step:
        """Cut items into a step and count what they hold."""
        tokens: Counter[str] = Counter()
        for name, item in drawn:
            tokens[name] += sum(map(len, item["input_ids"]))
        examples = Counter(name for name, _ in drawn)
        return Step(chunks(drawn, self.tasks, self.padding, self.limit_tokens), dict(tokens), dict(examples))


class EpochSampler(torch.utils.data.Sampler[int]):
    """Micro-batches of one epoch after the other, in the order of the plan.

    The Trainer sees an epoch of `length` entries and names the epoch by `set_epoch`; entry i of epoch e is the plan's
    micro-batch ``e * length + i``.
    """

    def __init__(self, length: int, total: int) -> None:
        self.length = length
        self.total = total
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Give the micro-batches of one epoch."""
        return self.length

    def __iter__(self) -> Iterator[int]:
        """Go through the epoch's micro-batches; the plan's last epoch may be short."""
        first = self.epoch * self.length
        return iter(range(first, min(first + self.length, self.total)))


def first(batch: Sequence[Step]) -> Step:
    """Unwrap the loader's list of one; a named function, so that workers can carry it."""
    return batch[0]
