"""Learned keys and values before those of every layer of attention: prefix tuning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from taskloom.model.sharing import Sharing
from taskloom.model.sharing._attention import CHILD, take_over
from taskloom.model.sharing._low_rank import at_least_one
from taskloom.model.sharing._routing import RoutedLayer, Routing
from taskloom.model.sharing._rows import ByTask, TaskRows


class Prefix(Sharing):
    """Put learned keys and values before those of every layer of attention.

    Prefer it where a task shall cost few parameters and the backbone is large and writes: it is steered there as by
    a prompt. Do not for small encoders before you have compared it with a LoRA of as many parameters.

    Formula: for a query q of a row of task t, with K and V the keys and values of the row's tokens,
    ``softmax(q [P_t; K]^T / sqrt(d)) [U_t; V]``, in every layer and head; without the index where `own` is false.

    Shapes: P_t and U_t [length, width of keys] and [length, width of values]: 2 length width parameters a layer and
    task. With grouped heads that width is that of the groups.

    Options:
        length: of the prefix, in tokens (10).
        own: whether each task has its own (true), or all share one.

    It begins as what the frozen backbone itself makes of so many tokens drawn at random, the same for every task. So,
    unlike other schemes, it changes what is computed from the start. Cross-attention has a prefix of its own too.
    Prefixes have no place in the sequence: rotary embeddings are those of the random tokens at first, and the distance
    to a prefix adds nothing to T5's scores. All tokens see the whole prefix, also under causal masks, in packed rows
    and beyond a window. A cache of keys and values holds none of it.

    Errors: ModelError where transformers does not call the backbone's attention by its interface (DeBERTa, MPNet), or
    `model.attn_implementation` is another than `sdpa`.

    Differs: no network makes the prefix during training; the paper has one, which steadies large learning rates and is
    thrown away in the end.

    Paper: Li and Liang, Prefix-Tuning: Optimizing Continuous Prompts for Generation, 2021, arXiv:2101.00190.
    """

    def __init__(self, *, length: Annotated[int, Field(ge=1)] = 10, own: bool = True) -> None:
        at_least_one("length", length)
        self.length = length
        self.own = own

    def install(self, backbone: nn.Module, tasks: Sequence[str]) -> Routing:
        """Put the prefixes in; see `Sharing.install`."""
        rows, kind = TaskRows(tasks), TaskPrefix if self.own else SharedPrefix
        seen = take_over(backbone, self.length)
        backbone.requires_grad_(False)
        made: dict[str, RoutedLayer] = {}
        for path, (module, key, value) in seen.items():
            place = f"{path}.{CHILD}"
            made[place] = kind(place, rows, _flat(key), _flat(value)).train(module.training)
            module.add_module(CHILD, made[place])
        return Routing(made, rows)


class PrefixLayer(RoutedLayer):
    """The prefixes of one layer of attention; they hang on it, and nothing stands in its place.

    Args:
        path: in the backbone.
        rows: which task each row is of.
        key: what a fresh prefix's keys are: [token, width].
        value: what its values are: [token, width].
    """

    not_plain = "prefixes of attention"

    def __init__(self, path: str, rows: TaskRows, key: Tensor, value: Tensor) -> None:
        super().__init__(nn.Identity(), path, rows)
        self._fresh = (key, value)

    def forward(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Give each row its prefix: keys and values [row, head, token, width] as those given."""
        self.task_rows.check(key, self.path)
        keys, values = self.parts(key)
        return _spread(keys, key), _spread(values, value)

    def parts(self, key: Tensor) -> tuple[Tensor, Tensor]:
        """Give the keys and values of rows: [row or 1, token, width]."""
        raise NotImplementedError


class SharedPrefix(PrefixLayer):
    """One prefix, which all tasks share."""

    def __init__(self, path: str, rows: TaskRows, key: Tensor, value: Tensor) -> None:
        super().__init__(path, rows, key, value)
        self.keys, self.values = nn.Parameter(key.clone()), nn.Parameter(value.clone())

    def parts(self, key: Tensor) -> tuple[Tensor, Tensor]:
        """Give the one there is."""
        return self.keys.unsqueeze(0), self.values.unsqueeze(0)

    def add_task(self, task: str, like: str | None) -> None:
        """Do nothing: a task has nothing of its own."""


class TaskPrefix(PrefixLayer):
    """A prefix for each task."""

    def __init__(self, path: str, rows: TaskRows, key: Tensor, value: Tensor) -> None:
        super().__init__(path, rows, key, value)
        self.keys, self.values = ByTask(), ByTask()
        for task in rows.tasks:
            self.add_task(task, None)

    def parts(self, key: Tensor) -> tuple[Tensor, Tensor]:
        """Give each row its task's."""
        rows, path = self.task_rows, self.path
        return self.keys.gathered(rows, key, path), self.values.gathered(rows, key, path)

    def add_task(self, task: str, like: str | None) -> None:
        """Add a prefix."""
        for part, fresh in zip((self.keys, self.values), self._fresh, strict=True):
            source = fresh if like is None else part.of(like)
            part.put(task, source.detach().to(next(part.parameters(), source).device).clone())


def _flat(states: Tensor) -> Tensor:
    """Put the heads of one row [1, head, token, d] side by side, in single precision at least: [token, width]."""
    wide = states[0].transpose(0, 1).flatten(1)
    return wide.to(torch.promote_types(wide.dtype, torch.float32))


def _spread(part: Tensor, beside: Tensor) -> Tensor:
    """Give every row a part [row or 1, token, width], in the form of `beside` [row, head, token, d].

    Adding it to zeros of the rows is what lets the gradient of a shared part be split by row.
    """
    heads, width = beside.shape[1], beside.shape[3]
    held = part.view(*part.shape[:2], heads, width).transpose(1, 2)
    zeros = torch.zeros_like(beside[:, :, :1], dtype=part.dtype)
    return torch.add(zeros, held).to(beside.dtype)
