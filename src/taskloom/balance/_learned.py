"""Numbers of the tasks that a method learns beside the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Learned:
    """One number for each task, learned by Adam and kept by name: a task without a gradient keeps all it has.

    Args:
        tasks: all tasks of the run.
        start: what each number begins with.
        lr: Adam's learning rate.
        weight_decay: Adam's weight decay.
    """

    def __init__(self, tasks: Sequence[str], start: float, lr: float, weight_decay: float = 0.0) -> None:
        self.numbers = {task: nn.Parameter(torch.tensor(start, dtype=torch.float64)) for task in tasks}
        self.adam = torch.optim.Adam(list(self.numbers.values()), lr=lr, weight_decay=weight_decay, foreach=False)

    def present(self, tasks: Sequence[str]) -> Tensor:
        """Give the numbers of some tasks: [task] float64, without a graph."""
        return torch.stack([self.numbers[task].detach() for task in tasks])

    def learn(self, tasks: Sequence[str], gradients: Tensor) -> None:
        """Make one step of Adam on the numbers of some tasks along their gradients: [task]."""
        self.adam.zero_grad(set_to_none=True)
        for task, gradient in zip(tasks, gradients.detach(), strict=True):
            self.numbers[task].grad = gradient.to(torch.float64).reshape(()).clone()
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)

    def put(self, tasks: Sequence[str], numbers: Tensor) -> None:
        """Set the numbers of some tasks."""
        with torch.no_grad():
            for task, number in zip(tasks, numbers, strict=True):
                self.numbers[task].copy_(number)

    def state(self) -> dict[str, dict[str, float]]:
        """Give each task's number with what Adam keeps of it."""
        kept: dict[str, dict[str, float]] = {}
        for task, number in self.numbers.items():
            kept[task] = {"number": number.item()}
            kept[task] |= {key: float(value) for key, value in self.adam.state.get(number, {}).items()}
        return kept

    def restore(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Take back what `state` gave."""
        for task, kept in state.items():
            number = self.numbers[task]
            self.put([task], torch.tensor([kept["number"]], dtype=torch.float64))
            moments = {
                key: torch.tensor(kept[key], dtype=torch.float64) for key in ("exp_avg", "exp_avg_sq") if key in kept
            }
            if moments:
                # Adam counts its steps in float32.
                self.adam.state[number] = {"step": torch.tensor(kept["step"]), **moments}
