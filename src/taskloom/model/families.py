"""Families of backbones: what reads both ways, what reads forwards, and what reads first and writes then."""

from __future__ import annotations

from typing import Any

from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

from taskloom.types import Family

WITH_WORDS: dict[Family, Any] = {
    "encoder": AutoModelForMaskedLM,
    "decoder": AutoModelForCausalLM,
    "encoder_decoder": AutoModelForSeq2SeqLM,
}
"""Family -> transformers' class of a backbone with its language head."""

PEFT_TASKS: dict[Family, str] = {
    "encoder": "FEATURE_EXTRACTION",
    "decoder": "CAUSAL_LM",
    "encoder_decoder": "SEQ_2_SEQ_LM",
}
"""Family -> what peft calls a model with a language head; without one it is feature extraction."""

NAMES: dict[Family, str] = {"encoder": "an encoder", "decoder": "a decoder", "encoder_decoder": "an encoder-decoder"}
"""Family -> how messages call one."""


def family_of(config: Any) -> Family:
    """Say what family a backbone is of, by its configuration."""
    if getattr(config, "is_encoder_decoder", False):
        return "encoder_decoder"
    causal = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and type(config) not in MODEL_FOR_MASKED_LM_MAPPING
    return "decoder" if causal or getattr(config, "is_decoder", False) else "encoder"


def class_for(config: Any, *, words: bool) -> Any:
    """Give transformers' class for a backbone.

    Args:
        config: its configuration.
        words: whether its language head is needed. An encoder-decoder is always loaded with it, which costs nothing:
            its table is that of the inputs, or small beside it.
    """
    family = family_of(config)
    return WITH_WORDS[family] if words or family == "encoder_decoder" else AutoModel
