"""A balancing method over the engine: what a training loop of any kind calls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from taskloom.balance import BALANCES, Balance, Statistics
from taskloom.gradients.balanced_step import BalancedStep, Seen
from taskloom.gradients.engine import Engine, Statistic
from taskloom.gradients.moments import TaskMoments

LIMIT_BYTES = 2**30
"""Up to how many bytes the Jacobian of all tasks is kept where nothing else is asked for."""

LEAST = 1e-4
"""A multiplier below this in one backward pass of the whole loss would take private parameters' gradients along."""

WeightsFrom = Literal["this_step", "last_step"]


class Balancer:
    """Weighs each task's gradient by a method, in one backward pass.

    ::

        balancer = Balancer(model.backbone.named_parameters(), ["intent", "slots"], "upgrad")
        for chunks in loader:
            optimizer.zero_grad()
            with balancer.step() as step:
                for inputs, task_of_row in chunks:
                    step.rows(task_of_row, inputs)
                    step.backward(losses(model(inputs)))   # task -> its share of the task's mean loss in the step
            if step.sound:
                optimizer.step()

    Args:
        parameters: the shared parameters by name.
        tasks: names, in the order of every ``task`` axis.
        method: a balancing method or its name.
        preference: task -> how much it counts, 1 for all by default.
        private: task -> parameters of its own, which get the task's own gradient times its share of the preference.
        statistic: see `Engine`; "auto" keeps the Jacobian where it takes 1 GiB at most, else a sketch.
        weights_from: whether a step is weighted by what it showed itself or by what the last one did. By default this
            step where the Jacobian is kept, and the last one where it is not or where the method needs losses alone.
        sketch_size: see `Engine`.
        seed: of the sketch.
        moments: options of `TaskMoments`, which then steps the shared parameters: call
            ``balancer.moments.attach(optimizer)`` once; the optimizer sees no gradient of theirs. None leaves them to
            the optimizer.

    Attributes:
        preference: [task] share of each task, which adds up to 1; constant weights are in it.
        multipliers: [task] what the preferred gradients are multiplied by at present; ones for equal weighting.
        steps: how many steps were made.
        skipped: how many of them were not applied because a gradient was not finite.

    Raises:
        ConfigError: there is no such method.
        ValueError: a method that reads the Jacobian is asked to do without one, or a preference is not above 0.
    """

    def __init__(
        self,
        parameters: Iterable[tuple[str, nn.Parameter]] | Mapping[str, nn.Parameter],
        tasks: Sequence[str],
        method: Balance | str = "equal",
        *,
        preference: Mapping[str, float] | None = None,
        private: Mapping[str, Iterable[nn.Parameter]] | None = None,
        statistic: Statistic | Literal["auto"] = "auto",
        weights_from: WeightsFrom | None = None,
        sketch_size: int = 4096,
        seed: int = 0,
        moments: Mapping[str, Any] | None = None,
    ) -> None:
        self.tasks = tuple(tasks)
        self.method = BALANCES.load(method)() if isinstance(method, str) else method
        self.method.begin(self.tasks)
        pairs = list(parameters.items() if isinstance(parameters, Mapping) else parameters)
        needs = self.method.needs
        size = sum(parameter.numel() for _, parameter in pairs if parameter.requires_grad)
        if statistic == "auto":
            small = 4 * size * len(self.tasks) <= LIMIT_BYTES
            statistic = "jacobian" if small or needs == "jacobian" or moments is not None else "sketch"
        if (needs == "jacobian" or moments is not None) and statistic != "jacobian":
            raise ValueError(f"A method that reads the Jacobian needs it kept. Found the statistic `{statistic}`.")
        if moments is not None and self.method.gives_vector:
            raise ValueError("Moments of each task need weights. Found a method that gives one gradient for all.")
        self.engine = Engine(pairs, len(self.tasks), statistic=statistic, sketch_size=sketch_size, seed=seed)
        self.moments = None if moments is None else TaskMoments(self.engine.leaves, len(self.tasks), **moments)
        light = needs in {"nothing", "losses"} or statistic != "jacobian"
        self.weights_from: WeightsFrom = weights_from or ("last_step" if light else "this_step")
        self.private = {name: list(held) for name, held in (private or {}).items()}
        self.steps = 0
        self.skipped = 0
        self.measured = False  # whether a first pass has found the weights of the next one
        self.validation_losses: Mapping[str, float] = {}
        self.scores: Mapping[str, float] = {}
        self._given: Tensor | None = None
        self.multipliers = torch.ones(len(self.tasks), dtype=torch.float64)
        self.prefer({**dict.fromkeys(self.tasks, 1.0), **(preference or {})})
        if not bool((self.wanted > 0).all()):
            raise ValueError(f"`preference` should be above 0 for every task. Found {self.wanted.tolist()}.")
        if needs != "nothing" and self.method.total == "sum":
            # Equal weights of a method whose weights are about one for each task make a step T times as long.
            self.multipliers = self.multipliers * len(self.tasks)

    def prefer(self, preference: Mapping[str, float]) -> None:
        """Say how much each task counts from the next step on.

        Args:
            preference: task -> a number from 0 on; one at 0, or left out, has no rows until it is preferred again.

        Raises:
            ValueError: a number is negative or not finite, or all are 0.
        """
        given = torch.tensor([float(preference.get(name, 0.0)) for name in self.tasks], dtype=torch.float64)
        if self._given is not None and torch.equal(given, self._given):
            return
        if not bool(((given >= 0) & given.isfinite()).all()) or not bool((given > 0).any()):
            raise ValueError(f"`preference` should be above 0 for every task. Found {given.tolist()}.")
        self._given = given
        self.trained = int((given > 0).sum())
        self.preference = self.wanted = given / given.sum()
        if self.method.needs == "nothing":
            self._take_in(given)

    def _take_in(self, given: Tensor) -> None:
        """Make constant weights a preference, so that they count for private parameters as well."""
        none = torch.zeros(len(self.tasks))
        fixed = self.method.weigh(self._statistics(torch.arange(len(self.tasks)), none)).double().cpu()
        self.multipliers = torch.ones_like(given)
        if self.method.total == "sum":
            self.multipliers = self.multipliers * self.trained * (self.wanted * fixed).sum()
        liked = given * (fixed / fixed.max())
        self.preference = liked / liked.sum()

    @property
    def splits(self) -> bool:
        """Whether the next step has to be split by task, so that it goes by the engine though it is not recorded."""
        if self.moments is not None:
            return True
        if self.method.needs == "losses":
            return self.weights_from == "this_step" or bool((self.multipliers.abs() < LEAST).any())
        return self.method.needs != "nothing"

    @property
    def passes(self) -> int:
        """How many times a step's forward and backward passes are run: twice where this step's weights need it."""
        return 2 if self.splits and self.weights_from == "this_step" and self.engine.statistic != "jacobian" else 1

    def step(self, *, record: bool = False, loss_scale: float = 1.0, measure: bool = False) -> BalancedStep:
        """Open one optimizer step.

        Args:
            record: whether conflict is measured: the gradients of halves of each task's rows, and each layer's.
            loss_scale: what the losses are multiplied by on their way back (`torch.amp.GradScaler`).
            measure: whether this is the first of two passes, which finds the weights. Its gradients are of no use:
                clear them before the second.
        """
        return BalancedStep(self, record=record, loss_scale=loss_scale, measure=measure)

    def state(self) -> dict[str, Any]:
        """Give what has to be saved to go on bit for bit, ready for JSON."""
        return {
            "multipliers": self.multipliers.tolist(),
            "steps": self.steps,
            "skipped": self.skipped,
            "method": self.method.state(),
            "scores": dict(self.scores),
            "tied": sorted(self.engine.tied),
            "distrusted": {name: self.engine.uncovered[name] for name in sorted(self.engine.distrusted)},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
        self.multipliers = torch.tensor(state["multipliers"], dtype=torch.float64)
        self.steps, self.skipped = int(state["steps"]), int(state["skipped"])
        self.method.restore(state["method"])
        self.scores = dict(state["scores"])
        self.engine.tied |= set(state["tied"])
        for name, reason in state["distrusted"].items():
            self.engine.distrust([name], reason)

    def _statistics(self, present: Tensor, losses: Tensor, **seen: Tensor | None) -> Statistics:
        return Statistics(
            tuple(self.tasks[index] for index in present.tolist()),
            losses[present].double(),
            self.preference[present],
            step=self.steps,
            validation_losses=self.validation_losses,
            scores=self.scores,
            **seen,
        )

    def weigh(self, present: Tensor, losses: Tensor, step: Seen | None) -> tuple[Tensor, Tensor | None] | None:
        """Ask the method.

        Args:
            present: [present] numbers of the tasks with rows in the step.
            losses: [task] their mean losses.
            step: the engine's step, whose rows are ``preference_t × gradient_t``; None where it was not split.

        Returns:
            [task] multipliers of those rows, as before for absent tasks; and the combined gradient [param] of a method
            that is more than weights. None where the step does not tell its Gramian.
        """
        count = self.trained
        raw = self.preference if self.method.takes_preference else torch.full_like(self.preference, 1 / count)
        scale = 1 / raw[present]  # from the engine's rows to what the method sees
        seen: dict[str, Tensor | None] = {}
        if step is not None and self.method.needs not in {"nothing", "losses"}:
            gramian = step.gramian()
            if gramian is None:
                return None
            outer = torch.outer(scale, scale)
            seen["gramian"] = gramian.cpu()[present][:, present] * outer
            if self.method.needs == "cross_gramian":
                halves = step.half_gramian().cpu()
                first, second = 2 * present, 2 * present + 1
                cross = halves[first][:, second]
                seen["cross_gramian"] = 4 * cross * outer  # a half's gradient is half of the task's
            if self.method.needs == "jacobian":
                seen["jacobian"] = step.jacobian[present.to(step.jacobian.device)] * scale.to(step.jacobian).unsqueeze(
                    1
                )
        statistics = self._statistics(present, losses, **seen)
        weights, combined = self.method.weigh(statistics).double().cpu(), self.method.combine(statistics)
        share = len(present) / count if self.method.total == "mean" else 1.0
        multipliers = self.multipliers.clone()
        multipliers[present] = weights * share * scale
        return multipliers, None if combined is None else combined * share
