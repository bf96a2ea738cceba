"""One backbone, a head for each task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from taskloom.tasks import Task
from taskloom.types import Chunk


def _config(backbone: Any) -> Any:
    """Give a backbone's configuration; torch's types know no such attribute."""
    return backbone.config


class MultiTaskModel(nn.Module):
    """A backbone whose hidden states every task's head reads.

    Args:
        backbone: an encoder, with or without a peft adapter.
        tasks: task name -> task; each gives its head.

    Attributes:
        backbone: as given.
        heads: task name -> head.
        config: the backbone's configuration, which Trainer callbacks read.
    """

    accepts_loss_kwargs = False
    """Tells transformers' Trainer that losses are normalised here, not by a count of its own."""

    def __init__(self, backbone: nn.Module, tasks: Mapping[str, Task]) -> None:
        super().__init__()
        self.backbone = backbone
        self.config = _config(backbone)
        width = int(self.config.hidden_size)
        self.heads = nn.ModuleDict({name: task.head(width) for name, task in tasks.items()})

    def forward(self, chunk: Chunk) -> dict[str, Tensor]:
        """Run the backbone once and each task's head on its own sequences.

        Returns:
            task name -> output [sequence, ...], sequences in the order of the task's items.
        """
        hidden = self.backbone(**chunk.inputs).last_hidden_state
        mask = chunk.inputs["attention_mask"]
        outputs = {}
        for name, part in chunk.parts.items():
            outputs[name] = self.heads[name](hidden[part.sequences], mask[part.sequences])
        return outputs

    def activation_checkpointing_enable(self, **kwargs: Any) -> None:
        """Recompute activations in the backward pass, as transformers' Trainer asks for by this name."""
        backbone: Any = self.backbone
        base = backbone.get_base_model() if hasattr(backbone, "get_base_model") else backbone
        base.activation_checkpointing_enable(**kwargs)
        if base is not backbone:
            base.enable_input_require_grads()

    def trained_parameters(self) -> dict[str, int]:
        """Count parameters: "backbone" in all, "trained" of the backbone, and of each head by its task's name."""
        counts = {"backbone": 0, "trained": 0}
        for parameter in self.backbone.parameters():
            counts["backbone"] += parameter.numel()
            counts["trained"] += parameter.numel() if parameter.requires_grad else 0
        for name, head in self.heads.items():
            counts[f"head {name}"] = sum(parameter.numel() for parameter in head.parameters())
        return counts
