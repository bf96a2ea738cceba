"""Fixtures for tasks that read words: small tokenizers of decoders and of encoder-decoders, made on the spot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TEXTS = [
    "The parcel came late and the box was torn. Where is my parcel? It arrives tomorrow, thank you.",
    "The capital of France is Paris, and the capital of Spain is Madrid.",
    "user assistant system model hello :: how are you :: fine, thanks\n\nhello\n",
] * 4
TURNS = [
    *("<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    *("[INST]", "[/INST]", "<start_of_turn>", "<end_of_turn>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"),
]
"""What chat templates put between turns, as special tokens."""


def decoder_tokenizer(*special: str, begin: bool = False) -> PreTrainedTokenizerFast:
    """Make a byte-level tokenizer in GPT-2's form, with `<s>`, `</s>`, `<pad>` and further special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=["<s>", "</s>", "<pad>", *special],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    if begin:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    extra: dict[str, Any] = {"additional_special_tokens": list(special)} if special else {}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", **extra
    )


@pytest.fixture(scope="session")
def bytes_of_decoder() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer that begins texts with `<s>`, as Llama's does."""
    return decoder_tokenizer(begin=True)


@pytest.fixture(scope="session")
def turns_of_decoder() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer that knows the special tokens of five families of chat templates."""
    return decoder_tokenizer(*TURNS)


@pytest.fixture(scope="session")
def sentinels() -> PreTrainedTokenizerFast:
    """A tokenizer in T5's form: whole words and letters, `</s>` at the end, ten sentinels."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    marks = [f"<extra_id_{number}>" for number in range(10)]
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=160, special_tokens=["<pad>", "</s>", "<unk>", *marks], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        additional_special_tokens=marks,
    )
