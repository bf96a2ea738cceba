"""The one number that training lowers: the weighted mean of the tasks' mean losses, whatever the sampling."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from taskloom.tasks import Task
from taskloom.types import Chunk


class Objective:
    """``J = sum_t w_t L_t / sum_t w_t`` with L_t the mean loss over task t's examples.

    How often a task is drawn (q) and how much it counts (w) are two settings. A step that draws n_t of the q_t B rows
    expected of task t adds ``w_t / sum w * (1 / (q_t B)) * sum of its rows' losses``, whose expectation is its term of
    J for every q; the normaliser is that of the whole optimizer step, so neither chunks nor accumulation change it.

    Args:
        tasks: task name -> task.
        weights: task name -> w.
        expected: task name -> rows that one optimizer step draws on average.
    """

    def __init__(self, tasks: Mapping[str, Task], weights: Mapping[str, float], expected: Mapping[str, float]) -> None:
        total = sum(weights.values())
        self.tasks = tasks
        self.weights = dict(weights)
        self.scale = {name: weights[name] / total / expected[name] for name in tasks}

    def __call__(self, outputs: Mapping[str, Tensor], chunk: Chunk) -> tuple[Tensor, dict[str, Tensor]]:
        """Give a chunk's share of J, and the losses of its items: task -> [item], detached."""
        share: Tensor | None = None
        losses = {}
        for name, part in chunk.parts.items():
            loss = self.tasks[name].loss(outputs[name], part.targets)
            losses[name] = loss.detach()
            term = self.scale[name] * loss.sum()
            share = term if share is None else share + term
        if share is None:
            raise ValueError("a chunk holds one item at least")
        return share, losses
