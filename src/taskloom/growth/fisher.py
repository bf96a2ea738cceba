"""Holding shared parts where old tasks need them, while a new one is learned."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from taskloom.batches.chunks import collate
from taskloom.model import MultiTaskModel
from taskloom.preparation import Prepared

FILE = "fisher.safetensors"


def fisher_information(
    model: MultiTaskModel, prepared: Prepared, tasks: Collection[str], names: Collection[str], rows: int
) -> dict[str, Tensor]:
    """Say how much the old tasks' losses mind each shared parameter.

    ``F = sum_t 1 / n_t sum_i (d loss_i / d theta)^2`` over the first n_t training items of task t, each with a backward
    pass of its own: the diagonal of the empirical Fisher information.

    Args:
        model: before anything of it is changed.
        prepared: data of the old tasks.
        tasks: the old ones.
        names: of the shared parameters.
        rows: most items of each task.

    Returns:
        parameter name -> F, of the parameter's shape.
    """
    device = next(model.parameters()).device
    held = {name: parameter for name, parameter in model.backbone.named_parameters() if name in names}
    found = {name: torch.zeros_like(parameter, dtype=torch.float32) for name, parameter in held.items()}
    model.eval()
    for task in tasks:
        items = prepared.items[task]["train"]
        count = min(rows, len(items))
        for index in range(count):
            chunk = collate([(task, items[index])], prepared.tasks, prepared.padding).to(device)
            loss = prepared.tasks[task].loss(model(chunk)[task], chunk.parts[task].targets).sum()
            gradients = torch.autograd.grad(loss, list(held.values()), allow_unused=True)
            for name, gradient in zip(held, gradients, strict=True):
                if gradient is not None:
                    found[name] += gradient.float().square() / count
    return found


def kept_information(path: Path, make: Any) -> dict[str, Tensor]:
    """Read the information of a run that goes on, or make and keep it."""
    if not path.is_file():
        made = {name: each.cpu().contiguous() for name, each in make().items()}
        part = path.with_name(f".{path.name}.part")
        save_file(made, str(part))
        part.replace(path)
    found: dict[str, Tensor] = load_file(str(path))
    return found


class Anchor(transformers.TrainerCallback):
    """Adds ``strength F (theta - theta_0)`` to the gradient of shared parameters before the optimizer's step.

    That is the gradient of ``strength / 2 sum F (theta - theta_0)^2`` (elastic weight consolidation). It is added after
    clipping, so that a large penalty does not shrink what the new task says.

    Args:
        model: whose parameters stand at theta_0 now.
        information: parameter name -> F.
        strength: how firmly they are held.

    Paper: Kirkpatrick et al., Overcoming catastrophic forgetting in neural networks, PNAS 2017, arXiv:1612.00796.
    """

    def __init__(self, model: MultiTaskModel, information: dict[str, Tensor], strength: float) -> None:
        held = dict(model.backbone.named_parameters())
        self.strength = strength
        self.anchors = [
            (held[name], held[name].detach().clone(), each.to(held[name].device)) for name, each in information.items()
        ]

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Pull each parameter back to where it was."""
        for parameter, start, information in self.anchors:
            if parameter.grad is not None:
                pull = self.strength * information * (parameter.detach() - start).float()
                parameter.grad.add_(pull.to(parameter.grad.dtype))
