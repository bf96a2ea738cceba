"""Every task's gradient in one forward and one backward pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from taskloom.gradients.ledgers import JacobianLedger, Leaf, WeightedLedger, layer_of
from taskloom.gradients.sketch import CountSketch
from taskloom.gradients.step import Step

Statistic = Literal["jacobian", "gramian", "sketch"]


class Engine:
    """Splits the gradient of shared parameters by task, exactly, at the price of the joint gradient.

    Each row of a batch belongs to one task, so the backward pass of the summed loss already holds every task's part,
    row by row; see `taskloom.gradients.rules`. What no rule covers takes separate passes, for those parameters alone.

    Args:
        parameters: the shared parameters by name; frozen ones are left out.
        tasks: T, how many tasks there are.
        statistic: "jacobian" keeps J [task, param] in float32. "gramian" sums ``J J^T`` layer by layer and keeps no
            gradient but the weighted one; each step then has one forward pass. "sketch" keeps J S [task, k], which
            adds up over any number of passes. The last two need the step's weights before the step.
        sketch_size: k of the sketch.
        seed: of the sketch's signs.

    Attributes:
        leaves: the shared parameters, in order.
        size: P, coordinates of all of them.
        uncovered: names of parameters that took separate passes -> what used them in a way without a rule.

    Raises:
        ValueError: there is no trainable parameter, or no task.
    """

    def __init__(
        self,
        parameters: Iterable[tuple[str, nn.Parameter]] | Mapping[str, nn.Parameter],
        tasks: int,
        *,
        statistic: Statistic = "jacobian",
        sketch_size: int = 4096,
        seed: int = 0,
    ) -> None:
        pairs = parameters.items() if isinstance(parameters, Mapping) else parameters
        self.leaves: list[Leaf] = []
        held: dict[int, str] = {}
        self.tied: set[str] = set()
        offset = 0
        for name, parameter in pairs:
            if not parameter.requires_grad:
                continue
            if id(parameter) in held:
                self.tied.add(held[id(parameter)])
                continue
            held[id(parameter)] = name
            self.leaves.append(Leaf(name, parameter, offset, layer_of(name)))
            offset += parameter.numel()
        if not self.leaves or tasks < 1:
            raise ValueError("An engine needs one trainable parameter and one task at least.")
        self.size = offset
        self.tasks = tasks
        self.statistic = statistic
        self.device = self.leaves[0].parameter.device
        self.sketch_maker = CountSketch(sketch_size, seed, self.device)
        self.uncovered: dict[str, str] = {}
        self.distrusted: set[str] = set()
        self.settled = False
        self._buffer: Tensor | None = None

    def distrust(self, names: Iterable[str], reason: str) -> None:
        """Have some parameters take separate passes from now on."""
        for name in names:
            self.distrusted.add(name)
            self.uncovered.setdefault(name, reason)

    def step(self, weights: Tensor | None = None, *, halves: bool = False) -> Step:
        """Open one optimizer step.

        Args:
            weights: [task] of the step; needed by, and only used with, the statistics "gramian" and "sketch".
            halves: whether the gradients of two halves of each task's rows are sketched beside the tasks' own.
        """
        if self.statistic == "jacobian":
            if self._buffer is None:
                self._buffer = torch.empty(self.tasks, self.size, device=self.device)
            ledger: JacobianLedger | WeightedLedger = JacobianLedger(
                self.leaves,
                self.tasks,
                halves=halves,
                sketch=self.sketch_maker,
                device=self.device,
                buffer=self._buffer,
            )
        else:
            if weights is None:
                raise ValueError(f"`weights` should be given to a step of the statistic `{self.statistic}`.")
            exact = self.statistic == "gramian"
            ledger = WeightedLedger(
                self.tasks,
                weights,
                exact=exact,
                held=self.tied,
                halves=halves,
                sketch=self.sketch_maker,
                device=self.device,
            )
        return Step(self, ledger)
