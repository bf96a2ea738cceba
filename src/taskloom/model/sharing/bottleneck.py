"""Small networks after the attention and feed-forward blocks: Houlsby's adapters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from taskloom.model.sharing import Sharing
from taskloom.model.sharing._low_rank import at_least_one, put_in
from taskloom.model.sharing._routing import RoutedLinear, Routing
from taskloom.model.sharing._rows import ByTask, TaskRows
from taskloom.model.sharing._targets import block_outputs

NONLINEARITIES: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "gelu": functional.gelu,
    "silu": functional.silu,
}


class Bottleneck(Sharing):
    """Put a small network after the last linear layer of each attention and feed-forward block.

    Prefer it where low-rank updates have been found too weak: it is the one scheme here whose parts are not linear.
    Do not where parts shall merge into the backbone or load in peft; and it adds to the depth, so to the latency.

    Formula: for a row of task t, with h the block's last linear layer, ``y = h + U_t f(D_t h + c_t) + b_t``, before the
    block's own sum with its input; without the index where `own` is false.

    Shapes: D_t [width, out], c_t [width], U_t [out, width], b_t [out]: 2 width out + width + out parameters a layer
    and task.

    Options:
        width: of the narrow middle (64).
        nonlinearity: f, "relu" (default), "gelu" or "silu".
        own: whether each task has its own (true), or all share one.
        target_modules: ends of the names of the blocks' last linear layers; found by the families' names by default.

    Errors: ModelError where the blocks' last layers cannot be found, with the names of the linear layers.

    Differs: the second factor is zero at first, where the paper's is nearly zero; layer norms stay frozen.

    Paper: Houlsby et al., Parameter-Efficient Transfer Learning for NLP, 2019, arXiv:1902.00751.
    """

    def __init__(
        self,
        *,
        width: Annotated[int, Field(ge=1)] = 64,
        nonlinearity: Literal["relu", "gelu", "silu"] = "relu",
        own: bool = True,
        target_modules: list[str] | None = None,
    ) -> None:
        at_least_one("width", width)
        self.width = width
        self.nonlinearity = nonlinearity
        self.own = own
        self.target_modules = target_modules

    def install(self, backbone: nn.Module, tasks: Sequence[str]) -> Routing:
        """Put the small networks in; see `Sharing.install`."""
        return put_in(backbone, block_outputs(backbone, self.target_modules), tasks, self._layer)

    def _layer(self, base: nn.Module, path: str, rows: TaskRows) -> RoutedLinear:
        if not self.own:
            return SharedBottleneck(base, path, rows, self.width, self.nonlinearity)
        return TaskBottleneck(base, path, rows, self.width, self.nonlinearity)


class SharedBottleneck(RoutedLinear):
    """A frozen layer and a small network that all tasks share."""

    reads_output = True
    not_plain = "a bottleneck, which is not linear"

    def __init__(self, base: nn.Module, path: str, rows: TaskRows, width: int, nonlinearity: str) -> None:
        super().__init__(base, path, rows)
        self.nonlinearity = nonlinearity
        self.down, self.down_bias, self.up, self.up_bias = map(nn.Parameter, _fresh(self, width))

    def added(self, x: Tensor) -> Tensor:
        """Run the small network on the layer's output."""
        narrow = NONLINEARITIES[self.nonlinearity](functional.linear(x, self.down, self.down_bias))
        return functional.linear(narrow, self.up, self.up_bias)

    def add_task(self, task: str, like: str | None) -> None:
        """Do nothing: a task has nothing of its own."""


class TaskBottleneck(RoutedLinear):
    """A frozen layer and a small network for each task."""

    reads_output = True
    not_plain = SharedBottleneck.not_plain

    def __init__(self, base: nn.Module, path: str, rows: TaskRows, width: int, nonlinearity: str) -> None:
        super().__init__(base, path, rows)
        self.width = width
        self.nonlinearity = nonlinearity
        self.down, self.down_bias, self.up, self.up_bias = (ByTask() for _ in range(4))
        for task in rows.tasks:
            self.add_task(task, None)

    def added(self, x: Tensor) -> Tensor:
        """Run each row's small network on the layer's output."""
        rows, path = self.task_rows, self.path
        narrow = self.down.project(rows, x, path) + self.down_bias.gathered(rows, x, path).unsqueeze(1)
        narrow = NONLINEARITIES[self.nonlinearity](narrow)
        return self.up.project(rows, narrow, path) + self.up_bias.gathered(rows, x, path).unsqueeze(1)

    def add_task(self, task: str, like: str | None) -> None:
        """Add a small network."""
        parts = (self.down, self.down_bias, self.up, self.up_bias)
        fresh = _fresh(self, self.width) if like is None else [part.of(like).detach().clone() for part in parts]
        for part, value in zip(parts, fresh, strict=True):
            part.put(task, value)


def _fresh(layer: RoutedLinear, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Make a small network that gives zeros: down [width, out], its bias, up [out, width], its bias."""
    out = layer.out_features
    down = torch.empty(width, out, **layer.fresh)
    nn.init.kaiming_uniform_(down, a=5**0.5)
    sizes = ((width,), (out, width), (out,))
    bias, up, up_bias = (torch.zeros(size, **layer.fresh) for size in sizes)
    return down, bias, up, up_bias
