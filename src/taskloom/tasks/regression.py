"""A number for a text or a pair of texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor, nn

from taskloom.tasks import Floats, Task
from taskloom.tasks._heads import PooledHead, Pooling, settled
from taskloom.tasks._losses import HuberDelta, squared
from taskloom.tasks._number import NumberTask, rounded
from taskloom.tasks._soft import LESSON, Distillation, Pupil
from taskloom.tasks._text import encode_texts, item_of, number_fault, text_fault
from taskloom.types import Item, Prediction, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class Regression(Pupil, NumberTask):
    """Give a number to a text, or to a pair of texts read together.

    Prefer it for ratings, urgency, scores of quality. Do not for the likeness of two texts where many pairs are to be
    compared later (`similarity` gives each text a vector).

    Formula: ``loss_i = d_i^2`` with ``d_i = (W dropout(h_i) + b) - (y_i - mean)/spread``, mean and standard deviation
    of training; with `huber_delta`, ``2 delta |d_i| - delta^2`` where ``|d_i| > delta``. With a teacher and s of share,
    ``(1 - s) loss_i + s loss'_i``, where loss'_i has the teacher's number in y_i's place.

    Shapes: output [sequence, 1].

    Options:
        max_length: tokens after which a text is cut (256).
        pooling: "mean" of the tokens, the "first" or "last" one; "auto" is the last of a decoder, else the mean.
        dropout: on the pooled vector, 0.1 as in BERT.
        huber_delta: distance, in standard deviations, beyond which an error counts by its size and no longer by its
            square, so that single far numbers pull less; null (default) squares all (1.35 is usual).
        distillation: `teacher`, the folder of a finished run with a task that gives numbers of the same meaning;
            `task`, its name (by default this task's); `share` (0.5), what the teacher has of the loss; null for none.

    Errors: `DataError` where all training numbers are the same.

    Paper: Huber, Robust Estimation of a Location Parameter, Annals of Mathematical Statistics 35, 1964 (twice his
    loss, which goes on where the square ends).

    Golden example: rows {"text": "the server is on fire", "label": 0.95}.
    """

    columns = {"text": "the text", "label": "a number"}
    optional_columns = {"text_pair": "a second text, read together with the first"}
    identity_columns = ("text", "text_pair")
    default_metrics = ("pearson", "spearman", "mse")
    taught_by = Distillation

    def __init__(
        self,
        *,
        max_length: int = 256,
        pooling: Pooling = "auto",
        dropout: float = 0.1,
        huber_delta: HuberDelta = None,
        distillation: Distillation | None = None,
    ) -> None:
        super().__init__(max_length=max_length)
        self.learn_from(distillation)
        self.pooling = pooling
        self.dropout = dropout
        self.huber_delta = huber_delta

    def fault(self, row: Row) -> str | None:
        """Find empty texts and values that are no numbers."""
        return text_fault(row, "text", optional=("text_pair",)) or number_fault(row.get("label"), "label")

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerFast) -> Iterator[list[Item]]:
        """Give one item of one sequence for each row."""
        texts, pairs = [row["text"] for row in rows], [row.get("text_pair") for row in rows]
        for row, sequence in zip(rows, encode_texts(tokenizer, texts, pairs, self.max_length), strict=True):
            yield [item_of([sequence], number=self.target_of(row))]

    def head(self, width: int) -> nn.Module:
        """Make the linear map from the pooled vector to one number."""
        return PooledHead(width, 1, settled(self.pooling, self.family), self.dropout)

    def targets(self, items: Sequence[Item], tokens: int) -> dict[str, Tensor]:
        """Give ``number`` [item] float32, on the scale of training, and ``teacher`` [item, 1] where there is one."""
        return {**super().targets(items, tokens), **self.lessons(items)}

    def loss(self, output: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Give the squared error of each item in standard deviations, with straight tails if asked for: [item].

        Where there is a teacher, the distance from its number has a share.
        """
        hard = squared(output[:, 0] - targets["number"], self.huber_delta)
        if LESSON not in targets:
            return hard
        return self.blended(hard, squared(output[:, 0] - targets[LESSON][:, 0], self.huber_delta))

    def lesson(self, teacher: Task, output: Floats, taught: Item, item: Item) -> Floats:
        """Give the teacher's number on this task's scale: [1, 1]."""
        assert isinstance(teacher, NumberTask)
        number = float(output[0, 0]) * teacher.spread + teacher.mean
        return np.array([[self.scaled(number)]], dtype=np.float32)

    def scaled(self, number: float) -> float:
        """Give a number in standard deviations from the mean of training."""
        return (number - self.mean) / self.spread

    def decode(self, row: Row, items: Sequence[Item], outputs: Sequence[Floats]) -> Prediction:
        """Give the number in the user's scale."""
        return Prediction(rounded(float(outputs[0][0, 0]) * self.spread + self.mean))
