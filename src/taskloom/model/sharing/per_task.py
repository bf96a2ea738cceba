"""A LoRA of its own for each task, on one frozen backbone."""

from __future__ import annotations

from torch import Tensor, nn

from taskloom.model.sharing._low_rank import LowRank
from taskloom.model.sharing._pairs import TaskPairs
from taskloom.model.sharing._routing import Factors, RoutedLinear
from taskloom.model.sharing._rows import TaskRows


class PerTask(LowRank):
    """Give each task a LoRA of its own; tasks share the frozen backbone and the forward pass, and nothing trained.

    Prefer it as the yardstick of every other scheme, where tasks harm each other, and where tasks come and go: none
    can change another. Do not where tasks are small and related; then what one learns should help the others.

    Formula: for a row of task t, with W the frozen weight, ``y = W x + (lora_alpha / r) B_t A_t x``.

    Shapes: A_t [r, in], B_t [out, r] for each task and layer: T r (in + out) parameters a layer.

    Options:
        r: rank of each task's pair (16).
        lora_alpha: the update is scaled by lora_alpha / r (32).
        lora_dropout: of the input of A (0).
        target_modules: ends of the names of linear layers, or `all-linear`, which leaves out the output embeddings.

    Paper: Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, 2021, arXiv:2106.09685.
    """

    def layer(self, base: nn.Module, path: str, rows: TaskRows) -> RoutedLinear:
        """Make a layer with a pair for each task."""
        return PerTaskLayer(base, path, rows, self.lora_dropout, self.r, self.scaling)


class PerTaskLayer(RoutedLinear):
    """A frozen layer and a pair of factors for each task."""

    def __init__(self, base: nn.Module, path: str, rows: TaskRows, dropout: float, rank: int, scaling: float) -> None:
        super().__init__(base, path, rows, dropout)
        self.own = TaskPairs(rank, scaling)
        for task in rows.tasks:
            self.own.put(task, self)

    def added(self, x: Tensor) -> Tensor:
        """Give each row its task's update."""
        return self.own.added(x, self)

    def add_task(self, task: str, like: str | None) -> None:
        """Add a pair."""
        self.own.put(task, self, None if like is None else self.own.pair(like))

    def factors(self, task: str) -> Factors:
        """Give the task's pair."""
        return self.own.factors(task)
