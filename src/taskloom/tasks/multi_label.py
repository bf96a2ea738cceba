"""Any number of labels of a text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from taskloom.tasks import Floats, Odds, Task
from taskloom.tasks._heads import PooledHead, Pooling, settled
from taskloom.tasks._labels import LabelledTask, label_fault
from taskloom.tasks._losses import (
    ClassWeights,
    FocalGamma,
    LabelLoss,
    LabelSmoothing,
    NoiseRobustness,
    pair_weights,
)
from taskloom.tasks._soft import LESSON, Pupil, SoftDistillation, binary_divergence, other_labels, reordered
from taskloom.tasks._text import encode_texts, item_of, text_fault
from taskloom.types import Item, Prediction, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class MultiLabel(Pupil, LabelledTask):
    """Choose every label that holds for a text: none, one or several.

    Prefer it for topics, concerns, toxicity kinds. Do not where exactly one label holds (`classification`).

    Formula: ``loss_i = (1/K) sum_k BCE(sigmoid(W dropout(h_i) + b)[k], [k in labels_i])`` over the K labels. Each is a
    choice between two, which the options of the loss take as `classification` takes its labels. With a teacher of
    logits t_i, s of share and T of temperature, ``(1 - s) loss_i + s (T^2 / K) sum_k KL(sigmoid(t_ik / T) ||
    sigmoid(z_ik / T))``, z_i the logits.

    Shapes: output [sequence, label].

    Options:
        max_length: tokens after which a text is cut (256).
        pooling: "mean" of the tokens, the "first" or "last" one; "auto" is the last of a decoder, else the mean.
        dropout: on the pooled vector, 0.1 as in BERT.
        threshold: probability from which a label is given, 0.5.
        label_smoothing: share of the loss that having a label and not having it have alike (0).
        focal_gamma: how much less a choice counts that is right already (0: not at all; 2 in the paper).
        noise_robustness: q of the loss that bounds what a wrong label can cost (0: no bound; 0.7 in the paper).
        class_weights: "balanced" (for each label, the rows with it count together as much as those without), or a
            mapping of labels to how many times a row counts that has the label; null (default) for none.
        distillation: `teacher`, the folder of a finished run with a task of the same labels; `task`, its name (by
            default this task's); `temperature` (2.0); `share` (0.5), what the teacher has of the loss; null for none.

    Errors: `DataError` where training has fewer than two labels, or `class_weights` names another; `ConfigError` where
    `noise_robustness` stands beside another form.

    Papers: Lin et al., Focal Loss, ICCV 2017, arXiv:1708.02002; Zhang and Sabuncu, Generalized Cross Entropy
    Loss, NeurIPS 2018, arXiv:1805.07836; Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, 2015,
    arXiv:1503.02531.

    Golden example: rows {"text": "late again and charged twice", "labels": ["delivery", "billing"]}.
    """

    columns = {"text": "the text", "labels": "the list of its labels, which may be empty"}
    optional_columns = {"text_pair": "a second text, judged together with the first"}
    identity_columns = ("text", "text_pair")
    predicts = "labels"
    default_metrics = ("micro_f1", "macro_f1")
    label_column = "labels"

    def __init__(
        self,
        *,
        max_length: int = 256,
        pooling: Pooling = "auto",
        dropout: float = 0.1,
        threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5,
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
        self.threshold = threshold

    def labels_of(self, row: Row) -> Iterable[Any]:
        """Give all labels of a row."""
        labels: list[Any] = row["labels"]
        return labels

    def fault(self, row: Row) -> str | None:
        """Find empty texts, and labels that are no list of labels."""
        labels, found = row.get("labels"), text_fault(row, "text", optional=("text_pair",))
        if not isinstance(labels, list):
            return found or f"have a list in `labels`, not {'nothing' if labels is None else f'`{labels}`'}"
        return found or next(filter(None, (label_fault(label, "labels") for label in labels)), None)

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerFast) -> Iterator[list[Item]]:
        """Give one item of one sequence for each row."""
        texts, pairs = [row["text"] for row in rows], [row.get("text_pair") for row in rows]
        for row, sequence in zip(rows, encode_texts(tokenizer, texts, pairs, self.max_length), strict=True):
            held = set(row.get("labels") or ())
            yield [item_of([sequence], labels=[int(label in held) for label in self.labels])]

    def head(self, width: int) -> nn.Module:
        """Make the linear map from the pooled vector to the labels."""
        return PooledHead(width, len(self.labels), settled(self.pooling, self.family), self.dropout)

    def targets(self, items: Sequence[Item], tokens: int) -> dict[str, Tensor]:
        """Give ``labels`` [item, label] float32, 1 where a label holds, and ``teacher`` likewise where there is one."""
        labels = torch.tensor([item["labels"] for item in items], dtype=torch.float32)
        return {"labels": labels, **self.lessons(items)}

    def loss(self, output: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Give the mean over labels of each item's binary cross-entropies, or of the form asked for: [item].

        Where there is a teacher, what differs from its answer has a share.
        """
        hard = self._hard(output, targets)
        if LESSON not in targets:
            return hard
        return self.blended(hard, binary_divergence(output, targets[LESSON], self.temperature).mean(dim=1))

    def objection(self, teacher: Task) -> tuple[str, str] | None:
        """Refuse a teacher of another type, or of other labels."""
        return super().objection(teacher) or other_labels(self.labels, getattr(teacher, "labels", ()))

    def lesson(self, teacher: Task, output: Floats, taught: Item, item: Item) -> Floats:
        """Give the teacher's logits in the order of this task's labels: [1, label]."""
        assert isinstance(teacher, LabelledTask)
        return reordered(output[:1], self.labels, teacher.ids)

    def _hard(self, output: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        held, weights = targets["labels"], self.weights_for(output)
        if self.form.plain and weights is None:
            return functional.binary_cross_entropy_with_logits(output, held, reduction="none").mean(dim=1)
        both = torch.stack([functional.logsigmoid(-output), functional.logsigmoid(output)], dim=-1)
        return self.form.of_logs(both, held.long(), weights).mean(dim=1)

    def weigh(self, rows: Sequence[Row]) -> list[Any] | None:
        """Make for each label the weights of rows without and with it: [label][2]."""
        counts = Counter(label for row in rows for label in set(self.labels_of(row)))
        return pair_weights(self.class_weights, self.labels, counts, len(rows))

    def choices(self) -> int | None:
        """Give two: each label is chosen or not."""
        return 2

    def decode(self, row: Row, items: Sequence[Item], outputs: Sequence[Floats]) -> Prediction:
        """Give the labels at or above the threshold, with all probabilities."""
        logits = outputs[0][0].astype(np.float64)
        chosen = [label for label, held in zip(self.labels, self._chosen(logits), strict=True) if held]
        probabilities = sigmoid(logits / self.calibration)
        named = {str(label): round(float(p), 6) for label, p in zip(self.labels, probabilities, strict=True)}
        return Prediction(chosen, {"probabilities": named})

    def odds(self, row: Row, items: Sequence[Item], outputs: Sequence[Floats]) -> Odds | None:
        """Give a choice for each label between not having it, whose logit is 0, and having it."""
        logits, held = outputs[0][0].astype(np.float64), set(row.get("labels") or ())
        right = np.array([int(label in held) if "labels" in row else -1 for label in self.labels])
        both = np.stack([np.zeros_like(logits), logits], axis=1).astype(np.float32)
        return Odds(both, self._chosen(logits).astype(np.int64), right)

    def _chosen(self, logits: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Say which labels are given, by the probabilities as trained: the threshold was set for these."""
        found: NDArray[np.bool_] = sigmoid(logits) >= self.threshold
        return found

    def reference(self, row: Row) -> Any:
        """Give the row's labels."""
        return row["labels"]

    def baseline(self, train: Sequence[Row], rows: Sequence[Row]) -> list[Any]:
        """Answer with the set of most frequent labels that has the best micro F1 on the training rows."""
        counts = Counter(label for row in train for label in row["labels"])
        ranked = sorted(self.labels, key=lambda label: -counts[label])
        total, best, best_f1, hits = sum(counts.values()), 1, 0.0, 0
        for size, label in enumerate(ranked, start=1):
            hits += counts[label]
            f1 = 2 * hits / (total + size * len(train))
            if f1 > best_f1:
                best, best_f1 = size, f1
        return [ranked[:best]] * len(rows)


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the probability of each label, without overflow."""
    found: NDArray[np.float64] = (1 + np.tanh(logits / 2)) / 2
    return found
