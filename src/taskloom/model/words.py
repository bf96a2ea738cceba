"""The language head of a backbone: from hidden states to what each label token costs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from taskloom.errors import Fault, ModelError
from taskloom.gradients.words import label_losses
from taskloom.model.families import NAMES, family_of
from taskloom.types import IGNORED

TOLERANCE = 1e-3
"""How far a loss formed here may be from one formed of the backbone's own logits."""

Transform = Callable[[Tensor], Tensor]


class Words:
    """What turns a backbone's hidden states into losses of words.

    Args:
        backbone: transformers' model with its language head, without a peft wrapper around it.

    Attributes:
        family: of the backbone.
    """

    def __init__(self, backbone: Any) -> None:
        self.backbone = backbone
        self.family = family_of(backbone.config)
        self.cap: float | None = getattr(backbone.config, "final_logit_softcapping", None)

    def losses(self, states: Tensor, labels: Tensor) -> Tensor:
        """Give what each label costs.

        Args:
            states: [sequence, token, width]; an encoder-decoder's are those of what it writes.
            labels: [sequence, label token]; a decoder's label stands at the token that it names, and is read off the
                token before.

        Returns:
            [sequence, label token] float32, 0 where there is no label.
        """
        if self.family == "decoder":
            rest = labels.new_full((len(labels), 1), IGNORED)
            losses = self._of(states, torch.cat([labels[:, 1:], rest], dim=1))
            return functional.pad(losses[:, :-1], (1, 0))
        return self._of(states, labels)

    def check(self) -> None:
        """Hold a loss formed here against the backbone's own logits.

        Raises:
            ModelError: they differ, as where a family bends its logits in a way not known here.
        """
        device = self.backbone.device
        ids = torch.arange(3, 9, device=device).unsqueeze(0) % int(self.backbone.config.vocab_size)
        inputs = {"input_ids": ids}
        if self.family == "encoder_decoder":
            inputs["decoder_input_ids"] = ids
        training = self.backbone.training
        self.backbone.eval()
        with torch.no_grad():
            logits = self.backbone(**inputs).logits.float()
            wanted = functional.cross_entropy(logits.transpose(1, 2), ids, reduction="none")
            found = self._of(self._states(ids), ids)
        self.backbone.train(training)
        if not float((found - wanted).abs().max()) <= TOLERANCE * (1 + float(wanted.abs().max())):
            name = type(self.backbone).__name__
            found_text = f"`{name}`, whose logits are not a linear map of its hidden states as known here"
            raise ModelError(Fault("model.name_or_path", "be a backbone whose words can be read", found_text))

    def written(self, read: Tensor, mask: Tensor, begun: Tensor) -> Tensor:
        """Run an encoder-decoder's decoder: [sequence, label token, width].

        Args:
            read: [sequence, token, width], what the encoder made.
            mask: [sequence, token], 1 where a token is real.
            begun: [sequence, label token], the token before each label.
        """
        decoder = self.backbone.get_decoder()
        found = decoder(input_ids=begun, encoder_hidden_states=read, encoder_attention_mask=mask, use_cache=False)
        states: Tensor = found.last_hidden_state
        return states

    def _states(self, ids: Tensor) -> Tensor:
        """Run the backbone without its language head; what an encoder-decoder writes is what it reads."""
        body = self.backbone.get_encoder() if self.family == "encoder_decoder" else self.backbone.base_model
        states: Tensor = body(input_ids=ids).last_hidden_state
        return self.written(states, torch.ones_like(ids), ids) if self.family == "encoder_decoder" else states

    def _of(self, states: Tensor, labels: Tensor) -> Tensor:
        table = self.backbone.get_output_embeddings()
        bias = getattr(table, "bias", None)
        offset = getattr(self.backbone, "final_logits_bias", None)  # BART's, which is never trained
        if offset is not None and bool(offset.any()):
            bias = offset.flatten() if bias is None else bias + offset.flatten()
        return label_losses(self._transformed(states), table.weight, bias, labels, self.cap)

    def _transformed(self, states: Tensor) -> Tensor:
        """Do what the backbone does between its last layer and the table of words."""
        if self.family == "encoder":
            transformed: Tensor = transform_of(self.backbone)(states)
            return transformed
        if getattr(self.backbone.config, "scale_decoder_outputs", False):
            return states * math.sqrt(1 / self.backbone.config.d_model)
        return states


def transform_of(backbone: Any) -> Transform:
    """Find what an encoder's masked language head does before its table of words.

    Raises:
        ModelError: the family's head is of no known make.
    """
    head = getattr(backbone, "lm_head", None)
    if head is not None and hasattr(head, "dense") and hasattr(head, "layer_norm"):
        return lambda states: head.layer_norm(functional.gelu(head.dense(states)))
    predictions = getattr(getattr(backbone, "cls", None), "predictions", None)
    found = getattr(predictions, "transform", getattr(backbone, "head", None))
    if isinstance(found, nn.Module):
        return found
    kind = f"`{type(backbone).__name__}`, whose language head is of another make"
    raise ModelError(Fault("model.name_or_path", "be an encoder with a known language head", kind))


def without_words(config: Any) -> str:
    """Say what a backbone without a language head is, for messages."""
    return f"{NAMES[family_of(config)]} ({config.model_type})"
