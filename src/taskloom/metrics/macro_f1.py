"""F1 of each label, averaged over labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from taskloom.metrics import Metric, Numbers
from taskloom.metrics._labels import f1_of_sums, label_f1, label_sums

if TYPE_CHECKING:
    from collections.abc import Sequence


class MacroF1(Metric):
    """Mean over labels of each label's F1, so that a rare label counts as much as a frequent one.

    Prefer it where labels are unevenly frequent and each matters; prefer `micro_f1` or `accuracy` where each example
    matters, and where some labels are so rare that a handful of examples decide their F1.

    Formula: ``(1/|L|) sum_{l in L} 2 hits_l / (predicted_l + true_l)``, where L are the labels that occur in
    predictions or references, ``hits_l`` counts the examples whose prediction and reference both have l, and
    ``predicted_l`` and ``true_l`` those whose prediction or reference has it. Without any label it is 0.
    Differs: no difference from scikit-learn's ``f1_score(average="macro", zero_division=0)``, which also leaves out a
    label that occurs on neither side; lists of labels are read as their indicator matrix.
    Paper: Opitz and Burst, Macro F1 and Macro F1, 2019, arXiv:1911.03347 (on the mean of F1s, as here, against the F1
    of means).

    >>> MacroF1().score(["a", "b", "b"], ["a", "b", "a"])
    0.6666666666666666
    >>> MacroF1().score([["a", "b"], []], [["a"], []])
    0.5
    """

    accepts = frozenset({"label", "labels"})

    def score(self, predictions: Sequence[Any], references: Sequence[Any]) -> float:
        """Give the mean of the labels' F1; see the class."""
        return label_f1(predictions, references, "macro")

    def resample(self, predictions: Sequence[Any], references: Sequence[Any], counts: Numbers) -> Numbers:
        """Give the mean of the F1 of the labels that occur in each sample: [resample]."""
        hits, predicted, true = label_sums(predictions, references, counts)
        occurring = np.count_nonzero(predicted + true, axis=1)
        values: Numbers = f1_of_sums(hits, predicted, true).sum(axis=1) / np.maximum(occurring, 1)
        return values
