"""Balancing: from what one optimizer step showed to how much each task's gradient counts in it.

A balance is a class with one method, ``weigh``. To add one, put a file here; torchjd's weightings, aggregators and
scalarizers come by their own names through `taskloom.balance._torchjd`. Pure torch: nothing here knows a Trainer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from taskloom.balance._room import BalanceRoom

if TYPE_CHECKING:
    from torch import Tensor

Needs = Literal["nothing", "losses", "gramian", "cross_gramian", "jacobian"]
"""What a method looks at: with ``nothing`` its weights never change, and are asked for once; else at every step. Each
kind brings those before it, but for ``cross_gramian``, which only three methods read: ``jacobian`` comes without it.
Validation losses and scores come with ``losses``."""

Total = Literal["mean", "sum"]
"""Whether the weights of equal tasks add up to about one, or to about one for each task."""


@dataclass(frozen=True)
class Statistics:
    """What one optimizer step showed of the tasks that had rows in it; absent tasks are left out of every axis.

    All but ``jacobian`` is small and lies on the processor.

    Attributes:
        tasks: names of the present tasks, in the order of every ``task`` axis here.
        losses: [task] float64, each task's mean loss in the step.
        preference: [task] float64, how much the user wants each task; adds up to 1 over all tasks of the run.
        step: optimizer steps made before this one.
        gramian: [task, task] float64, inner products of the tasks' gradients.
        cross_gramian: [task, task] float64, inner products of the gradients of the first half of each task's rows
            with those of the second half: an unbiased estimate of the expected gradients' Gramian.
        jacobian: [task, param] float32, the tasks' gradients.
        validation_losses: task -> mean loss on a batch of validation rows now; empty where none was asked for.
        scores: task -> its score at the last evaluation; empty before the first.
    """

    tasks: tuple[str, ...]
    losses: Tensor
    preference: Tensor
    step: int = 0
    gramian: Tensor | None = None
    cross_gramian: Tensor | None = None
    jacobian: Tensor | None = None
    validation_losses: Mapping[str, float] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)


class Balance(ABC):
    """From a step's statistics to one weight for each task.

    The step's shared gradient is ``sum_t weight_t g_t``. Subclasses take their options as keyword arguments.
    Present tasks are weighted as if they were all there are, and what is kept of an absent task stays as it is. A task
    whose gradient is zero counts as absent and gets an equal weight. Where a loss or a Gramian is not finite, all
    weights are equal and nothing is kept.

    Class attributes:
        needs: what `weigh` looks at.
        total: "mean" where equal tasks get about 1/T each, "sum" where they get about 1 each. A task that is absent
            from a step does not move the others: weights of a "mean" method are scaled by present/all tasks.
        takes_preference: whether `weigh` uses ``preference`` itself; elsewhere each task's gradient (and Gramian row)
            comes multiplied by T times its preference, and the losses of ``losses`` methods as they are, with the
            weights multiplied afterwards.
        minimum_tasks: how many tasks a run needs for the method to mean anything.
        validates: whether ``validation_losses`` are wanted at every step (one more forward pass).
        weighs_all: whether weights are set over all tasks of the run whoever is present; times all/present for a
            "mean" method, so that the scaling above gives each task the same weight in every step.
        draws: whether weights are drawn at random; from the option ``seed`` and the step, so that a run that is
            resumed and every process of a run draw alike.
        conflict_free: whether no task's loss rises to first order along the combined gradient, whatever the Gramian
            of linearly independent gradients.
        gives_vector: whether `combine` gives the combined gradient.
        scales: whether gradients c > 0 times as large are combined into one c times as large.
    """

    needs: ClassVar[Needs] = "gramian"
    total: ClassVar[Total] = "mean"
    takes_preference: ClassVar[bool] = False
    minimum_tasks: ClassVar[int] = 2
    validates: ClassVar[bool] = False
    weighs_all: ClassVar[bool] = False
    draws: ClassVar[bool] = False
    conflict_free: ClassVar[bool] = False
    gives_vector: ClassVar[bool] = False
    scales: ClassVar[bool] = True

    def begin(self, tasks: Sequence[str]) -> None:
        """Learn the names of all tasks of the run, once, before the first step; raises ConfigError for wrong options.

        Methods that keep something for each task keep it by name, so that an absent task loses nothing.
        """
        self.tasks = tuple(tasks)

    @abstractmethod
    def weigh(self, seen: Statistics) -> Tensor:
        """Give the weights of the present tasks.

        Returns:
            [task] float64, in the order of ``seen.tasks``.
        """

    def combine(self, seen: Statistics) -> Tensor | None:
        """Give the combined gradient [param] itself, where a method is more than weights; None for ``weigh @ J``.

        It reads what `weigh` reads and keeps nothing, so that the two may be called in either order.
        """
        return None

    def state(self) -> dict[str, Any]:
        """Give what the method carries from step to step, ready for JSON; floats come back bit for bit."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - most methods carry nothing
        """Take back what `state` gave; call `begin` first."""


BALANCES: BalanceRoom = BalanceRoom("taskloom.balance", "balancing method")
