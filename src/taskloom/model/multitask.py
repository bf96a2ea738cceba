"""One backbone, a head for each task."""

from __future__ import annotations

import inspect
import math
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


class ScaledGradient(torch.autograd.Function):
    """Leaves a tensor as it is, and multiplies its gradient by a factor on its way back."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, factor: float) -> Tensor:
        """Give the tensor; what watches calls of torch sees one, and so knows whose rows the result holds."""
        ctx.factor = factor
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Scale the gradient."""
        return gradients[0] * ctx.factor, None


def _place_table(backbone: nn.Module) -> nn.Embedding | None:
    """Find a backbone's learned embedding of places, also where an adapter is wrapped around it."""
    for path, module in backbone.named_modules():
        if "position_embeddings" in path.split(".") and isinstance(module, nn.Embedding):
            return module
    return None


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
        shared_updates: task name -> factor on the gradient that goes from its head into the backbone; 1 where absent.
    """

    accepts_loss_kwargs = False
    """Tells transformers' Trainer that losses are normalised here, not by a count of its own."""

    def __init__(self, backbone: nn.Module, tasks: Mapping[str, Task]) -> None:
        super().__init__()
        self.backbone = backbone
        self.config = _config(backbone)
        self.refused = _refused(backbone, self.config)
        # RoBERTa and its kin count places from behind their padding's number.
        padding = getattr(_place_table(backbone), "padding_idx", None)
        self._first_place = 0 if padding is None else padding + 1
        width = int(self.config.hidden_size)
        self.heads = nn.ModuleDict({name: task.head(width) for name, task in tasks.items()})
        self.shared_updates: dict[str, float] = {}

    def forward(self, chunk: Chunk) -> dict[str, Tensor]:
        """Run the backbone once and each task's head on its own sequences.

        Returns:
            task name -> output [sequence, ...], sequences in the order of the task's items.
        """
        hidden, mask = self.hidden(chunk), chunk.mask
        outputs = {}
        for name, part in chunk.parts.items():
            rows, factor = hidden[part.sequences], self.shared_updates.get(name, 1.0)
            if factor != 1.0:
                rows = ScaledGradient.apply(rows, factor)  # type: ignore[no-untyped-call]
            outputs[name] = self.heads[name](rows, mask[part.sequences])
        return outputs

    def hidden(self, chunk: Chunk) -> Tensor:
        """Run the backbone: [sequence, token, width], at least in single precision, whether rows are packed or not."""
        inputs = {key: value for key, value in chunk.inputs.items() if key not in self.refused}
        if chunk.packing is not None:
            # A sequence begins where places do; every token of the padding has place 0 and so sees itself alone.
            owners = (inputs["position_ids"] == 0).cumsum(dim=1)
            apart = (owners.unsqueeze(1) != owners.unsqueeze(2)).unsqueeze(1)
            seen = torch.zeros((), dtype=next(self.backbone.parameters()).dtype, device=apart.device)
            inputs["attention_mask"] = torch.where(apart, seen - math.inf, seen)
            inputs["position_ids"] = inputs["position_ids"] + self._first_place
        states: Tensor = self.backbone(**inputs).last_hidden_state
        # Heads stay in single precision where the backbone's weights are stored in half of it.
        states = states.float() if states.dtype in HALVES else states
        return states if chunk.packing is None else states.flatten(0, 1)[chunk.packing.places]

    def activation_checkpointing_enable(self, **kwargs: Any) -> None:
        """Recompute activations in the backward pass, as transformers' Trainer asks for by this name."""
        backbone: Any = self.backbone
        base = backbone.get_base_model() if hasattr(backbone, "get_base_model") else backbone
        base.activation_checkpointing_enable(**kwargs)
        if base is not backbone:
            base.enable_input_require_grads()

    def places(self) -> int | None:
        """Give how many tokens the backbone has learned places for; None where it counts distances instead."""
        table = _place_table(self.backbone)
        return None if table is None else table.num_embeddings - self._first_place

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
