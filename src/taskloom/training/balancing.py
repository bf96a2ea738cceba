"""The balance of a run, over the micro-batches of a Trainer: one optimizer step is opened, filled, and closed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from taskloom.errors import Fault, NonFiniteGradientError, listed
from taskloom.gradients import BalancedStep, Balancer, GradientError
from taskloom.gradients.step import Backward, Step
from taskloom.gradients.verification import Difference, compare
from taskloom.model.multitask import tasks_of_rows
from taskloom.record import write_text
from taskloom.training.objective import Objective
from taskloom.types import Chunk

TOLERANCE, TOLERANCE_HALF = 1e-3, 5e-2
"""How far a gradient may be from that of separate passes, relative to its norm; the second in half precision."""

BALANCE_FILE = "balance.json"
"""What a balancing method carries from step to step, beside the optimizer's state in a checkpoint."""

MITIGATION_FILE = "mitigation.json"
"""What mitigations of tasks carry from step to step, where there are any."""

MOMENTS_FILE = "balance.safetensors"
"""Adam's moments of each task, where they are kept apart."""

Probe = Callable[[int], dict[str, float]]
Forward = Callable[[Chunk], Mapping[str, Tensor]]


class Balancing:
    """What the Trainer does about balance, apart from its inner workings.

    Args:
        balancer: the run's.
        objective: whose sums are balanced.
        record_steps: conflict is recorded every so many steps; 0 for never.
        limit_skipped_steps: how many steps may be skipped because a gradient was not finite.
        check_gradients: whether the first step that is split is held against separate passes.
        tell: says something to the user.
        probe: gives each task's loss on a batch of validation rows (optimizer step); None where there are none.
        extra: gives what the last forward pass adds to the tasks' losses; a chunk's counts by its items.

    Attributes:
        padded_tokens: of the rectangles since `take_padded` was called, padding included.
    """

    def __init__(
        self,
        balancer: Balancer,
        objective: Objective,
        *,
        record_steps: int = 0,
        limit_skipped_steps: int = 10,
        check_gradients: bool = True,
        tell: Callable[[str], None] = lambda text: None,
        probe: Probe | None = None,
        extra: Callable[[], Tensor | None] = lambda: None,
    ) -> None:
        self.extra = extra
        self.balancer = balancer
        self.objective = objective
        self.record_steps = record_steps
        self.limit_skipped_steps = limit_skipped_steps
        self.check_gradients = check_gradients
        self.tell = tell
        self.probe = probe if balancer.method.validates else None
        self.step: BalancedStep | None = None
        self.padded_tokens = 0
        self._told: set[str] = set()
        self._numbers = {name: number for number, name in enumerate(balancer.tasks)}

    def open(self, step: int, loss_scale: float, *, measure: bool = False) -> None:
        """Begin an optimizer step.

        Args:
            step: its number, from 0.
            loss_scale: what losses are multiplied by on their way back.
            measure: whether it is the first of two passes, which only finds the weights.
        """
        self.objective.open()
        self.balancer.prefer(self.objective.preference)
        record = bool(self.record_steps) and step % self.record_steps == 0 and not measure
        self.step = self.balancer.step(record=record, loss_scale=loss_scale, measure=measure)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Watch a micro-batch."""
        assert self.step is not None
        with self.step.watching():
            yield

    def rows(self, chunk: Chunk) -> None:
        """Say which task each row of a chunk belongs to."""
        assert self.step is not None
        if not self.step.measure:
            self.padded_tokens += chunk.inputs["input_ids"].numel()
        self.step.rows(*self._rows_of(chunk))

    def take_padded(self) -> int:
        """Give the tokens of the rectangles since the last call, padding included."""
        found, self.padded_tokens = self.padded_tokens, 0
        return found

    def backward(self, chunk: Chunk, sums: Mapping[str, Tensor], backward: Backward) -> None:
        """Run the backward pass of a chunk."""
        assert self.step is not None
        extra = self.extra()
        if extra is not None:
            rows = sum(len(part.sizes) for part in chunk.parts.values())
            backward = with_extra(backward, extra * (rows / (sum(self.objective.expected.values()) or rows)))
        self.step.backward(sums, backward, self.objective.normaliser, self.objective.counts(chunk))

    def close(self, step: int) -> BalancedStep:
        """End an optimizer step: ``.grad`` is ready, or empty where a gradient was not finite.

        Raises:
            NonFiniteGradientError: more steps were skipped than the run allows.
        """
        assert self.step is not None
        done, self.step = self.step, None
        if self.probe is not None and done.weighs:
            self.balancer.validation_losses = self.probe(step)
        done.close()
        if not done.measure:
            self.objective.close(self.balancer.engine.device)
        self._tell_of_separate_passes()
        if not done.sound and loss_scale_is_one(done):
            self._count_skipped(done, step)
        return done

    def save(self, folder: Path) -> None:
        """Write what has to be there to go on bit for bit."""
        write_text(folder / BALANCE_FILE, json.dumps(self.balancer.state()))
        if self.objective.mitigations:
            write_text(folder / MITIGATION_FILE, json.dumps(self.objective.state()))
        if self.balancer.moments is not None:
            save_file(self.balancer.moments.tensors(), folder / MOMENTS_FILE)

    def load(self, folder: Path) -> None:
        """Take back what `save` wrote."""
        self.balancer.restore(json.loads((folder / BALANCE_FILE).read_text(encoding="utf-8")))
        if self.objective.mitigations:
            self.objective.restore(json.loads((folder / MITIGATION_FILE).read_text(encoding="utf-8")))
        if self.balancer.moments is not None:
            self.balancer.moments.restore(load_file(folder / MOMENTS_FILE))

    def verify(self, chunk: Chunk, forward: Forward, *, half: bool) -> list[Difference]:
        """Hold the engine's gradients against separate passes on one chunk, and distrust what differs.

        Args:
            chunk: some rows of two tasks or more, best of all.
            forward: runs the model on a chunk.
            half: whether it runs in half precision; parameters stored so are seen without.

        Returns:
            each parameter's difference, the largest first.
        """

        def losses(step: Step) -> dict[int, Tensor]:
            step.rows(*self._rows_of(chunk))
            sums, _ = self.objective.sums(forward(chunk), chunk)
            return {self._numbers[name]: self.objective.scale[name] * value for name, value in sums.items()}

        engine = self.balancer.engine
        try:
            found = compare(engine, losses)
        except GradientError as error:  # rows change each other: nothing of the model can be split in one pass
            names = [leaf.name for leaf in engine.leaves]
            engine.distrust(names, str(error).partition(". Freeze")[0])
            return [Difference(name, 0.0, separate=True) for name in names]
        stored = {leaf.parameter.dtype for leaf in engine.leaves}
        limit = TOLERANCE_HALF if half or stored & {torch.bfloat16, torch.float16} else TOLERANCE
        wrong = [each.name for each in found if each.relative > limit and not each.separate]
        engine.distrust(wrong, "it differed from separate passes when it was checked")
        return found

    def _tell_of_separate_passes(self) -> None:
        """Name, once, the parameters that take a backward pass for each task, with the reason."""
        uncovered = self.balancer.engine.uncovered
        reasons: dict[str, list[str]] = {}
        for name in sorted(set(uncovered) - self._told):
            reasons.setdefault(uncovered[name], []).append(name)
        self._told |= set(uncovered)
        for reason, names in reasons.items():
            takes = "takes" if len(names) == 1 else "take"
            why = f"no rule splits its gradient ({reason})"
            self.tell(f"{listed(names, 6)} {takes} a backward pass for each task: {why}")

    def _rows_of(self, chunk: Chunk) -> tuple[list[int], dict[str, Tensor], list[int]]:
        """Give for the rows of a chunk their tasks, the inputs, and their items; of packed rows, items are halves."""
        tasks = tasks_of_rows(chunk, self._numbers)
        items = [0] * len(tasks)
        if chunk.packing is not None:
            items = list(chunk.packing.halves)
            # Labels of words have a row for each sequence, and are read once the rows are laid out again.
            return tasks, {key: value for key, value in chunk.inputs.items() if key != "labels"}, items
        item = 0
        for part in chunk.parts.values():
            places = iter(part.sequences.tolist())
            for size in part.sizes:
                for _ in range(size):
                    items[next(places)] = item
                item += 1
        return tasks, chunk.inputs, items

    def _count_skipped(self, done: BalancedStep, step: int) -> None:
        names = listed(done.broken) if done.broken else "the tasks together"
        count = self.balancer.skipped
        if count > self.limit_skipped_steps:
            fix = "Lower `training.learning_rate`, or look at the rows of the task"
            found = f"{names} without one in step {step + 1} ({count - 1} skipped before)"
            where = f"tasks.{done.broken[0]}" if done.broken else "tasks"
            raise NonFiniteGradientError(Fault(where, "have a finite gradient", found, fix))
        self.tell(f"step {step + 1} was skipped: the gradient of {names} was not finite ({count} skipped so far)")


def with_extra(backward: Backward, extra: Tensor) -> Backward:
    """Have a backward pass lower something more; only where a step has but one."""
    return lambda loss, **options: backward(loss + extra, **options)


def loss_scale_is_one(step: BalancedStep) -> bool:
    """Say whether a gradient that is not finite is a fault; with a loss scale it only asks for a smaller one."""
    return step.loss_scale == 1.0


def random_states(device: torch.device) -> list[Any]:
    """Give the states of torch's random numbers."""
    states: list[Any] = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return states


def set_random_states(states: list[Any], device: torch.device) -> None:
    """Take back what `random_states` gave."""
    torch.set_rng_state(states[0])
    if len(states) > 1:
        torch.cuda.set_rng_state(states[1], device)
