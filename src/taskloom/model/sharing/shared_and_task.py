"""A LoRA that all tasks train, and one of its own for each."""

from __future__ import annotations

from torch import Tensor, nn

from taskloom.model.sharing._low_rank import Alpha, Dropout, LowRank, Rank, at_least_one
from taskloom.model.sharing._pairs import StackedPairs, TaskPairs, side_by_side
from taskloom.model.sharing._routing import Factors, RoutedLinear
from taskloom.model.sharing._rows import TaskRows
from taskloom.model.sharing._targets import ALL_LINEAR


class SharedAndTask(LowRank):
    """Give all tasks one LoRA in common and each a LoRA of its own, and add the two.

    Prefer it as the first thing beside one shared LoRA: what tasks have in common is learned from all rows, and what
    is particular cannot disturb others. Do not where the parameters of T small factors are too many; take `mtl_lora`.

    Formula: for a row of task t, with W the frozen weight,
    ``y = W x + (lora_alpha / r) B A x + (lora_alpha / task_r) B_t A_t x``.

    Shapes: A [r, in], B [out, r]; A_t [task_r, in], B_t [out, task_r]: (r + T task_r) (in + out) parameters a layer.

    Options:
        r: rank of the common pair (16).
        task_r: rank of each task's pair; by default r.
        lora_alpha: each update is scaled by lora_alpha over its rank (32).
        lora_dropout: of the input of A and A_t, which see the same (0).
        target_modules: ends of the names of linear layers, or `all-linear`, which leaves out the output embeddings.

    Differs: the papers below learn which of several common parts a task takes, or set which it has; here one is common
    and one is private.

    Paper: Wang et al., Customizable Combination of Parameter-Efficient Modules for Multi-Task Learning (C-Poly), 2023,
    arXiv:2312.03248; Tang et al., Progressive Layered Extraction (PLE), 2020, doi:10.1145/3383313.3412236.
    """

    def __init__(
        self,
        *,
        r: Rank = 16,
        task_r: Rank | None = None,
        lora_alpha: Alpha = 32.0,
        lora_dropout: Dropout = 0.0,
        target_modules: str | list[str] = ALL_LINEAR,
    ) -> None:
        super().__init__(r=r, lora_alpha=lora_alpha, lora_dropout=lora_dropout, target_modules=target_modules)
        self.task_r = r if task_r is None else task_r
        at_least_one("task_r", self.task_r)
        self.task_scaling = lora_alpha / self.task_r

    def layer(self, base: nn.Module, path: str, rows: TaskRows) -> RoutedLinear:
        """Make a layer with a common pair and one for each task."""
        layer = SharedAndTaskLayer(base, path, rows, self.lora_dropout)
        layer.common = StackedPairs(layer, 1, self.r, self.scaling)
        layer.own = TaskPairs(self.task_r, self.task_scaling)
        for task in rows.tasks:
            layer.own.put(task, layer)
        return layer


class SharedAndTaskLayer(RoutedLinear):
    """A frozen layer, a common pair of factors, and a pair for each task."""

    common: StackedPairs
    own: TaskPairs

    def added(self, x: Tensor) -> Tensor:
        """Give each row the common update and its task's."""
        return self.common.added(x) + self.own.added(x, self)

    def add_task(self, task: str, like: str | None) -> None:
        """Add a pair."""
        self.own.put(task, self, None if like is None else self.own.pair(like))

    def factors(self, task: str) -> Factors:
        """Give the common and the task's pair side by side."""
        return side_by_side([self.common.factors(), self.own.factors(task)])
