"""The upper layers of the backbone once for each task, the lower ones frozen and in common."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from taskloom.errors import Fault, ModelError
from taskloom.model.sharing import Sharing
from taskloom.model.sharing._low_rank import at_least_one, put_in
from taskloom.model.sharing._routing import RoutedLayer, Routing
from taskloom.model.sharing._rows import TaskRows


class TaskLayers(Sharing):
    """Give each task its own copy of the backbone's last layers, trained whole; the layers below are frozen.

    Prefer it where few tasks with many rows need more than low-rank updates, and memory is no matter. Do not for many
    tasks: each has whole layers, and the rows of each run through them by themselves.

    Formula: ``y = F_t(F(x))`` for a row of task t, F the frozen lower layers and F_t the task's copy of the last `top`.

    Shapes: T top times the parameters of a layer. Of an encoder-decoder they are the decoder's layers.

    Options:
        top: how many of the last layers each task has copies of (2).

    What a layer gets besides its hidden states is cut by rows where it has at least two axes, and rows on the first.
    A cache of keys and values holds all rows of a batch, so rows that are generated together should be of one task.

    Errors: ModelError where the backbone has no list of that many layers.

    Differs: the lower layers are frozen, where in the paper all tasks train them.

    Paper: Caruana, Multitask Learning, 1997, doi:10.1023/A:1007379606734.
    """

    def __init__(self, *, top: Annotated[int, Field(ge=1)] = 2) -> None:
        at_least_one("top", top)
        self.top = top

    def install(self, backbone: nn.Module, tasks: Sequence[str]) -> Routing:
        """Put the copies in; see `Sharing.install`."""
        path, layers = _layers(backbone)
        if self.top > len(layers):
            requirement = "be no more than the layers of the backbone"
            raise ModelError(Fault("model.sharing.top", requirement, f"`{self.top}` of {len(layers)} layers"))
        first = len(layers) - self.top
        found = {f"{path}.{place}": layers[place] for place in range(first, len(layers))}
        return put_in(backbone, found, tasks, LayerCopies)


class LayerCopies(RoutedLayer):
    """A layer's copies, one for each task; the layer itself is kept for tasks to come."""

    not_plain = "whole layers of each task"

    def __init__(self, base: nn.Module, path: str, rows: TaskRows) -> None:
        super().__init__(base, path, rows)
        self.copies = nn.ModuleDict()
        for task in rows.tasks:
            self.add_task(task, None)

    def __getattr__(self, name: str) -> Any:
        """Give what the layer itself has, such as its kind of attention, which some backbones ask for."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("base_layer"), name)

    def owners(self) -> dict[str, str | None]:
        """Give each parameter's task."""
        return {
            f"copies.{key}.{name}": key.removeprefix(_PREFIX)
            for key, layer in self.copies.items()
            for name, _ in layer.named_parameters()
        }

    def add_task(self, task: str, like: str | None) -> None:
        """Add a copy: of the layer itself, or of the copy of `like`."""
        added = copy.deepcopy(self.base_layer if like is None else self.copies[_PREFIX + like])
        self.copies[_PREFIX + task] = added.requires_grad_(True)

    def forward(self, hidden: Tensor, *args: Any, **options: Any) -> Any:
        """Run each task's copy on its rows, and put the rows back."""
        rows = self.task_rows
        rows.check(hidden, self.path)
        if len(rows.present) == 1:
            return self.copies[_PREFIX + rows.tasks[rows.present[0]]](hidden, *args, **options)
        _refuse_cache([*args, *options.values()])
        numbers = rows.numbers(hidden, self.path)
        outputs, order = [], []
        for number in rows.present:
            index = (numbers == number).nonzero().flatten()
            order.append(index)
            held = [_cut(value, index, hidden) for value in (hidden, *args)]
            named = {name: _cut(value, index, hidden) for name, value in options.items()}
            outputs.append(self.copies[_PREFIX + rows.tasks[number]](*held, **named))
        return _joined(outputs, torch.cat(order))


_PREFIX = "of_"
"""What stands before a task's name, so that none can be that of something torch's modules have."""


def _layers(backbone: Any) -> tuple[str, nn.ModuleList]:
    """Find the list of the backbone's layers, of an encoder-decoder its decoder's, and the list's path.

    Raises:
        ModelError: there is none.
    """
    config = backbone.config
    base, count = backbone, getattr(config, "num_hidden_layers", 0)
    if getattr(config, "is_encoder_decoder", False):
        base = backbone.get_decoder()
        counts = ("num_decoder_layers", "decoder_layers", "num_hidden_layers", "num_layers")
        count = next((getattr(config, name) for name in counts if getattr(config, name, None)), 0)
    for path, module in backbone.named_modules():
        inside = any(module is each for each in base.modules())
        if isinstance(module, nn.ModuleList) and len(module) == count and inside:
            return path, module
    requirement = "be one for a backbone that keeps its layers in one list"
    found = f"`task_layers` for a `{type(backbone).__name__}` without a list of {count} layers"
    raise ModelError(Fault("model.sharing.scheme", requirement, found, "Take `per_task`"))


def _refuse_cache(values: Sequence[Any]) -> None:
    if any(hasattr(value, "get_seq_length") for value in values):
        raise ValueError(
            "Rows of several tasks should go through `task_layers` without a cache of keys and values. Found a cache; "
            "set `use_cache=False`, or generate for one task at a time."
        )


def _cut(value: Any, index: Tensor, hidden: Tensor) -> Any:
    """Take some rows of what a layer gets, also within tuples and dictionaries."""
    if isinstance(value, Tensor):
        count = hidden.shape[0]
        if value.dim() < 2 or value.shape[0] != count:
            return value
        if value.dim() == 2 and hidden.dim() == 3 and hidden.shape[1] == count and value.shape[1] != count:
            raise ValueError(
                f"What a layer gets should tell rows from tokens. Found {count} rows of {count} tokens and an input of "
                f"shape {tuple(value.shape)}; take another batch size."
            )
        return value.index_select(0, index)
    if isinstance(value, dict):
        return {key: _cut(each, index, hidden) for key, each in value.items()}
    if type(value) in {list, tuple}:
        return type(value)(_cut(each, index, hidden) for each in value)
    return value


def _joined(outputs: Sequence[Any], order: Tensor) -> Any:
    """Put the rows of several outputs back in the batch's order; what has no rows is that of the first."""
    first = outputs[0]
    if isinstance(first, Tensor):
        if sum(each.shape[0] for each in outputs) != len(order):
            return first
        return torch.cat(list(outputs)).index_select(0, order.argsort())
    if type(first) in {list, tuple}:
        return type(first)(_joined(parts, order) for parts in zip(*outputs, strict=True))
    return first
