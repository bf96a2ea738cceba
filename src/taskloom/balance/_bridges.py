"""The bridge to torchjd: what all of its methods share here, and those that carry nothing from step to step."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import torch
import torchjd.aggregation
import torchjd.scalarization
from torch import Tensor

from taskloom.balance import Balance, Statistics
from taskloom.balance._present import equal, is_finite, preference_of, weigh_live
from taskloom.balance._row import Row


class Bridge(Balance):
    """A method of torchjd as a `Balance`; ``row`` describes it and has its options."""

    row: ClassVar[Row]
    family: ClassVar[ModuleType] = torchjd.aggregation
    """Where torchjd has the method's class."""
    withheld: ClassVar[frozenset[str]] = frozenset({"seed"})
    """Options that torchjd's class does not have."""

    def __init__(self, **options: Any) -> None:
        unknown = sorted(set(options) - set(self.row.options))
        if unknown:
            raise TypeError(f"{type(self).__name__} got an unexpected keyword argument {unknown[0]!r}")
        self.settings = {name: options.get(name, option.default) for name, option in self.row.options.items()}
        missing = [name for name, value in self.settings.items() if value is ...]
        if missing:
            raise TypeError(f"{type(self).__name__} missing a required keyword argument: {missing[0]!r}")

    def made(self, seen: Statistics, **arguments: Any) -> Any:
        """Make torchjd's object for the tasks of a step, with the method's options and `arguments`."""
        own = {name: value for name, value in self.settings.items() if name not in self.withheld}
        return getattr(self.family, self.row.torchjd)(**(own | arguments))

    @contextlib.contextmanager
    def drawing(self, seen: Statistics, device: torch.device | None = None) -> Iterator[None]:
        """Let torchjd draw from the method's seed and the step, and leave torch's own draws as they were."""
        if not self.draws:
            yield
            return
        on_cuda = device is not None and device.type == "cuda"
        state = np.random.SeedSequence((self.settings["seed"], seen.step)).generate_state(1, np.uint64)
        seed = int(state[0] >> np.uint64(1))
        with torch.random.fork_rng(devices=[device] if on_cuda else []):
            torch.default_generator.manual_seed(seed)
            if on_cuda:
                torch.cuda.manual_seed(seed)
            yield


class GramianBridge(Bridge):
    """A weighting that reads the Gramian."""

    def weigh(self, seen: Statistics) -> Tensor:
        """Give the weights of the present tasks; see the class."""
        return weigh_live(seen, self.total, self.solve)

    def solve(self, seen: Statistics) -> Tensor:
        """Weigh tasks whose gradients are not zero.

        Every weighting that is left to this one gives the same weights for any multiple of the Gramian; its mean
        diagonal is made 1, so that torchjd's tolerances, which are absolute, mean the same at every scale.
        """
        gramian = scaled(seen)
        with self.drawing(seen):
            weights: Tensor = self.made(seen, **self.arguments(seen))(gramian)
        return weights

    def arguments(self, seen: Statistics) -> dict[str, Any]:
        """Give what torchjd's object needs beside the options."""
        return {"pref_vector": preference_of(seen, self.tasks)} if self.takes_preference else {}


class LossBridge(Bridge):
    """A scalarizer: the weight of a task is how much the scalar changes with its loss."""

    family: ClassVar[ModuleType] = torchjd.scalarization
    least: ClassVar[float] = float("-inf")
    """Losses below this count as this, where a scalarizer needs them above zero."""

    def weigh(self, seen: Statistics) -> Tensor:
        """Give the weights of the present tasks; see the class."""
        if not is_finite(seen.losses):
            return equal(seen, self.total)
        return self.solve(seen, seen.losses.detach().to("cpu", torch.float64).clamp(min=self.least))

    def solve(self, seen: Statistics, losses: Tensor) -> Tensor:
        """Weigh tasks by losses [task] that are finite."""
        with self.drawing(seen):
            return slope(self.made(seen, **self.arguments(seen)), losses)

    def arguments(self, seen: Statistics) -> dict[str, Any]:
        """Give what torchjd's object needs beside the options."""
        return {"weights": preference_of(seen, self.tasks)} if self.takes_preference else {}


class JacobianBridge(Bridge):
    """An aggregator whose combined gradient is more than a weighted sum of the tasks' gradients."""

    gives_vector = True

    def weigh(self, seen: Statistics) -> Tensor:
        """Give the weights whose combination of the tasks' gradients is nearest to the combined gradient."""
        if seen.jacobian is None or not is_finite(seen.jacobian, seen.losses):
            return equal(seen, self.total)
        gradients = seen.jacobian.detach()
        combined = self.combine(seen)
        gramian = (gradients @ gradients.T).to("cpu", torch.float64)
        products = (gradients @ combined).to("cpu", torch.float64)
        weights: Tensor = torch.linalg.pinv(gramian, hermitian=True) @ products
        return weights

    def combine(self, seen: Statistics) -> Tensor:
        """Give the combined gradient: [param]."""
        assert seen.jacobian is not None, "a method that reads the gradients is given them"
        with self.drawing(seen, seen.jacobian.device):
            combined: Tensor = self.made(seen, **self.arguments(seen))(seen.jacobian.detach())
        return combined

    def arguments(self, seen: Statistics) -> dict[str, Any]:
        """Give what torchjd's object needs beside the options."""
        return {}


def scaled(seen: Statistics) -> Tensor:
    """Give the Gramian divided by its mean diagonal: [task, task]."""
    assert seen.gramian is not None
    return seen.gramian / seen.gramian.diagonal().mean()


def slope(scalarize: Callable[[Tensor], Tensor], losses: Tensor) -> Tensor:
    """Give the derivative of a scalarization by each loss: [task]."""
    with torch.enable_grad():
        leaf = losses.clone().requires_grad_()
        return torch.autograd.grad(scalarize(leaf), leaf)[0]
