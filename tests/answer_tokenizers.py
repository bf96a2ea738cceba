"""Small tokenizers of the three makes in which backbones write; the same pieces, and numbers, in each process.

Trainers number pieces, and break ties between them, in an order that each process draws anew. So a tiny random model
would be another one in each, and what is true of nearly all of them would fail now and then.
"""

from __future__ import annotations

import json
import math
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
    """Know every letter, every second word whole, and the ends of the others."""
    normalizer, cutter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    texts = [normalizer.normalize_str(text) for text in SENTENCES]
    words = sorted({word for text in texts for word, _ in cutter.pre_tokenize_str(text)})
    letters = sorted({*"abcdefghijklmnopqrstuvwxyz0123456789.,:;!?'@_-()", *"".join(words)})
    ends = sorted({f"##{word[-3:]}" for word in words[1::2] if len(word) > 3})
    pieces = [*SPECIAL.values(), *letters, *(f"##{letter}" for letter in letters), *words[::2], *ends]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, cutter
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(list(SPECIAL.values()))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL)


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
    if isinstance(tokenizer.model, models.Unigram):
        _settle(tokenizer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL)


def _settle(tokenizer: Tokenizer) -> None:
    """Number a unigram model's pieces by their letters, and score them by how often they stand in the sentences."""
    learned = [piece for piece, _ in json.loads(tokenizer.to_str())["model"]["vocab"]]
    special, rest = learned[: len(SPECIAL)], sorted(learned[len(SPECIAL) :])
    assert special == list(SPECIAL.values())
    text = " ".join(["", *SENTENCES]).replace(" ", "\u2581")  # what a piece at a word's beginning begins with
    scores = [(piece, math.log((text.count(piece) + 0.5) / len(text))) for piece in rest]
    pieces = [*((piece, 0.0) for piece in special), *scores]
    tokenizer.model = models.Unigram(pieces, unk_id=special.index("<unk>"), byte_fallback=False)
