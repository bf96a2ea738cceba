"""Gradients in plain torch, to hold the Trainer's and the objective's against."""

from __future__ import annotations

from typing import Any

import torch
from transformers import TrainerCallback

from taskloom.session import Session


def gradients(session: Session, steps: list[Any], objective: Any = None) -> dict[str, torch.Tensor]:
    """Sum the objective's gradient over micro-batches, in evaluation mode, in plain torch."""
    objective = objective or session.objective()
    model = session.model.eval()
    model.zero_grad()
    for step in steps:
        for chunk in step.chunks:
            objective(model(chunk), chunk)[0].backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def flat(held: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([held[name].flatten().double() for name in sorted(held)])


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Give the relative distance of two gradients."""
    assert one.keys() == other.keys()
    return float((flat(one) - flat(other)).norm() / flat(other).norm())


def without_dropout(session: Session) -> Session:
    """Switch dropout off, so that training mode can be held against plain torch."""
    for module in session.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return session


def trained(session: Session) -> dict[str, torch.Tensor]:
    """Give copies of the weights that training moves."""
    return {name: p.detach().clone() for name, p in session.model.named_parameters() if p.requires_grad}


class Watch(TrainerCallback):
    """Keeps what a Trainer tells its callbacks."""

    def __init__(self) -> None:
        self.gradients: list[dict[str, torch.Tensor]] = []
        self.logs: list[dict[str, float]] = []
        self.evaluations: list[dict[str, float]] = []
        self.steps: list[int] = []
        self.substeps = 0

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self.gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})

    def on_substep_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.substeps += 1

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.steps.append(state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        self.logs.append(dict(logs))

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any) -> None:
        self.evaluations.append(dict(metrics))
