"""Each task's gradient by plain backward passes of its own, and what a balance should make of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from taskloom.session import Session


@dataclass(frozen=True)
class TaskGradients:
    """Gradients of the tasks' mean losses in one optimizer step.

    Attributes:
        names: parameters of the backbone, in order.
        shapes: of these.
        jacobian: [task, param] float64, of the backbone.
        own: for each task, its head's gradients by name.
        preference: [task] weights of the run, which add up to 1.
    """

    names: list[str]
    shapes: list[torch.Size]
    jacobian: Tensor
    own: list[dict[str, Tensor]]
    preference: Tensor

    @property
    def gramian(self) -> Tensor:
        """Give ``J J^T``."""
        return self.jacobian @ self.jacobian.T

    def shared(self, weights: Tensor) -> dict[str, Tensor]:
        """Give ``weights @ J`` by parameter."""
        parts = (weights.double() @ self.jacobian).split([shape.numel() for shape in self.shapes])
        return {
            name: part.view(shape).float() for name, shape, part in zip(self.names, self.shapes, parts, strict=True)
        }

    def heads(self) -> dict[str, Tensor]:
        """Give each head's gradient times its task's preference."""
        return {
            name: float(share) * gradient
            for share, held in zip(self.preference, self.own, strict=True)
            for name, gradient in held.items()
        }


def task_gradients(session: Session, steps: list[Any]) -> TaskGradients:
    """Run one backward pass for each task over the micro-batches of one optimizer step, in evaluation mode."""
    model, tasks = session.model.eval(), session.prepared.tasks
    backbone = [(name, p) for name, p in model.named_parameters() if name.startswith("backbone.") and p.requires_grad]
    rows, own = [], []
    for name, task in tasks.items():
        model.zero_grad()
        rate = len(steps) * session.steps.plan.expected(0)[name]
        for step in steps:
            for chunk in step.chunks:
                if name in chunk.parts:
                    (task.loss(model(chunk)[name], chunk.parts[name].targets).sum() / rate).backward()
        rows.append(torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for _, p in backbone]))
        named = ((f"heads.{name}.{key}", p) for key, p in model.heads[name].named_parameters())
        own.append({key: p.grad.clone() for key, p in named if p.grad is not None})
    model.zero_grad()
    weights = torch.tensor([section.weight for section in session.config.tasks.values()], dtype=torch.float64)
    names, shapes = [name for name, _ in backbone], [p.shape for _, p in backbone]
    return TaskGradients(names, shapes, torch.stack(rows).double(), own, weights / weights.sum())
