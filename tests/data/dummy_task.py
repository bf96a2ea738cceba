"""A task and a tokenizer that are as small as can be."""

from __future__ import annotations

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

from taskloom.errors import DataError, Fault


class Dummy:
    """One label of a text; tests of data need no torch, and so no `Task`."""

    columns = {"text": "the text", "label": "its label"}
    optional_columns = {"text_pair": "a second text"}
    identity_columns = ("text",)

    def __init__(self, *, max_length=8, extra=()):
        self.max_length = max_length
        self.extra = extra
        self.labels = []
        self.encoded = 0

    def fault(self, row):
        if not isinstance(row["text"], str) or not row["text"].strip():
            return f"have text in `text`, not `{row['text']}`"
        return None

    def fit(self, rows):
        self.labels = sorted({row["label"] for row in rows})
        if len(self.labels) < 2:
            raise DataError(Fault("label", "have two labels or more in training", f"only `{self.labels[0]}`"))

    def unseen(self, row):
        if row["label"] not in self.labels:
            return f"have a `label` that training has, not `{row['label']}`. Did you mean `{self.labels[0]}`?"
        return None

    def state(self):
        return {"labels": self.labels}

    def encode(self, rows, tokenizer):
        encoded = tokenizer([row["text"] for row in rows], truncation=True, max_length=self.max_length)
        for row, tokens in zip(rows, encoded["input_ids"], strict=True):
            yield [{"input_ids": [tokens], "label": row["label"]}]


class Made(Dummy):
    """Gives the items that a row holds ready made."""

    def encode(self, rows, tokenizer):
        for row in rows:
            yield row["items"]


def word_tokenizer(words="a b c d e f play some jazz"):
    """Read text word by word."""
    vocabulary = {"[UNK]": 0, "[PAD]": 1, **{word: number for number, word in enumerate(words.split(), start=2)}}
    backend = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]", pad_token="[PAD]")
