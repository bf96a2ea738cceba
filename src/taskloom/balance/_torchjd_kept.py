"""torchjd's methods by gradients that carry something from step to step: here it is kept by task name.

torchjd's objects carry vectors over the tasks they are called with. Each step makes one for the present tasks, hands
it their part of what is kept, and takes it back, so that an absent task keeps what it had. What is handed over is
private to torchjd; ``tests/balance/test_bridge.py`` holds its names.
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torchjd.aggregation import CRMOGMWeighting, PCDWeighting, Weighting

from taskloom.balance import BALANCES, Balance, Statistics
from taskloom.balance._bridges import Bridge, GramianBridge, scaled
from taskloom.balance._present import Shares, Sharing, equal, is_finite, preference_of, restrict
from taskloom.errors import ConfigError, Fault, nearest


class GradVac(GramianBridge):
    """`gradvac`: a running mean cosine for each pair of tasks."""

    def begin(self, tasks: Sequence[str]) -> None:
        """Begin with cosines of zero."""
        super().begin(tasks)
        self.cosines: dict[str, dict[str, float]] = {task: dict.fromkeys(tasks, 0.0) for task in tasks}

    def solve(self, seen: Statistics) -> Tensor:
        """Hand over the cosines of the present tasks, and take them back."""
        weighting = self.made(seen)
        means = [[self.cosines[one][other] for other in seen.tasks] for one in seen.tasks]
        hand(weighting, _phi_t=torch.tensor(means, dtype=torch.float64), _state_key=(len(seen.tasks), torch.float64))
        with self.drawing(seen):
            weights: Tensor = weighting(scaled(seen))
        for one, row in zip(seen.tasks, weighting._phi_t.tolist(), strict=True):
            self.cosines[one].update(zip(seen.tasks, row, strict=True))
        return weights

    def state(self) -> dict[str, Any]:
        """Give the cosines by pair of tasks."""
        return {"cosines": {task: dict(row) for task, row in self.cosines.items()}}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take the cosines back."""
        self.cosines = {task: dict(row) for task, row in state["cosines"].items()}


class MeansByTask(PCDWeighting):
    """torchjd's PCD with the running mean of each task's squared length kept apart: name -> mean, steps in it."""

    def __init__(self, means: dict[str, tuple[float, int]], tasks: Sequence[str], **options: Any) -> None:
        super().__init__(**options)
        self.means, self.tasks = means, tasks

    def _update_scales(self, sq_norms: Tensor) -> Tensor:
        scales = []
        for place, task in enumerate(self.tasks):
            mean, count = self.means.get(task, (0.0, 0))
            held = torch.tensor([mean], dtype=torch.float64)
            hand(self, _sq_norm_ema=held, _n_steps=torch.tensor(count), _state_key=1)
            scales.append(super()._update_scales(sq_norms[place : place + 1]))
            kept = self.state_dict()
            self.means[task] = (kept["_sq_norm_ema"].item(), int(kept["_n_steps"]))
        return torch.cat(scales)


class Pcd(GramianBridge):
    """`pcd`: a primary task, and the running mean of each task's squared length."""

    def begin(self, tasks: Sequence[str]) -> None:
        """Learn the tasks; the primary has to be one of them."""
        super().begin(tasks)
        primary = self.settings["primary"]
        if primary not in tasks:
            fix = nearest(primary, tasks)
            raise ConfigError(Fault("balance.primary", "be one of the run's tasks", f"`{primary}`", fix))
        self.means: dict[str, tuple[float, int]] = {}

    def solve(self, seen: Statistics) -> Tensor:
        """Put the primary first, and the weights back in the order of the tasks."""
        primary = self.settings["primary"]
        if primary not in seen.tasks:
            return equal(seen, self.total)
        assert seen.gramian is not None
        places = sorted(range(len(seen.tasks)), key=lambda place: seen.tasks[place] != primary)
        options = {name: value for name, value in self.settings.items() if name != "primary"}
        weighting = MeansByTask(self.means, [seen.tasks[place] for place in places], **options)
        weights = weighting(seen.gramian[places][:, places])
        return torch.zeros_like(weights).scatter(0, torch.tensor(places), weights)

    def state(self) -> dict[str, Any]:
        """Give each task's running mean and how many steps are in it."""
        return {"means": {task: list(mean) for task, mean in self.means.items()}}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take the running means back."""
        self.means = {task: (float(mean), int(count)) for task, (mean, count) in state["means"].items()}


class Given(Weighting[Tensor]):
    """Weights that are already known, in the form that torchjd's smoothing wraps."""

    def forward(self, weights: Tensor, /) -> Tensor:
        """Give them back."""
        return weights


class CrMogm(GramianBridge):
    """`cr_mogm`: another method, and its weights smoothed; they are kept times the number of tasks they were among."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        name = self.settings["weighting"]
        if name not in smoothable():
            requirement, fix = "be a method that reads the Gramian and needs no option", nearest(name, smoothable())
            raise ConfigError(Fault("balance.weighting", requirement, f"`{name}`", fix))
        self.inner: Balance = BALANCES.load(name)()

    def begin(self, tasks: Sequence[str]) -> None:
        """Begin with no weights to smooth."""
        super().begin(tasks)
        self.inner.begin(tasks)
        self.smoothed: dict[str, float] = {}

    def solve(self, seen: Statistics) -> Tensor:
        """Weigh by the other method, and smooth."""
        count = len(seen.tasks)
        found = self._found(seen) * (count if self.inner.total == "mean" else 1)
        smoothing = CRMOGMWeighting(Given(), alpha=self.settings["alpha"])
        kept = [self.smoothed.get(task, new) for task, new in zip(seen.tasks, found.tolist(), strict=True)]
        hand(smoothing, _lambda=torch.tensor(kept, dtype=torch.float64))
        weights: Tensor = smoothing(found)
        self.smoothed.update(zip(seen.tasks, weights.tolist(), strict=True))
        return weights / count

    def _found(self, seen: Statistics) -> Tensor:
        """Weigh by the other method; where it knows nothing of preference, it sees gradients multiplied by it."""
        if self.inner.takes_preference:
            return self.inner.weigh(seen)
        assert seen.gramian is not None
        liking = seen.preference * len(self.tasks)
        gramian = liking[:, None] * seen.gramian * liking
        return self.inner.weigh(dataclasses.replace(seen, gramian=gramian)) * liking

    def state(self) -> dict[str, Any]:
        """Give the smoothed weights by task, and what the other method keeps."""
        return {"smoothed": dict(self.smoothed), "inner": self.inner.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take both back."""
        self.smoothed = dict(state["smoothed"])
        self.inner.restore(state["inner"])


class Crossing(Bridge, Sharing):
    """`modo` and `sdmgrad`: weights on the simplex, moved by the Gramian between the halves of the step's rows."""

    held: ClassVar[str]
    """What torchjd calls the weights that it keeps."""

    def weigh(self, seen: Statistics) -> Tensor:
        """Give the weights of the present tasks; see the class."""
        assert seen.cross_gramian is not None, "a method that reads the cross Gramian is given it"
        crossed = seen.cross_gramian.to("cpu", torch.float64)
        if not is_finite(crossed, seen.losses):
            return equal(seen, self.total)
        weighting = self.made(seen, **self.arguments(seen))
        key = (len(seen.tasks), crossed.dtype, crossed.device)
        hand(weighting, **{self.held: self.shares.present(seen.tasks), "_state_key": key})
        weights: Tensor = weighting(self.prepared(crossed))
        self.shares.move(seen.tasks, getattr(weighting, self.held))
        return weights

    def arguments(self, seen: Statistics) -> dict[str, Any]:
        """Give what torchjd's object needs beside the options."""
        return {}

    def prepared(self, crossed: Tensor) -> Tensor:
        """Give the cross Gramian as torchjd's object takes it."""
        return crossed


class MoDo(Crossing):
    """`modo`: one projected step on the simplex."""

    held = "_lambda"


class SdmGrad(Crossing):
    """`sdmgrad`: some projected steps on the simplex, with a preference."""

    held = "_w"

    def arguments(self, seen: Statistics) -> dict[str, Any]:
        """Give the preference."""
        return {"pref_vector": preference_of(seen, self.tasks)}

    def prepared(self, crossed: Tensor) -> Tensor:
        """Bring the squared lengths near 1: torchjd divides by them plus 1e-8, which is to be small at every scale."""
        size = crossed.diagonal().abs().mean()
        return crossed / size if size > 0 else crossed


class ExcessMtl(Bridge):
    """`excess_mtl`: each task's sum of squared gradients, the excess risk it began with, and its share."""

    def begin(self, tasks: Sequence[str]) -> None:
        """Begin with equal shares, and nothing seen."""
        super().begin(tasks)
        self.shares = Shares(tasks)
        self.calls = 0
        self.squares: dict[str, Tensor] = {}
        self.first: dict[str, float] = {}
        self.warm: dict[str, tuple[float, int]] = {}

    def weigh(self, seen: Statistics) -> Tensor:
        """Give the weights of the present tasks; see the class."""
        assert seen.jacobian is not None, "a method that reads the gradients is given them"
        lengths = seen.jacobian.norm(dim=1)
        weights = equal(seen, self.total)
        live = lengths.gt(0).nonzero().flatten().tolist()
        if is_finite(lengths, seen.losses) and live:
            weights[live] = self._solve(restrict(seen, live)) * (len(live) / len(seen.tasks))
            self.calls += 1
        return weights

    def _solve(self, seen: Statistics) -> Tensor:
        """Hand torchjd what is kept of the present tasks, and take it back."""
        assert seen.jacobian is not None
        gradients, steps = seen.jacobian.detach(), self.settings["n_warmup_steps"]
        warming = self.calls < steps
        # What torchjd does in its first step alone, with the plain excess risk, holds where no task was seen before.
        first = None if warming or (not steps and not self.first) else self._first(seen)
        weighting = self._handed(gradients, seen.tasks)
        hand(weighting, _n_steps=0 if warming else steps, _initial_w=first)
        weights: Tensor = weighting(gradients).to("cpu", torch.float64)
        self.squares.update(zip(seen.tasks, weighting._sq_grad_sum.unbind(), strict=True))
        if warming:
            for task, risk in zip(seen.tasks, weighting._warmup_w_sum.tolist(), strict=True):
                total, count = self.warm.get(task, (0.0, 0))
                self.warm[task] = (total + risk, count + 1)
        else:
            self.first.update(zip(seen.tasks, weighting._initial_w.tolist(), strict=True))
            self.shares.move(seen.tasks, weights)
        return weights

    def _handed(self, gradients: Tensor, tasks: Sequence[str]) -> Any:
        """Make torchjd's object with the squares and the shares of some tasks."""
        weighting = self.made(Statistics(tuple(tasks), torch.zeros(0), torch.zeros(0)))
        none = torch.zeros_like(gradients[0])
        hand(
            weighting,
            _state_key=(*gradients.shape, gradients.dtype, gradients.device),
            _sq_grad_sum=torch.stack([self.squares.get(task, none).to(gradients) for task in tasks]),
            _warmup_w_sum=torch.zeros_like(gradients[:, 0]),
            _weights=self.shares.present(tasks).to(gradients),
        )
        return weighting

    def _first(self, seen: Statistics) -> Tensor:
        """Give the excess risk that each task began with; of a task that is new, that of this step."""
        assert seen.jacobian is not None
        for place, task in enumerate(seen.tasks):
            if task in self.warm:
                total, count = self.warm.pop(task)
                self.first[task] = total / count
            elif task not in self.first:
                alone = self._handed(seen.jacobian[place : place + 1].detach(), [task])
                alone.n_warmup_steps = 0
                alone(seen.jacobian[place : place + 1].detach())
                self.first[task] = float(alone._initial_w)
        return torch.tensor([self.first[task] for task in seen.tasks]).to(seen.jacobian)

    def state(self) -> dict[str, Any]:
        """Give all that is kept by task; the squares are long, so their bytes are written in base 64."""
        squares = {task: {"type": str(row.dtype), "base64": _text(row)} for task, row in self.squares.items()}
        warm = {task: list(sums) for task, sums in self.warm.items()}
        return {
            "shares": dict(self.shares.of),
            "calls": self.calls,
            "squares": squares,
            "first": dict(self.first),
            "warm": warm,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take it all back."""
        self.shares.of, self.calls, self.first = dict(state["shares"]), state["calls"], dict(state["first"])
        self.warm = {task: (float(total), int(count)) for task, (total, count) in state["warm"].items()}
        self.squares = {task: _row(kept["type"], kept["base64"]) for task, kept in state["squares"].items()}


def hand(module: object, **values: object) -> None:
    """Set what a torchjd object keeps."""
    for name, value in values.items():
        setattr(module, name, value)


def smoothable() -> list[str]:
    """List the methods whose weights `cr_mogm` can smooth."""
    names = [name for name in BALANCES.names() if name != "cr_mogm" and BALANCES.load(name).needs == "gramian"]
    return [name for name in names if all(default is not ... for _, default in BALANCES.options(name).values())]


def _text(row: Tensor) -> str:
    return base64.b64encode(row.cpu().numpy().tobytes()).decode("ascii")


def _row(kind: str, text: str) -> Tensor:
    numbers = np.frombuffer(base64.b64decode(text), dtype=kind.removeprefix("torch."))
    return torch.from_numpy(numbers.copy())
