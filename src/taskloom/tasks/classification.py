"""One label of a text or of a pair of texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from taskloom.tasks import Floats, Odds, Task
from taskloom.tasks._heads import PooledHead, Pooling, settled
from taskloom.tasks._labels import LabelledTask, label_fault
from taskloom.tasks._losses import ClassWeights, FocalGamma, LabelLoss, LabelSmoothing, NoiseRobustness
from taskloom.tasks._soft import LESSON, Pupil, SoftDistillation, divergence, other_labels, reordered
from taskloom.tasks._text import encode_texts, item_of, text_fault
from taskloom.types import Item, Prediction, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class Classification(Pupil, LabelledTask):
    """Choose one label for a text, or for a pair of texts.

    Prefer it for intents, sentiment, topics, entailment. Do not where several labels hold at once (`multi_label`) or
    where labels are steps of a scale (`regression`).

    Formula: ``loss_i = -log softmax(W dropout(h_i) + b)[label_i]`` with h_i the pooled vector of example i; the options
    of the loss put another form in the logarithm's place, and a weight before it. With a teacher of logits t_i, s of
    share and T of temperature, ``(1 - s) loss_i + s T^2 KL(softmax(t_i / T) || softmax(z_i / T))``, z_i the logits.

    Shapes: output [sequence, label].

    Options:
        max_length: tokens after which a text is cut (256: sentences and short paragraphs fit).
        pooling: "mean" of the tokens, the "first" or "last" one; "auto" is the last of a decoder, else the mean.
        dropout: on the pooled vector, 0.1 as in BERT.
        label_smoothing: share of the loss that all labels have alike (0), against too sure answers (0.1 is usual).
        focal_gamma: how much less a row counts that is right already (0: not at all; 2 in the paper).
        noise_robustness: q of the loss that bounds what a wrong label can cost (0: no bound; 0.7 in the paper).
        class_weights: "balanced" (``n / (L n_c)`` over the L labels: rare ones count more, all together as much as
            before), or a mapping of labels to weights, of which only the proportions matter; null (default) for none.
        distillation: `teacher`, the folder of a finished run with a task of the same labels; `task`, its name (by
            default this task's); `temperature` (2.0); `share` (0.5), what the teacher has of the loss; null for none.

    Errors: `DataError` where training has fewer than two labels, or `class_weights` names another; `ConfigError` where
    `noise_robustness` stands beside another form.

    Papers: Lin et al., Focal Loss, ICCV 2017, arXiv:1708.02002; Zhang and Sabuncu, Generalized Cross Entropy
    Loss, NeurIPS 2018, arXiv:1805.07836; Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, 2015,
    arXiv:1503.02531.

    Golden example: rows {"text": "play some jazz", "label": "PlayMusic"}.
    """

    columns = {"text": "the text", "label": "its label: a text or a whole number"}
    optional_columns = {"text_pair": "a second text, judged together with the first"}
    identity_columns = ("text", "text_pair")
    predicts = "label"
    default_metrics = ("accuracy", "macro_f1")

    def __init__(
        self,
        *,
        max_length: int = 256,
        pooling: Pooling = "auto",
        dropout: float = 0.1,
        label_smoothing: LabelSmoothing = 0.0,
        focal_gamma: FocalGamma = 0.0,
        noise_robustness: NoiseRobustness = 0.0,
        class_weights: ClassWeights = None,
        distillation: SoftDistillation | None = None,
    ) -> None:
        form = LabelLoss(label_smoothing, focal_gamma, noise_robustness)
        super().__init__(max_length=max_length, form=form, class_weights=class_weights)
        self.learn_from(distillation)
        self.pooling = pooling
        self.dropout = dropout

    def fault(self, row: Row) -> str | None:
        """Find empty texts and values that are no labels."""
        return text_fault(row, "text", optional=("text_pair",)) or label_fault(row.get("label"), "label")

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerFast) -> Iterator[list[Item]]:
        """Give one item of one sequence for each row."""
        texts, pairs = [row["text"] for row in rows], [row.get("text_pair") for row in rows]
        for row, sequence in zip(rows, encode_texts(tokenizer, texts, pairs, self.max_length), strict=True):
            yield [item_of([sequence], label=self.ids.get(row.get("label"), -1))]

    def head(self, width: int) -> nn.Module:
        """Make the linear map from the pooled vector to the labels."""
        return PooledHead(width, len(self.labels), settled(self.pooling, self.family), self.dropout)

    def targets(self, items: Sequence[Item], tokens: int) -> dict[str, Tensor]:
        """Give ``label`` [item] int64, and ``teacher`` [item, label] where there is one."""
        return {"label": torch.tensor([item["label"] for item in items]), **self.lessons(items)}

    def loss(self, output: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Give the cross-entropy of each item, or the form of it that was asked for: [item].

        Where there is a teacher, what differs from its answer has a share.
        """
        hard = self.form(output, targets["label"], self.weights_for(output))
        if LESSON not in targets:
            return hard
        return self.blended(hard, divergence(output, targets[LESSON], self.temperature))

    def objection(self, teacher: Task) -> tuple[str, str] | None:
        """Refuse a teacher of another type, or of other labels."""
        return super().objection(teacher) or other_labels(self.labels, getattr(teacher, "labels", ()))

    def lesson(self, teacher: Task, output: Floats, taught: Item, item: Item) -> Floats:
        """Give the teacher's logits in the order of this task's labels: [1, label]."""
        assert isinstance(teacher, LabelledTask)
        return reordered(output[:1], self.labels, teacher.ids)

    def decode(self, row: Row, items: Sequence[Item], outputs: Sequence[Floats]) -> Prediction:
        """Give the likeliest label, with all probabilities."""
        best, probabilities = int(outputs[0][0].argmax()), softmax(outputs[0][0] / self.calibration)
        named = {str(label): round(float(p), 6) for label, p in zip(self.labels, probabilities, strict=True)}
        return Prediction(self.labels[best], {"probabilities": named})

    def odds(self, row: Row, items: Sequence[Item], outputs: Sequence[Floats]) -> Odds | None:
        """Give one choice among all labels."""
        right = np.array([self.ids.get(row.get("label"), -1)])
        return Odds(outputs[0][:1], outputs[0][:1].argmax(axis=1), right)

    def reference(self, row: Row) -> Any:
        """Give the row's label."""
        return row["label"]

    def baseline(self, train: Sequence[Row], rows: Sequence[Row]) -> list[Any]:
        """Answer with the most frequent training label."""
        return [self.most_frequent(train)] * len(rows)


def softmax(logits: Floats) -> Floats:
    """Give probabilities along the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities: Floats = shifted / shifted.sum(axis=-1, keepdims=True)
    return probabilities
