"""Keys and values put before those of attention, by the interface through which transformers calls attention."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from taskloom.errors import Fault, ModelError

NAME = "taskloom_prefix"
"""What transformers calls attention with prefixes."""

CHILD = "task_prefix"
"""The name under which a layer of attention holds its prefixes."""

Seen = dict[str, tuple[nn.Module, Tensor, Tensor]]
"""Path of a layer of attention -> the layer, and the keys and values of one forward pass [row, head, token, width]."""

_RECORD: dict[int, tuple[Tensor, Tensor]] | None = None
"""Where keys and values are noted while a backbone is looked at; None otherwise."""


def attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Attend to each row's prefix and to the keys, as transformers' own function does to the keys alone."""
    if _RECORD is not None:
        _RECORD[id(module)] = (key, value)
    prefix = getattr(module, CHILD, None)
    if prefix is None:
        plain: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return plain
    before, values_before = prefix(key, value)
    if attention_mask is None and query.shape[2] > 1 and _causal(module, options):
        shape = (query.shape[2], key.shape[2])
        attention_mask = torch.ones(shape, dtype=torch.bool, device=key.device).tril(shape[1] - shape[0])[None, None]
    length = before.shape[2]
    if attention_mask is not None:
        attention_mask = torch.cat([_seen_by_all(attention_mask, length), attention_mask], dim=-1)
    if options.get("position_bias") is not None:
        bias = options["position_bias"]
        options["position_bias"] = torch.cat([bias.new_zeros(*bias.shape[:-1], length), bias], dim=-1)
    options["is_causal"] = False  # the mask says it
    key, value = torch.cat([before, key], dim=2), torch.cat([values_before, value], dim=2)
    attended: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    return attended


def _causal(module: nn.Module, options: dict[str, Any]) -> bool:
    given = options.get("is_causal")
    return bool(getattr(module, "is_causal", True) if given is None else given)


def _seen_by_all(mask: Tensor, length: int) -> Tensor:
    shape = (*mask.shape[:-1], length)
    return mask.new_ones(shape) if mask.dtype == torch.bool else mask.new_zeros(shape)


def _mask(*args: Any, **options: Any) -> Tensor | None:
    """Make the mask always: what stands before the keys would move the one that torch makes by itself."""
    mask: Tensor | None = sdpa_mask(*args, **options | {"allow_is_causal_skip": False})
    return mask


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, _mask)


def take_over(backbone: Any, length: int) -> Seen:
    """Have a backbone's attention called here, and look at one row of tokens drawn at random.

    Args:
        backbone: a transformers model.
        length: of the row.

    Returns:
        every layer of attention with what it makes of the row, cross-attention among them.

    Raises:
        ModelError: its attention is not torch's, or is not called by transformers' interface.
    """
    requirement = "be one for a backbone whose attention transformers calls by its interface (`sdpa`)"
    fix = "Take `per_task`, or a backbone such as BERT, RoBERTa, T5, BART, GPT-2, Llama, Qwen or Mistral"
    kind = type(backbone).__name__
    used = getattr(backbone.config, "_attn_implementation", None)
    if used not in {"sdpa", NAME}:
        if getattr(backbone, "_supports_sdpa", False):
            fix = "Leave out `model.attn_implementation`"
        found = f"`prefix` with a `{kind}`, whose attention is `{used}`"
        raise ModelError(Fault("model.sharing.scheme", requirement, found, fix))
    backbone.set_attn_implementation(NAME)
    inputs = {"input_ids": torch.randint(backbone.config.vocab_size, (1, length), device=backbone.device)}
    if getattr(backbone.config, "is_encoder_decoder", False):
        inputs["decoder_input_ids"] = inputs["input_ids"]
    with _noted(backbone) as noted, torch.no_grad():
        backbone(**inputs, use_cache=False) if _has_cache(backbone) else backbone(**inputs)
    seen = {path: (module, *noted[id(module)]) for path, module in backbone.named_modules() if id(module) in noted}
    if not seen:
        found = f"`prefix` with a `{kind}`, which calls its attention by itself"
        raise ModelError(Fault("model.sharing.scheme", requirement, found, fix))
    return seen


def _has_cache(backbone: Any) -> bool:
    return hasattr(backbone.config, "use_cache")


@contextmanager
def _noted(backbone: nn.Module) -> Iterator[dict[int, tuple[Tensor, Tensor]]]:
    """Note keys and values of each layer, in evaluation mode."""
    global _RECORD  # noqa: PLW0603 - the interface hands over nothing but a layer of attention
    training, noted = backbone.training, dict[int, tuple[Tensor, Tensor]]()
    backbone.eval()
    _RECORD = noted
    try:
        yield noted
    finally:
        _RECORD = None
        backbone.train(training)
