"""How alike two texts are, from a vector of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor, nn
from torch.nn import functional

from taskloom.tasks import Floats
from taskloom.tasks._heads import Pooling, VectorHead, settled
from taskloom.tasks._losses import HuberDelta, squared
from taskloom.tasks._number import NumberTask, rounded
from taskloom.tasks._text import encode_texts, item_of, number_fault, text_fault
from taskloom.types import Item, Prediction, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class Similarity(NumberTask):
    """Say how alike two texts are, as the cosine of their vectors on the scale of the training numbers.

    Prefer it where vectors are to be stored and compared later, or the backbone was trained for sentences. Do not
    where the two texts must be read together (`regression` with `text_pair`).

    Formula: ``loss_i = d_i^2`` with ``d_i = (cos(u_i, v_i) - (y_i - low)/(high - low)) * (high - low)/spread``, u_i and
    v_i the pooled vectors, and range and standard deviation of the training numbers; with `huber_delta`, ``2 delta
    |d_i| - delta^2`` where ``|d_i| > delta``.

    Shapes: output [sequence, width]; an example is two sequences.

    Options:
        max_length: tokens after which each text is cut (256).
        pooling: "mean" of the tokens, the "first" or "last" one; "auto" is the last of a decoder, else the mean.
        huber_delta: distance, in standard deviations, beyond which an error counts by its size and no longer by its
            square, so that single far numbers pull less; null (default) squares all (1.35 is usual).

    Errors: `DataError` where all training numbers are the same.

    Differs: the paper's cosine-similarity loss, with the wanted values brought to 0..1 by the range of training, and
    measured in standard deviations as in `regression`: beside cross-entropies it would hardly count otherwise.

    Paper: Reimers and Gurevych, Sentence-BERT, EMNLP 2019, arXiv:1908.10084.

    Golden example: rows {"text": "A man is singing.", "text_pair": "Someone sings.", "label": 4.2}.
    """

    columns = {"text": "one text", "text_pair": "the other text", "label": "a number, greater for more alike"}
    identity_columns = ("text", "text_pair")
    default_metrics = ("spearman", "pearson")

    def __init__(self, *, max_length: int = 256, pooling: Pooling = "auto", huber_delta: HuberDelta = None) -> None:
        super().__init__(max_length=max_length)
        self.pooling = pooling
        self.huber_delta = huber_delta

    def fault(self, row: Row) -> str | None:
        """Find empty texts and values that are no numbers."""
        return text_fault(row, "text", "text_pair") or number_fault(row.get("label"), "label")

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerFast) -> Iterator[list[Item]]:
        """Give one item of two sequences for each row."""
        none = [None] * len(rows)
        first = encode_texts(tokenizer, [row["text"] for row in rows], none, self.max_length)
        second = encode_texts(tokenizer, [row["text_pair"] for row in rows], none, self.max_length)
        for row, *both in zip(rows, first, second, strict=True):
            yield [item_of(both, number=self.target_of(row))]

    def head(self, width: int) -> nn.Module:
        """Pool each sequence; there is nothing to learn in the head."""
        return VectorHead(settled(self.pooling, self.family))

    def loss(self, output: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Give the squared error of each item's cosine, in standard deviations of the wanted cosines: [item].

        With `huber_delta`, its tails are straight.
        """
        cosine = functional.cosine_similarity(output[0::2], output[1::2])
        return squared((cosine - targets["number"]) * ((self.high - self.low) / self.spread), self.huber_delta)

    def scaled(self, number: float) -> float:
        """Give a number's place in the range of training, which is 0 to 1."""
        return (number - self.low) / (self.high - self.low)

    def decode(self, row: Row, items: Sequence[Item], outputs: Sequence[Floats]) -> Prediction:
        """Give the cosine, clipped to 0..1, on the user's scale."""
        first, second = outputs[0].astype(np.float64)
        cosine = float(first @ second / max(np.linalg.norm(first) * np.linalg.norm(second), 1e-12))
        value = self.low + min(max(cosine, 0.0), 1.0) * (self.high - self.low)
        return Prediction(rounded(value), {"cosine": round(cosine, 6)})
