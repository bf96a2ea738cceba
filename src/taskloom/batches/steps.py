"""The training loader's data set: one entry is one micro-batch, cut into chunks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import torch.utils.data

from taskloom.batches.chunks import Padding, chunks
from taskloom.batches.packing import packed_chunks
from taskloom.batches.plan import Drawn, Plan
from taskloom.tasks import Task
from taskloom.types import Item, Step


class ItemSource(Protocol):
    """Anything that gives items by index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Item: ...


class Steps(torch.utils.data.Dataset[Step]):
    """Micro-batches as they are drawn, cut into chunks; safe in worker processes.

    Args:
        plan: which items each micro-batch holds.
        items: task -> its training items.
        tasks: task name -> task.
        padding: how inputs are filled up.
        limit_tokens: tokens of one rectangle.
        packing: whether rows hold several sequences of one task where that leaves less padding.
        halves: whether packed rows keep the halves of each task's items apart, for statistics that compare the two.
    """

    def __init__(
        self,
        plan: Plan,
        items: Mapping[str, ItemSource],
        tasks: Mapping[str, Task],
        padding: Padding,
        limit_tokens: int,
        *,
        packing: bool = False,
        halves: bool = False,
    ) -> None:
        self.plan = plan
        self.items = items
        self.tasks = tasks
        self.padding = padding
        self.limit_tokens = limit_tokens
        self.packing = packing
        self.halves = halves

    def __len__(self) -> int:
        """Give the number of micro-batches in the run."""
        return len(self.plan)

    def __getitem__(self, drawn: int | Drawn) -> Step:
        """Build one micro-batch, as drawn or by its number; only the process that trains knows the plan's changes."""
        if isinstance(drawn, int):
            drawn = self.plan.micro(drawn)
        step = self.build([(name, self.items[name][i]) for name, indices in drawn.items.items() for i in indices])
        step.expected, step.factors = drawn.expected, drawn.factors
        return step

    def build(self, drawn: Sequence[tuple[str, Item]]) -> Step:
        """Cut items into a step and count what they hold."""
        tokens: Counter[str] = Counter()
        for name, item in drawn:
            tokens[name] += sum(map(len, item["input_ids"]))
        examples = Counter(name for name, _ in drawn)
        if self.packing:
            cut = packed_chunks(drawn, self.tasks, self.padding, self.limit_tokens, halves=self.halves)
        else:
            cut = chunks(drawn, self.tasks, self.padding, self.limit_tokens)
        return Step(cut, dict(tokens), dict(examples))


class EpochSampler(torch.utils.data.Sampler[Drawn]):
    """Micro-batches of one epoch after the other, as the plan draws them when the loader asks.

    The Trainer sees an epoch of `length` entries and names the epoch by `set_epoch`; entry i of epoch e is the plan's
    micro-batch ``e * length + i``.
    """

    def __init__(self, plan: Plan, length: int) -> None:
        self.plan = plan
        self.length = length
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Give the micro-batches of one epoch."""
        return self.length

    def __iter__(self) -> Iterator[Drawn]:
        """Go through the epoch's micro-batches; the plan's last epoch may be short."""
        first = self.epoch * self.length
        return (self.plan.micro(index) for index in range(first, min(first + self.length, len(self.plan))))


def first(batch: Sequence[Step]) -> Step:
    """Unwrap the loader's list of one; a named function, so that workers can carry it."""
    return batch[0]
