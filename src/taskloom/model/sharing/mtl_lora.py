"""MTL-LoRA: a common first factor, a small matrix for each task, and common second factors that tasks weigh."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from taskloom.model.sharing._low_rank import Alpha, Dropout, LowRank, Rank, at_least_one
from taskloom.model.sharing._routing import Factors, RoutedLinear
from taskloom.model.sharing._rows import ByTask, TaskRows
from taskloom.model.sharing._targets import ALL_LINEAR


class MtlLora(LowRank):
    """Give all tasks one LoRA whose narrow middle each task transforms and whose second factors each task weighs.

    Prefer it for many tasks: a task costs r² + n parameters a layer. Do not for tasks that have little in common; what
    a task can say stays within the common factors.

    Formula: for a row of task t, with W the frozen weight,
    ``y = W x + (lora_alpha / r) sum_i softmax(w_t / temperature)_i B_i Λ_t A x``.

    Shapes: A [r, in]; Λ_t [r, r], the identity at first; w_t [n]; B [out, n r], the n factors side by side:
    r in + n r out + T (r² + n) parameters a layer.

    Options:
        r: rank (16).
        up_projections: n, how many second factors (3).
        temperature: of the weights; lower is sharper (0.5).
        lora_alpha: the update is scaled by lora_alpha / r (32).
        lora_dropout: of the input of A (0).
        target_modules: ends of the names of linear layers, or `all-linear`, which leaves out the output embeddings.

    Differs: in nothing. As in the authors' code w_t begins at random, uniform within 1 / sqrt(n): with equal weights
    the second factors would stay alike for ever.

    Paper: Yang et al., MTL-LoRA: Low-Rank Adaptation for Multi-Task Learning, 2024, arXiv:2410.09437.
    """

    def __init__(
        self,
        *,
        r: Rank = 16,
        up_projections: Annotated[int, Field(ge=1)] = 3,
        temperature: Annotated[float, Field(gt=0)] = 0.5,
        lora_alpha: Alpha = 32.0,
        lora_dropout: Dropout = 0.0,
        target_modules: str | list[str] = ALL_LINEAR,
    ) -> None:
        super().__init__(r=r, lora_alpha=lora_alpha, lora_dropout=lora_dropout, target_modules=target_modules)
        at_least_one("up_projections", up_projections)
        self.up_projections = up_projections
        self.temperature = temperature

    def layer(self, base: nn.Module, path: str, rows: TaskRows) -> RoutedLinear:
        """Make a layer with common factors, and a matrix and weights for each task."""
        layer = MtlLoraLayer(base, path, rows, self.lora_dropout)
        layer.temperature, layer.scaling = self.temperature, self.scaling
        layer.down = nn.Parameter(layer.fresh_down(self.r))
        layer.up = nn.Parameter(layer.fresh_up(self.up_projections * self.r))
        layer.middle, layer.mixing = ByTask(), ByTask()
        for task in rows.tasks:
            layer.add_task(task, None)
        return layer


class MtlLoraLayer(RoutedLinear):
    """A frozen layer, common factors, and a middle matrix and weights for each task."""

    down: Tensor
    up: Tensor
    middle: ByTask
    mixing: ByTask
    temperature: float
    scaling: float

    def added(self, x: Tensor) -> Tensor:
        """Give each row the update as its task transforms and weighs it."""
        rows = self.task_rows
        narrow = self.middle.project(rows, functional.linear(x, self.down), self.path)
        weights = torch.softmax(self.mixing.stacked(rows) / self.temperature, dim=-1) * self.scaling
        if len(rows.present) > 1:
            weights = weights.index_select(0, rows.places(x, self.path))
        # [row, token, n, r]: one copy of the narrow middle for each second factor, under the task's weight.
        weighed = narrow.unsqueeze(2) * weights[:, None, :, None]
        return functional.linear(weighed.flatten(2), self.up)

    def add_task(self, task: str, like: str | None) -> None:
        """Add a middle matrix and weights."""
        rank = self.down.shape[0]
        count = self.up.shape[1] // rank
        if like is not None:
            self.middle.put(task, self.middle.of(like).detach().clone())
            self.mixing.put(task, self.mixing.of(like).detach().clone())
            return
        self.middle.put(task, torch.eye(rank, **self.fresh))
        self.mixing.put(task, torch.empty(count, **self.fresh).uniform_(-(count**-0.5), count**-0.5))

    def factors(self, task: str) -> Factors:
        """Give the task's middle with the first factor, and its sum of second factors."""
        rank = self.down.shape[0]
        weights = self._weights(task) * self.scaling
        up = (self.up.view(self.out_features, -1, rank) * weights[None, :, None]).sum(dim=1)
        return self.middle.of(task) @ self.down, up

    @torch.no_grad()
    def gates(self) -> dict[str, Tensor]:
        """Give each task's weights of the second factors."""
        return {task: self._weights(task) for task in self.task_rows.tasks}

    def _weights(self, task: str) -> Tensor:
        return torch.softmax(self.mixing.of(task) / self.temperature, dim=-1)
