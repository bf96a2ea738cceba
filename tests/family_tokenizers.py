"""A small tokenizer for each family of backbones, with what backbones of the family bring along."""

from __future__ import annotations

import copy
from functools import cache
from typing import TYPE_CHECKING

from tokenizers.processors import TemplateProcessing

from answer_tokenizers import answer_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from taskloom.types import Family

SENTINELS = 40
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '[' + message['role'] + '] ' + message['content'] + eos_token + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '[assistant] ' }}{% endif %}"
)


@cache
def tokenizer_of(family: Family) -> PreTrainedTokenizerFast:
    """Give a tokenizer: an encoder's in BERT's form, a decoder's with a chat template, an encoder-decoder's in T5's."""
    if family == "encoder":
        return _in_form_of_bert()
    if family == "decoder":
        tokenizer = copy.deepcopy(answer_tokenizer("byte-level"))
        tokenizer.chat_template = CHAT_TEMPLATE
        return tokenizer
    tokenizer = copy.deepcopy(answer_tokenizer("unigram"))
    marks = [f"<extra_id_{number}>" for number in range(SENTINELS)]
    tokenizer.add_special_tokens({"additional_special_tokens": marks})
    return tokenizer


def _in_form_of_bert() -> PreTrainedTokenizerFast:
    tokenizer = copy.deepcopy(answer_tokenizer("wordpiece"))
    tokenizer.add_special_tokens({"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"})
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(mark, tokenizer.convert_tokens_to_ids(mark)) for mark in ("[CLS]", "[SEP]")],
    )
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    return tokenizer
