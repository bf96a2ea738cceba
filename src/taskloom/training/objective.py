"""What training lowers: the weighted mean of the tasks' losses, whatever the sampling."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from taskloom.gradients.ranks import add_up, add_up_number
from taskloom.mitigation import Mitigation
from taskloom.tasks import Task
from taskloom.types import Chunk, Step

Reduction = Literal["task", "example", "token"]


class Objective:
    """``J = sum_t w_t L_t / sum_t w_t``, where the reduction says what L_t is the mean over.

    How often a task is drawn (q) and how much it counts (w) are two settings. With the reduction "task", L_t is the
    mean over task t's examples: a step that draws n_t of the q_t B rows expected of task t adds ``w_t / sum w *
    (1 / (q_t B)) * sum of its rows' losses``, whose expectation is its term of J for every q. With "example", every
    example drawn counts the same, ``L_t = T / B * sum of its rows' losses``, so that a task counts by how often it is
    drawn. With "token", every labelled token does, a label of a whole text being one.

    The normaliser is that of the whole optimizer step, over chunks, accumulation and ranks: normalised by micro-batch,
    the weight of a task that is alone in one would cancel.

    Args:
        tasks: task name -> task.
        weights: task name -> w.
        expected: task name -> rows that one optimizer step draws on average, on each rank.
        reduction: what losses are averaged over.
        by_choices: whether L_t is divided by the logarithm of the task's number of labels, which brings losses of
            heads of unlike size to one scale (Aghajanyan et al., Muppet, 2021, arXiv:2101.11038).
        mitigations: task name -> what multiplies the losses of its rows, by their groups.

    Attributes:
        scale: task name -> what the sum of its items' losses is multiplied by in J.
    """

    def __init__(
        self,
        tasks: Mapping[str, Task],
        weights: Mapping[str, float],
        expected: Mapping[str, float],
        *,
        reduction: Reduction = "task",
        by_choices: bool = False,
        mitigations: Mapping[str, Mitigation] | None = None,
    ) -> None:
        self.tasks = tasks
        self.mitigations = dict(mitigations or {})
        self.weights = dict(weights)
        self.reduction = reduction
        self.logs = {name: log_choices(task) if by_choices else 1.0 for name, task in tasks.items()}
        self.expected: dict[str, float] = {}
        self.factors: dict[str, float] = {}
        self.terms: float | None = None
        self._settle(expected, {})

    def begin(self, window: Sequence[Step]) -> None:
        """Take normaliser and trained tasks of the next optimizer step from all its micro-batches."""
        expected: dict[str, float] = {}
        for step in window:
            for name, rows in step.expected.items():
                expected[name] = expected.get(name, 0.0) + rows
        if self.reduction == "token":
            terms = sum(
                float(self.tasks[name].terms(part.targets).sum())
                for step in window
                for chunk in step.chunks
                for name, part in chunk.parts.items()
            )
            self.terms = add_up_number(terms, mean=True) or 1.0
        self._settle(expected or self.expected, window[0].factors if window else {})

    def sums(self, outputs: Mapping[str, Tensor], chunk: Chunk) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Give for each task of a chunk the sum of its items' losses, and the losses: task -> [item], detached."""
        sums, losses = {}, {}
        for name, part in chunk.parts.items():
            loss = self.tasks[name].loss(outputs[name], part.targets)
            losses[name] = loss.detach()
            if name in self.mitigations:
                loss = loss * self._factors(name, chunk, losses[name])
            sums[name] = (loss * self.tasks[name].terms(part.targets) if self.reduction == "token" else loss).sum()
        if not sums:
            raise ValueError("a chunk holds one item at least")
        return sums, losses

    def counts(self, chunk: Chunk) -> dict[str, float]:
        """Say what a chunk's sums are divided by, once added up over a step, to be means: tasks' examples or tokens."""
        by_token = self.reduction == "token"
        return {
            name: self.logs[name] * (float(self.tasks[name].terms(part.targets).sum()) if by_token else len(part.sizes))
            for name, part in chunk.parts.items()
        }

    def __call__(self, outputs: Mapping[str, Tensor], chunk: Chunk) -> tuple[Tensor, dict[str, Tensor]]:
        """Give a chunk's share of J, and the losses of its items: task -> [item], detached."""
        sums, losses = self.sums(outputs, chunk)
        terms = [self.scale[name] * value for name, value in sums.items()]
        share = terms[0]
        for term in terms[1:]:
            share = share + term
        return share, losses

    def open(self) -> None:
        """Forget the losses that mitigations noted; the rows of a step come from here on."""
        for mitigation in self.mitigations.values():
            mitigation.forget()

    def close(self, device: torch.device) -> None:
        """Let mitigations learn from the losses of a whole step; those of several processes add up on `device`."""
        for mitigation in self.mitigations.values():
            sums = mitigation.sums()
            if sums is not None:
                mitigation.close(add_up(torch.as_tensor(sums).to(device)).cpu().numpy())

    def state(self) -> dict[str, Any]:
        """Give what mitigations carry from step to step, ready for JSON: task name -> state."""
        return {name: mitigation.state() for name, mitigation in self.mitigations.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
        for name, mitigation in self.mitigations.items():
            mitigation.restore(state[name])

    def _factors(self, name: str, chunk: Chunk, losses: Tensor) -> Tensor | float:
        """Note the losses of a task's items, and give what they are multiplied with: [item]."""
        mitigation, rows = self.mitigations[name], [item["row"] for item in chunk.parts[name].items]
        mitigation.note(rows, losses.tolist())
        factors = mitigation.factors(rows)
        return 1.0 if factors is None else torch.as_tensor(factors, dtype=losses.dtype, device=losses.device)

    def _settle(self, expected: Mapping[str, float], factors: Mapping[str, float]) -> None:
        """Set what sums are multiplied by, where a step draws so many rows of each trained task."""
        if expected == self.expected and factors == self.factors and self.reduction != "token":
            return
        self.expected, self.factors = dict(expected), dict(factors)
        counted = {name: weight * factors.get(name, 1.0) for name, weight in self.weights.items() if expected.get(name)}
        whole = sum(counted.values())
        self.preference = {name: counted.get(name, 0.0) / whole for name in self.tasks}
        total = self.terms or sum(expected.values())
        by_task, count = self.reduction == "task", len(counted)
        self.normaliser = {
            name: (1 / expected[name] if by_task else count / total) / self.logs[name] if name in counted else 0.0
            for name in self.tasks
        }
        self.scale = {name: self.preference[name] * self.normaliser[name] for name in self.tasks}


def log_choices(task: Task) -> float:
    """Give what a guess among a task's labels costs; 1 where it chooses from none."""
    choices = task.choices()
    return math.log(choices) if choices and choices > 1 else 1.0
