"""A callback that looks at all tasks' gradients every so many steps, and leaves the model as it was."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from taskloom.affinity.probes import Probe
from taskloom.batches.steps import ItemSource, Steps
from taskloom.gradients import Engine
from taskloom.gradients.sketch import CountSketch
from taskloom.gradients.step import Step as EngineStep
from taskloom.model import MultiTaskModel
from taskloom.model.frozen import frozen
from taskloom.model.multitask import tasks_of_rows
from taskloom.tasks import Task
from taskloom.transfer.ledger import ProbeLedger, adam_roots
from taskloom.types import Chunk, Item

if TYPE_CHECKING:
    from collections.abc import Iterator

SHARE = 0.03
"""Share of the rows of a run that probes may take where nothing else is asked for; the rest of 5 % is for sketches."""

WANTED, ROWS = 8, (2, 8)
"""How many probes are wanted rather than larger ones, and the fewest and the most rows of each task and side."""

LEAST_STEPS = 20
"""Steps between two probes at least, where nothing else is asked for."""

TOGETHER = ("train", "validation")
Drawn = list[tuple[str, Item]]


def probe_schedule(
    asked: tuple[int | None, int | None], tasks: int, rows_per_step: int, updates: int
) -> tuple[int, int]:
    """Give after how many optimizer steps a probe is taken, and of how many rows of each task and side.

    Args:
        asked: what the run file says of the two; None for what keeps probes at `SHARE` of the rows, and many rather
            than large.
        tasks: T.
        rows_per_step: that the run trains on in one optimizer step.
        updates: optimizer steps of the run.

    Returns:
        0 steps for never: that was asked for, or there is but one task.
    """
    every, rows = asked
    allowed = SHARE * max(rows_per_step, 1)
    if rows is None:
        each = allowed * updates / (2 * tasks * WANTED)
        rows = int(min(max(each, ROWS[0]), ROWS[1]))
    if every is None:
        every = max(LEAST_STEPS, math.ceil(2 * tasks * rows / allowed))
    return (every if tasks > 1 else 0), rows


class TransferProbe(TrainerCallback):
    """Takes probes of a joint run, and writes each into the run folder.

    Rows run in evaluation mode, so nothing random is drawn and training goes on as if nothing had been.

    Args:
        model: that is trained.
        tasks: task name -> task.
        items: task -> split -> its items.
        steps: cuts rows into rectangles.
        folder: where probes go.
        every_steps: optimizer steps between two probes.
        rows: of each task and side.
        sketch_size: numbers that are kept of each gradient.
        lookahead: whether each task is stepped on alone as well.
        seed: of rows and sketches.
    """

    def __init__(
        self,
        model: MultiTaskModel,
        tasks: Mapping[str, Task],
        items: Mapping[str, Mapping[str, ItemSource]],
        steps: Steps,
        folder: Path,
        *,
        every_steps: int,
        rows: int = 8,
        sketch_size: int = 4096,
        lookahead: bool = False,
        seed: int = 0,
    ) -> None:
        self.model = model
        self.tasks = tasks
        self.items = items
        self.steps = steps
        self.folder = folder
        self.every_steps = every_steps
        self.rows = rows
        self.sketch_size = sketch_size
        self.lookahead = lookahead
        self.seed = seed
        self._numbers = {name: number for number, name in enumerate(tasks)}
        self._engine: Engine | None = None
        self._maker: CountSketch | None = None

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        optimizer: Any = None,
        **_: Any,
    ) -> None:
        """Take a probe where one is due."""
        if state.global_step % self.every_steps == 0:
            self.probe(state.global_step, optimizer).write(self.folder)

    def probe(self, step: int, optimizer: Any) -> Probe:
        """Look at every task's gradients on training rows and on held-out rows.

        Args:
            step: the optimizer step that was just made; it chooses the rows.
            optimizer: whose second moments say the geometry.
        """
        started = time.perf_counter()
        engine = self._made()
        roots = adam_roots(optimizer, engine.leaves) if optimizer is not None else None
        assert self._maker is not None
        ledger = ProbeLedger(engine.tasks, roots, sketch=self._maker, device=engine.device)
        drawn = [self._drawn(step, side) for side in range(2)]
        rate = _rate(optimizer, engine.leaves[0].parameter)
        with self._evaluating(), frozen(self.model, [leaf.parameter for leaf in engine.leaves]):
            losses = self._sketch(EngineStep(engine, ledger), drawn)
            looked = time.perf_counter()
            ahead = self._look_ahead(engine, roots, rate, drawn) if self.lookahead else None
        shape = (2, len(self.tasks), -1)
        return Probe(
            step=step,
            tasks=tuple(self.tasks),
            rows=self.rows,
            rate=rate,
            geometry="plain" if roots is None else "adam",
            seconds=round(looked - started, 4),
            ahead_seconds=round(time.perf_counter() - looked, 4),
            losses=losses,
            plain=ledger.plain.reshape(shape).cpu().numpy(),
            scaled=ledger.scaled.reshape(shape).cpu().numpy(),
            lookahead=ahead,
        )

    # --- within -----------------------------------------------------------------------------------------------------

    def _made(self) -> Engine:
        """Make the engine once the model lies where it is trained."""
        if self._engine is None:
            self._engine = Engine(self.model.shared_parameters(), 2 * len(self.tasks))
            self._maker = CountSketch(self.sketch_size, self.seed, self._engine.device)
        return self._engine

    def _drawn(self, step: int, side: int) -> Drawn:
        """Give the rows of one side: training rows by chance, held-out rows in turn."""
        found: Drawn = []
        turn = step // self.every_steps - 1
        for number, name in enumerate(self.tasks):
            items = self.items[name][TOGETHER[side]]
            count = min(self.rows, len(items))
            if side:
                places = [(turn * count + place) % len(items) for place in range(count)]
            else:
                generator = np.random.default_rng([self.seed, step, number])
                places = generator.choice(len(items), size=count, replace=False).tolist()
            found += [(name, items[place]) for place in places]
        return found

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        training = self.model.training
        self.model.eval()
        try:
            yield
        finally:
            self.model.train(training)

    def _chunks(self, drawn: Drawn) -> Sequence[Chunk]:
        return self.steps.build(drawn).to(next(self.model.parameters()).device).chunks

    def _sketch(self, step: EngineStep, drawn: Sequence[Drawn]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Run forward and backward over both sides; gives mean losses: [side, task]."""
        count = len(self.tasks)
        losses = np.zeros((2, count), dtype=np.float32)
        with step:
            for side, rows in enumerate(drawn):
                for chunk in self._chunks(rows):
                    slots = [side * count + task for task in tasks_of_rows(chunk, self._numbers)]
                    step.rows(slots, _read_by_rows(chunk))
                    shares = self._shares(chunk)
                    step.backward({side * count + self._numbers[name]: share for name, share in shares.items()})
                    for name, share in shares.items():
                        losses[side, self._numbers[name]] += float(share.detach())
        return losses

    def _shares(self, chunk: Chunk) -> dict[str, Tensor]:
        """Give what a chunk's rows add to each task's mean loss."""
        outputs = self.model(chunk)
        rows = {name: min(self.rows, len(self.items[name]["train"])) for name in chunk.parts}
        return {
            name: self.tasks[name].loss(outputs[name], part.targets).sum() / rows[name]
            for name, part in chunk.parts.items()
        }

    def _look_ahead(
        self, engine: Engine, roots: Mapping[str, Tensor] | None, rate: float, drawn: Sequence[Drawn]
    ) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Step on each task alone, see what became of all held-out losses, and step back: [source, target]."""
        before = self._held_out(drawn[1])
        found = np.zeros((len(self.tasks), len(self.tasks)), dtype=np.float32)
        kept = [leaf.parameter.detach().clone() for leaf in engine.leaves]
        for source, name in enumerate(self.tasks):
            for leaf in engine.leaves:
                leaf.parameter.grad = None
            for chunk in self._chunks([each for each in drawn[0] if each[0] == name]):
                torch.autograd.backward(self._shares(chunk)[name])
            with torch.no_grad():
                for leaf in engine.leaves:
                    root = None if roots is None else roots.get(leaf.name)
                    if leaf.parameter.grad is not None and (roots is None or root is not None):
                        scale = 1.0 if root is None else root.view_as(leaf.parameter) ** 2
                        leaf.parameter.sub_(rate * leaf.parameter.grad * scale)
                found[source] = 1 - self._held_out(drawn[1]) / np.maximum(before, 1e-6)
                for leaf, value in zip(engine.leaves, kept, strict=True):
                    leaf.parameter.copy_(value)
        return found

    def _held_out(self, drawn: Drawn) -> np.ndarray[Any, np.dtype[np.float32]]:
        losses: dict[str, list[float]] = {name: [] for name in self.tasks}
        with torch.no_grad():
            for chunk in self._chunks(drawn):
                outputs = self.model(chunk)
                for name, part in chunk.parts.items():
                    losses[name] += self.tasks[name].loss(outputs[name], part.targets).tolist()
        return np.array([np.mean(losses[name]) for name in self.tasks], dtype=np.float32)


def _read_by_rows(chunk: Chunk) -> dict[str, Tensor]:
    """Give the inputs whose first axis is the rows'; labels of packed rows have one for each sequence."""
    return {key: value for key, value in chunk.inputs.items() if chunk.packing is None or key != "labels"}


def _rate(optimizer: Any, parameter: nn.Parameter) -> float:
    """Give the learning rate of a parameter; 1 without an optimizer."""
    inner = getattr(optimizer, "optimizer", optimizer)
    groups = () if inner is None else inner.param_groups
    return next((float(group["lr"]) for group in groups if any(each is parameter for each in group["params"])), 1.0)
