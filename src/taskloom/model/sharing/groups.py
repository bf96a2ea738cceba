"""A LoRA for each group of tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from taskloom.errors import ConfigError, Fault, listed, nearest
from taskloom.model.sharing._low_rank import Alpha, Dropout, LowRank, Rank
from taskloom.model.sharing._pairs import StackedPairs, TaskPairs
from taskloom.model.sharing._routing import Factors, RoutedLinear
from taskloom.model.sharing._rows import TaskRows
from taskloom.model.sharing._targets import ALL_LINEAR


class Groups(LowRank):
    """Give each group of tasks a LoRA that its tasks train together.

    Prefer it where you know which tasks help each other, or a trial of groups has told. Do not to find that out: the
    groups are fixed; nor for groups of one task each, which `per_task` does at less cost.

    Formula: for a row of a task in group g, with W the frozen weight, ``y = W x + (lora_alpha / r) B_g A_g x``.

    Shapes: A [G r, in], B [out, G r], the groups' factors side by side: G r (in + out) parameters a layer.

    Options:
        groups: name of the group -> its tasks; every task is in one.
        r: rank of each group's pair (16).
        lora_alpha: the update is scaled by lora_alpha / r (32).
        lora_dropout: of the input of A (0).
        target_modules: ends of the names of linear layers, or `all-linear`, which leaves out the output embeddings.

    A task that is added later gets a pair of its own, beside the groups': a copy of that of the group of `like`.

    Errors: ConfigError for a task in no group or in two, a group without tasks, and a task that the run does not have.

    Differs: groups are given, where the paper finds them; its figures are of whole networks, not of LoRA.

    Paper: Standley et al., Which Tasks Should Be Learned Together in Multi-task Learning?, 2020, arXiv:1905.07553.
    """

    def __init__(
        self,
        *,
        groups: dict[str, list[str]],
        r: Rank = 16,
        lora_alpha: Alpha = 32.0,
        lora_dropout: Dropout = 0.0,
        target_modules: str | list[str] = ALL_LINEAR,
    ) -> None:
        super().__init__(r=r, lora_alpha=lora_alpha, lora_dropout=lora_dropout, target_modules=target_modules)
        self.groups = groups

    def check(self, tasks: Sequence[str]) -> None:
        """Refuse groups that do not hold each task once."""
        faults = []
        for group, members in self.groups.items():
            where = f"model.sharing.groups.{group}"
            faults += [
                Fault(where, "name tasks of the run", f"`{task}`", nearest(task, tasks))
                for task in members
                if task not in tasks
            ]
            if not members:
                faults.append(Fault(where, "name one task at least", "none"))
        counts = Counter(task for members in self.groups.values() for task in members)
        for words, wrong in (
            ("in no group", [task for task in tasks if not counts[task]]),
            ("in several places", [task for task in tasks if counts[task] > 1]),
        ):
            if wrong:
                faults.append(Fault("model.sharing.groups", "name each task once", f"{listed(wrong)} {words}"))
        if faults:
            raise ConfigError(*faults)

    def layer(self, base: nn.Module, path: str, rows: TaskRows) -> RoutedLinear:
        """Make a layer with a pair for each group."""
        layer = GroupsLayer(base, path, rows, self.lora_dropout)
        layer.pairs = StackedPairs(layer, len(self.groups), self.r, self.scaling)
        layer.own = TaskPairs(self.r, self.scaling)
        members = list(self.groups.values())
        table = [[float(task in group) for group in members] for task in rows.tasks]
        layer.register_buffer("table", torch.tensor(table, **layer.fresh), persistent=False)
        return layer


class GroupsLayer(RoutedLinear):
    """A frozen layer, a pair of factors for each group, and one for each task that came later.

    Attributes:
        table: [task, group] 1 where the task is in the group; never trained.
    """

    pairs: StackedPairs
    own: TaskPairs
    table: Tensor

    def added(self, x: Tensor) -> Tensor:
        """Give each row its group's update, or its task's."""
        rows = self.task_rows
        gate = self.table.index_select(0, rows.numbers(x, self.path)).unsqueeze(1)
        added = self.pairs.added(x, gate)
        if any(self.own.down.has(rows.tasks[number]) for number in rows.present):
            added = added + self.own.added(x, self)
        return added

    def add_task(self, task: str, like: str | None) -> None:
        """Add a pair of the task's own."""
        copied = None
        if like is not None:
            own = self.own.down.has(like)
            copied = self.own.pair(like) if own else self.pairs.pair(self._group(like))
        self.own.put(task, self, copied)
        self.table = torch.cat([self.table, self.table.new_zeros(1, self.table.shape[1])])

    def factors(self, task: str) -> Factors:
        """Give the pair of the task's group, or its own."""
        if self.own.down.has(task):
            return self.own.factors(task)
        down, up = self.pairs.pair(self._group(task))
        return down, up * self.pairs.scaling

    def _group(self, task: str) -> int:
        return int(self.table[self.task_rows.tasks.index(task)].argmax())
