"""Tasks that learn the language itself from plain texts, and are judged by how well they foresee it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

from taskloom.tasks._text import text_fault
from taskloom.tasks._words import WordsTask
from taskloom.types import IGNORED, Family, Item, Prediction, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

LIMIT_BASELINE_ROWS = 2000
"""How many training rows the baseline counts tokens in: enough for frequencies, and no second tokenising of all."""


class LanguageTask(WordsTask):
    """A task whose rows are plain texts, and whose answer is what their tokens cost.

    A prediction's value is {"nll": the summed negative log-likelihood of the tokens that are foretold, "tokens": their
    number}, from which `perplexity` is made.

    Attributes:
        tokenizer: the backbone's, from `meet`; the baseline counts tokens with it.
    """

    columns = {"text": "the text"}
    predicts = "loss"
    windows = True
    default_metrics = ("perplexity",)

    def __init__(self, *, max_length: int = 512) -> None:
        super().__init__(max_length=max_length)
        self.tokenizer: PreTrainedTokenizerFast | None = None

    def meet(self, family: Family, tokenizer: PreTrainedTokenizerFast) -> None:
        """Note the family and the tokenizer."""
        super().meet(family, tokenizer)
        self.tokenizer = tokenizer

    def fault(self, row: Row) -> str | None:
        """Find what is no text, or empty."""
        return text_fault(row, "text")

    def decode(self, row: Row, items: Sequence[Item], outputs: Sequence[Any]) -> Prediction:
        """Add up what the tokens of all windows cost."""
        costs = [
            float(output[place, at])
            for item, output in zip(items, outputs, strict=True)
            for place, labels in enumerate(item["labels"])
            for at, label in enumerate(labels)
            if label != IGNORED
        ]
        total = float(np.sum(costs))
        detail = {"perplexity": round(float(np.exp(min(total / len(costs), 700.0))), 6)} if costs else {}
        return Prediction({"nll": total, "tokens": len(costs)}, detail)

    def reference(self, row: Row) -> Any:
        """Give the text, which is its own reference."""
        return row["text"]

    def baseline(self, train: Sequence[Row], rows: Sequence[Row]) -> list[Any]:
        """Foretell each token by its frequency in training, each token of the vocabulary seen once more than it was."""
        assert self.tokenizer is not None, "`meet` comes first"
        counts = np.ones(len(self.tokenizer))
        for labels in self._labels(train[:LIMIT_BASELINE_ROWS]):
            np.add.at(counts, labels, 1)
        costs = -np.log(counts / counts.sum())
        return [{"nll": float(costs[labels].sum()), "tokens": len(labels)} for labels in self._labels(rows)]

    def describe(self, row: Row, item: Item) -> list[tuple[str, str]]:
        """Show what is learned of an item."""
        if self.tokenizer is None:
            return super().describe(row, item)
        learned = [label for labels in item["labels"] for label in labels if label != IGNORED]
        return [("learned", repr(self.tokenizer.decode(learned)))]

    def _labels(self, rows: Sequence[Row]) -> Iterator[list[int]]:
        """Give the tokens of each row that are learned."""
        assert self.tokenizer is not None
        for items in self.encode(rows, self.tokenizer):
            yield [label for item in items for labels in item["labels"] for label in labels if label != IGNORED]


def generator_of(seed: int, window: int, text: str) -> np.random.Generator:
    """Give what a window's draws are made from: the text and the seed alone, wherever and whenever it is encoded."""
    digest = sha256(f"{seed}\n{window}\n{text}".encode("utf-8", "surrogatepass")).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def windows(ids: Sequence[int], size: int) -> list[list[int]]:
    """Cut tokens into windows of `size`; the last is as short as it comes out."""
    return [list(ids[start : start + size]) for start in range(0, max(len(ids), 1), size)]
