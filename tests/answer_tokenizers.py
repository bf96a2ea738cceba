"""Small tokenizers of the three makes in which backbones write, their pieces learned from a few sentences."""

from __future__ import annotations

from functools import cache
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

SENTENCES = [
    "I want to fly from New York to San Francisco on Monday, returning 3.5 days later.",
    "Don't book the U.S. Grant hotel; take the Queen's Head (no. 12) in St. Louis instead!",
    "city: New York; day: Monday; none; label: value; play_music: jazz; object_name: b",
    "Zürich and München are well-known; 東京 and 大阪 as well. E-mail ann@example.org at 17:30.",
]
SPECIAL = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
MAKES = ("byte-level", "wordpiece", "unigram")


@cache
def answer_tokenizer(make: str) -> PreTrainedTokenizerFast:
    """Train a tokenizer: "byte-level" as GPT-2 has it, "wordpiece" as BERT has it, or "unigram" as T5 has it."""
    return {"byte-level": _byte_level, "wordpiece": _wordpiece, "unigram": _unigram}[make]()


def _byte_level() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return _learned(tokenizer, trainers.BpeTrainer, vocab_size=380, initial_alphabet=alphabet)


def _wordpiece() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    alphabet = list("abcdefghijklmnopqrstuvwxyz0123456789.,:;!?'@_-()")
    return _learned(tokenizer, trainers.WordPieceTrainer, vocab_size=250, initial_alphabet=alphabet)


def _unigram() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    alphabet = [chr(code) for code in range(33, 126)]
    fast = _learned(tokenizer, trainers.UnigramTrainer, vocab_size=220, initial_alphabet=alphabet, unk_token="<unk>")
    end = fast.eos_token_id
    fast.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", end)]
    )
    return fast


def _learned(tokenizer: Tokenizer, trainer: Any, **options: Any) -> PreTrainedTokenizerFast:
    learner = trainer(special_tokens=list(SPECIAL.values()), show_progress=False, **options)
    tokenizer.train_from_iterator(SENTENCES * 3, learner)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL)
