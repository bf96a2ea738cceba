"""How difficult tasks and items are to the model as it is before training, which is left as it was, bit for bit."""

from __future__ import annotations

import math
import random
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from taskloom.batches.chunks import chunks
from taskloom.config import Config
from taskloom.model import MultiTaskModel
from taskloom.preparation import Prepared
from taskloom.training.balancing import random_states, set_random_states
from taskloom.training.objective import log_choices

SAMPLED_ITEMS = 256
"""Items of each task whose mean loss is the task's."""

BLOCK_ITEMS = 256
"""Items that are sorted by length together and cut into rectangles."""

PROBE_STEPS, PROBE_ROWS = 10, 16
"""How long the probe of a task's learning speed is."""

QUIET_SECONDS = 10.0
"""How often progress is told."""


@contextmanager
def undisturbed(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Put a model into evaluation mode, and at the end put back all that may have moved.

    These are parameters that are trained, buffers, gradients, each module's mode, and the states of random numbers.
    """
    modes = [(module, module.training) for module in model.modules()]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = [parameter.grad for parameter in trained]
    held = [(tensor, tensor.detach().clone()) for tensor in (*trained, *model.buffers())]
    states, numpy_state, python_state = random_states(device), np.random.get_state(), random.getstate()
    model.eval()
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, before in held:
                tensor.copy_(before)
        for parameter, gradient in zip(trained, gradients, strict=True):
            parameter.grad = gradient
        for module, mode in modes:
            module.training = mode
        set_random_states(states, device)
        np.random.set_state(numpy_state)
        random.setstate(python_state)


@dataclass(frozen=True)
class Measuring:
    """What measures difficulty, by the items that a run trains on.

    Attributes:
        config: the run.
        prepared: its data.
        model: as it is before training.
        tell: says how far it is.
    """

    config: Config
    prepared: Prepared
    model: MultiTaskModel
    tell: Callable[[str], None] = lambda text: None

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def item_losses(self, name: str) -> NDArray[np.float64]:
        """Give the loss of every training item of a task: [item]; one that is not finite is infinite."""
        with undisturbed(self.model, self.device):
            return self._losses(name, range(len(self.prepared.items[name]["train"])))

    def task_losses(self) -> dict[str, float]:
        """Give each task's mean loss by the logarithm of its labels, where it chooses from any."""
        found = {}
        with undisturbed(self.model, self.device):
            for name, task in self.prepared.tasks.items():
                found[name] = float(self._losses(name, self._sample(name)).mean()) / log_choices(task)
        return found

    def task_speeds(self) -> dict[str, float]:
        """Give how little a few steps on each task alone lower its loss: minus its relative fall."""
        found = {}
        for name in self.prepared.tasks:
            with undisturbed(self.model, self.device):
                found[name] = -self._fall(name)
        return found

    def _fall(self, name: str) -> float:
        """Train one task for a few steps, in evaluation mode and so without chance; gives its loss's relative fall."""
        sample = self._sample(name)
        before = float(self._losses(name, sample).mean())
        items = self.prepared.items[name]["train"]
        rate = self.config.training["learning_rate"]
        own = self.config.tasks[name].learning_rate or self.config.model.head_learning_rate or 10 * rate
        groups = [(self.model.backbone, rate), (self.model.head_of(name), own)]
        trained = [([each for each in part.parameters() if each.requires_grad], rate) for part, rate in groups]
        optimizer = torch.optim.AdamW(
            [{"params": params, "lr": rate} for params, rate in trained if params], weight_decay=0.0
        )
        chance = np.random.default_rng([self.config.training["seed"], zlib.crc32(name.encode())])
        drawn = np.resize(chance.permutation(len(items)), (PROBE_STEPS, PROBE_ROWS))  # over again where there are few
        for rows in drawn.tolist():
            optimizer.zero_grad()
            for _, loss in self._run(name, rows):
                (loss.sum() / PROBE_ROWS).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        after = float(self._losses(name, sample).mean())
        fall = (before - after) / before if before else 0.0
        return fall if math.isfinite(fall) else -math.inf

    def _sample(self, name: str) -> list[int]:
        """Choose some items of a task, evenly over its rows."""
        count = len(self.prepared.items[name]["train"])
        return [int(index) for index in np.linspace(0, count - 1, min(count, SAMPLED_ITEMS))]

    def _losses(self, name: str, indices: Sequence[int]) -> NDArray[np.float64]:
        """Give the losses of some items: [item], in the order of the indices."""
        losses: dict[int, float] = {}
        told = time.monotonic()
        with torch.no_grad():
            for own, loss in self._run(name, indices):
                losses.update(zip(own, loss.double().tolist(), strict=True))
                if time.monotonic() - told > QUIET_SECONDS:
                    told = time.monotonic()
                    self.tell(f"curriculum: {len(losses):,} of {len(indices):,} items of {name} measured")
        values = np.array([losses[index] for index in indices])
        return np.where(np.isfinite(values), values, np.inf)

    def _run(self, name: str, indices: Sequence[int]) -> Iterator[tuple[list[int], torch.Tensor]]:
        """Run items through the model in rectangles of like length; gives indices and losses [item] of each."""
        prepared, items = self.prepared, self.prepared.items[name]["train"]
        task, limit = prepared.tasks[name], self.config.batching.limit_tokens
        ordered = sorted(indices, key=lambda index: -int(items.lengths[index]))
        for start in range(0, len(ordered), BLOCK_ITEMS):
            block = [(index, items[index]) for index in ordered[start : start + BLOCK_ITEMS]]
            index_of = {id(item): index for index, item in block}
            for chunk in chunks([(name, item) for _, item in block], prepared.tasks, prepared.padding, limit):
                part = chunk.to(self.device).parts[name]
                yield [index_of[id(item)] for item in part.items], task.loss(self.model(chunk)[name], part.targets)
