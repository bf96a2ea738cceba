"""What tests of tasks without labels share: a task whose head they use, and a small model that learns words alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from taskloom.tasks.classification import Classification

if TYPE_CHECKING:
    from collections.abc import Sequence

    from taskloom.tasks import Task

LABELS = ["film", "music"]
KNOWN = {"film": ["watch", "movie", "actor", "scene"], "music": ["hear", "song", "singer", "album"]}
"""Words of each label that labelled rows have."""

NEW = {"film": ["trailer", "sequel", "cinema", "screen"], "music": ["chorus", "melody", "concert", "vinyl"]}
"""Words of each label that only texts without labels have, beside known ones."""


def labelled_task() -> Classification:
    task = Classification(dropout=0.0)
    task.fit([{"text": "a", "label": label} for label in LABELS])
    return task


class WordModel(nn.Module):
    """A vector for each token as hidden states, and one task's head on their mean."""

    def __init__(self, vocabulary: int, task: Task, width: int = 16) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.vectors = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.vectors.weight, std=0.1)
        self.head = task.head(width)

    def forward(self, items: Sequence[dict[str, Any]]) -> Tensor:
        sequences = [ids for item in items for ids in item["input_ids"]]
        width = max(map(len, sequences))
        ids = torch.tensor([[*ids, *[0] * (width - len(ids))] for ids in sequences])
        mask = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids in sequences])
        output: Tensor = self.head(self.vectors(ids), mask)
        return output


def planted() -> tuple[list[dict[str, str]], list[dict[str, str]], list[dict[str, str]]]:
    """Give a few labelled rows of known words, many texts of known and new words, and labelled rows of new words.

    Nothing but the texts without labels says which new words go with which known ones.
    """
    chance = torch.Generator().manual_seed(0)

    def text(*words: Sequence[str]) -> str:
        return " ".join(held[int(torch.randint(len(held), (1,), generator=chance))] for held in words)

    few = [{"text": text(KNOWN[label], KNOWN[label]), "label": label} for label in LABELS for _ in range(8)]
    many = [{"text": text(KNOWN[label], NEW[label], NEW[label])} for _ in range(100) for label in LABELS]
    asked = [{"text": text(NEW[label], NEW[label]), "label": label} for label in LABELS for _ in range(30)]
    return few, many, asked


def word_tokenizer() -> Any:
    """Make a tokenizer of whole words, with a mask."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[MASK]", *(word for held in (KNOWN, NEW) for own in held.values() for word in own)]
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "mask_token": "[MASK]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
