"""torchjd's methods by gradients that need more than a constructor, and carry nothing from step to step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from taskloom.balance import Balance, Statistics
from taskloom.balance._bridges import GramianBridge, JacobianBridge, scaled
from taskloom.balance._present import equal
from taskloom.balance._projector import NnlsProjector, square_root, unit_diagonal
from taskloom.errors import ConfigError, Fault, MissingExtraError


class Projecting(GramianBridge):
    """`upgrad` and `dualproj`, with a projector under a free licence."""

    def arguments(self, seen: Statistics) -> dict[str, Any]:
        """Give the preference and the projector."""
        return super().arguments(seen) | {"projector": NnlsProjector()}


class CAGrad(GramianBridge):
    """`cagrad`, whose solver is an extra."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        try:
            self.made(Statistics((), torch.zeros(0), torch.zeros(0)))
        except ImportError as error:
            raise MissingExtraError("cvxpy", "balance", "balance by `cagrad`") from error


class ConFIG(GramianBridge):
    """`config`, which turns with the gradients, so that a square root of the Gramian can stand for them."""

    def solve(self, seen: Statistics) -> Tensor:
        """Combine the rows of the root, and find the weights that do it."""
        units, lengths = unit_diagonal(scaled(seen).numpy())
        root = torch.from_numpy(square_root(units) * lengths[:, None])
        combined = self.made(seen, **self.arguments(seen))(root)
        weights: Tensor = torch.linalg.lstsq(root.T, combined[:, None], driver="gelsd").solution[:, 0]
        return weights


class FairGrad(GramianBridge):
    """`fairgrad`, whose weights follow the gradients' scale by a power."""

    def solve(self, seen: Statistics) -> Tensor:
        """Weigh at a mean diagonal of 1, and scale the weights back."""
        assert seen.gramian is not None
        alpha = float(self.settings["alpha"])
        if alpha == 0:  # torchjd gives 1/T here, where small alphas give 1
            return equal(seen, self.total)
        size = float(seen.gramian.diagonal().mean())
        return super().solve(seen) * math.pow(size, -alpha / (alpha + 1))


class ImtlG(GramianBridge):
    """`imtl_g`, turned around where it would climb."""

    def solve(self, seen: Statistics) -> Tensor:
        """Weigh, and see whether the losses fall."""
        weights = super().solve(seen)
        return weights if (scaled(seen) @ weights).sum() >= 0 else weights.neg()


class Krum(GramianBridge):
    """`krum`, for steps with enough tasks."""

    def begin(self, tasks: Sequence[str]) -> None:
        """Learn the tasks; they have to be enough."""
        super().begin(tasks)
        check_count(self, "n_byzantine", self.settings["n_byzantine"] + 3)
        check_count(self, "n_selected", self.settings["n_selected"])

    def solve(self, seen: Statistics) -> Tensor:
        """Select tasks where there are enough of them."""
        least = max(self.settings["n_byzantine"] + 3, self.settings["n_selected"])
        return super().solve(seen) if len(seen.tasks) >= least else equal(seen, self.total)


class TrimmedMean(JacobianBridge):
    """`trimmed_mean`, for steps with few tasks too."""

    def begin(self, tasks: Sequence[str]) -> None:
        """Learn the tasks; they have to be enough."""
        super().begin(tasks)
        check_count(self, "trim_number", 2 * self.settings["trim_number"] + 1)

    def arguments(self, seen: Statistics) -> dict[str, Any]:
        """Trim no more than leaves one value."""
        return {"trim_number": min(self.settings["trim_number"], (len(seen.tasks) - 1) // 2)}


class GradDrop(JacobianBridge):
    """`graddrop`, with one leak for all tasks."""

    def arguments(self, seen: Statistics) -> dict[str, Any]:
        """Give each task the leak."""
        assert seen.jacobian is not None
        return {"leak": seen.jacobian.new_full((len(seen.tasks),), self.settings["leak"])}


def check_count(balance: Balance, option: str, least: int) -> None:
    """Hold the number of tasks to what an option needs; raises ConfigError."""
    count = len(balance.tasks)
    if count < least:
        found = f"one that needs {least} tasks, where the run has {count}"
        fix = "Write a smaller number, or take another method"
        raise ConfigError(Fault(f"balance.{option}", "be small enough for the tasks of the run", found, fix))
