"""The right one of several answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from taskloom.tasks import Floats, Odds, Task
from taskloom.tasks._heads import PooledHead, Pooling, settled
from taskloom.tasks._losses import FocalGamma, LabelLoss, LabelSmoothing, NoiseRobustness
from taskloom.tasks._text import encode_texts, item_of, text_fault
from taskloom.tasks.classification import softmax
from taskloom.types import Item, Prediction, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class MultipleChoice(Task):
    """Pick the right one of several answers that come with the question; their number may differ by row.

    Prefer it where answers are texts of the row itself. Do not where the same labels serve all rows
    (`classification`).

    Formula: ``loss_i = -log softmax_c(w · dropout(h_ic) + b)[label_i]`` over the choices c, each read beside context
    and question. The options of the loss put another form in the logarithm's place.

    Shapes: output [sequence, 1]; an example has one sequence for each choice.

    Options:
        max_length: tokens after which context, question and choice together are cut (256).
        pooling: "mean" of the tokens, the "first" or "last" one; "auto" is the last of a decoder, else the mean.
        dropout: on the pooled vector, 0.1 as in BERT.
        label_smoothing: share of the loss that all choices have alike (0), against too sure answers (0.1 is usual).
        focal_gamma: how much less a row counts that is right already (0: not at all; 2 in the paper).
        noise_robustness: q of the loss that bounds what a wrong label can cost (0: no bound; 0.7 in the paper).

    Errors: `ConfigError` where `noise_robustness` stands beside another form.

    Papers: Lin et al., Focal Loss, ICCV 2017, arXiv:1708.02002; Zhang and Sabuncu, Generalized Cross Entropy
    Loss, NeurIPS 2018, arXiv:1805.07836.

    Golden example: rows {"context": "It rained.", "question": "Is it wet?", "choices": ["yes", "no"], "label": 0}.
    """

    columns = {"choices": "the list of answers", "label": "the index of the right one, from 0"}
    optional_columns = {"context": "what is known", "question": "what is asked"}
    identity_columns = ("context", "question")
    predicts = "choice"
    default_metrics = ("accuracy",)

    def __init__(
        self,
        *,
        max_length: int = 256,
        pooling: Pooling = "auto",
        dropout: float = 0.1,
        label_smoothing: LabelSmoothing = 0.0,
        focal_gamma: FocalGamma = 0.0,
        noise_robustness: NoiseRobustness = 0.0,
    ) -> None:
        super().__init__(max_length=max_length)
        self.pooling = pooling
        self.dropout = dropout
        self.form = LabelLoss(label_smoothing, focal_gamma, noise_robustness)

    def fault(self, row: Row) -> str | None:
        """Find rows without context and question, fewer than two choices, and a label that is no index."""
        choices, label = row.get("choices"), row.get("label")
        if not (row.get("context") or row.get("question")):
            return "have text in `context` or in `question`"
        if not isinstance(choices, list) or len(choices) < 2:
            return "have a list of two answers or more in `choices`"
        if not all(isinstance(choice, str) and choice.strip() for choice in choices):
            return "have text in each of its `choices`"
        found = text_fault(row, optional=("context", "question"))
        if isinstance(label, bool) or not isinstance(label, int) or not 0 <= label < len(choices):
            return found or f"have an index from 0 to {len(choices) - 1} in `label`, not `{label}`"
        return found

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerFast) -> Iterator[list[Item]]:
        """Give one item for each row, with one sequence for each choice."""
        for row in rows:
            context, question = row.get("context"), row.get("question")
            beside = [f"{question} {choice}" if context and question else choice for choice in row["choices"]]
            sequences = encode_texts(tokenizer, [context or question or ""] * len(beside), beside, self.max_length)
            label = row.get("label")
            yield [item_of(sequences, label=-1 if label is None else int(label))]

    def head(self, width: int) -> nn.Module:
        """Make the linear map from the pooled vector to one score."""
        return PooledHead(width, 1, settled(self.pooling, self.family), self.dropout)

    def targets(self, items: Sequence[Item], tokens: int) -> dict[str, Tensor]:
        """Give ``label`` [item] and ``sizes`` [item], the number of choices."""
        return {
            "label": torch.tensor([item["label"] for item in items]),
            "sizes": torch.tensor([len(item["input_ids"]) for item in items]),
        }

    def loss(self, output: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Give the cross-entropy over each item's own choices, or the form of it that was asked for: [item]."""
        sizes = targets["sizes"]
        owner = torch.repeat_interleave(torch.arange(len(sizes), device=sizes.device), sizes)
        place = torch.arange(len(owner), device=sizes.device) - (sizes.cumsum(0) - sizes)[owner]
        table = output.new_full((len(sizes), int(sizes.max())), float("-inf"))
        table = table.index_put((owner, place), output[:, 0])
        there = torch.arange(table.shape[1], device=sizes.device) < sizes.unsqueeze(1)
        return self.form(table, targets["label"], allowed=there)

    def decode(self, row: Row, items: Sequence[Item], outputs: Sequence[Floats]) -> Prediction:
        """Give the index of the likeliest choice, with its text and all probabilities."""
        best, probabilities = int(outputs[0][:, 0].argmax()), softmax(outputs[0][:, 0] / self.calibration)
        detail = {"text": row["choices"][best], "probabilities": [round(float(p), 6) for p in probabilities]}
        return Prediction(best, detail)

    def odds(self, row: Row, items: Sequence[Item], outputs: Sequence[Floats]) -> Odds | None:
        """Give one choice among the row's own."""
        label = row.get("label")
        right = np.array([-1 if label is None else int(label)])
        return Odds(outputs[0][:, 0][None], outputs[0][:, 0][None].argmax(axis=1), right)

    def reference(self, row: Row) -> Any:
        """Give the index of the right choice."""
        return row["label"]

    def baseline(self, train: Sequence[Row], rows: Sequence[Row]) -> list[Any]:
        """Answer with the place that is right most often in the training rows."""
        place = Counter(row["label"] for row in train).most_common(1)[0][0]
        return [min(place, len(row["choices"]) - 1) for row in rows]
