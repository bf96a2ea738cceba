"""One backbone, a head for each task."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from taskloom.tasks import Task
from taskloom.types import Chunk

HALVES = (torch.bfloat16, torch.float16)
"""Precisions in which hidden states are widened before a head reads them."""


def _config(backbone: Any) -> Any:
    """Give a backbone's configuration; torch's types know no such attribute."""
    return backbone.config


def _refused(backbone: Any, config: Any) -> frozenset[str]:
    """Find out whether a backbone has a use for token types; DistilBERT takes none, RoBERTa has but one."""
    base = backbone.get_base_model() if hasattr(backbone, "get_base_model") else backbone
    takes = "token_type_ids" in inspect.signature(base.forward).parameters
    return frozenset() if takes and getattr(config, "type_vocab_size", 2) > 1 else frozenset({"token_type_ids"})


class MultiTaskModel(nn.Module):
    """A backbone whose hidden states every task's head reads.

    Args:
        backbone: an encoder, with or without a peft adapter.
        tasks: task name -> task; each gives its head.

    Attributes:
        backbone: as given.
        heads: task name -> head.
        config: the backbone's configuration, which Trainer callbacks read.
        refused: inputs that tokenizers may give and this backbone does not take.
    """

    accepts_loss_kwargs = False
    """Tells transformers' Trainer that losses are normalised here, not by a count of its own."""

    def __init__(self, backbone: nn.Module, tasks: Mapping[str, Task]) -> None:
        super().__init__()
        self.backbone = backbone
        self.config = _config(backbone)
        self.refused = _refused(backbone, self.config)
        width = int(self.config.hidden_size)
        self.heads = nn.ModuleDict({name: task.head(width) for name, task in tasks.items()})

    def forward(self, chunk: Chunk) -> dict[str, Tensor]:
        """Run the backbone once and each task's head on its own sequences.

        Returns:
            task name -> output [sequence, ...], sequences in the order of the task's items.
        """
        inputs = {key: value for key, value in chunk.inputs.items() if key not in self.refused}
        hidden = self.backbone(**inputs).last_hidden_state
        # Heads stay in single precision where the backbone's weights are stored in half of it.
        hidden = hidden.float() if hidden.dtype in HALVES else hidden
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

    def places(self) -> int | None:
        """Give how many tokens the backbone has learned places for; None where it counts distances instead."""
        for path, module in self.backbone.named_modules():
            if path.endswith("position_embeddings") and isinstance(module, nn.Embedding):
                # RoBERTa and its kin count places from behind their padding's number.
                return module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
        return None

    def get_input_embeddings(self) -> nn.Module:
        """Give the backbone's embedding, to which `neftune_noise_alpha` adds its noise."""
        backbone: Any = self.backbone
        embeddings: nn.Module = backbone.get_input_embeddings()
        return embeddings

    def trained_parameters(self) -> dict[str, int]:
        """Count parameters: "backbone" in all, "trained" of the backbone, and of each head by its task's name."""
        counts = {"backbone": 0, "trained": 0}
        for parameter in self.backbone.parameters():
            counts["backbone"] += parameter.numel()
            counts["trained"] += parameter.numel() if parameter.requires_grad else 0
        for name, head in self.heads.items():
            counts[f"head {name}"] = sum(parameter.numel() for parameter in head.parameters())
        return counts
