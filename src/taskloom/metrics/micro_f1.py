"""F1 of all decisions on labels together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskloom.metrics import Metric, Numbers
from taskloom.metrics._labels import f1_of_sums, label_f1, label_sums

if TYPE_CHECKING:
    from collections.abc import Sequence


class MicroF1(Metric):
    """F1 of all labels of all examples, counted in one pot.

    Prefer it where an example has any number of labels and a frequent label should count more; prefer `macro_f1` where
    rare labels matter, and `accuracy` where an example has one label, as the two are then equal.

    Formula: ``2 sum_l hits_l / sum_l (predicted_l + true_l)``, where ``hits_l`` counts the examples whose prediction
    and reference both have the label l, and ``predicted_l`` and ``true_l`` those whose prediction or reference has it.
    Without any label it is 0.
    Differs: no difference from scikit-learn's ``f1_score(average="micro", zero_division=0)``; lists of labels are read
    as their indicator matrix.

    >>> MicroF1().score([["a", "b"], ["b"]], [["a"], ["b"]])
    0.8
    >>> MicroF1().score(["a", "b", "b"], ["a", "b", "a"])
    0.6666666666666666
    """

    accepts = frozenset({"label", "labels"})

    def score(self, predictions: Sequence[Any], references: Sequence[Any]) -> float:
        """Give the F1 of all labels together; see the class."""
        return label_f1(predictions, references, "micro")

    def resample(self, predictions: Sequence[Any], references: Sequence[Any], counts: Numbers) -> Numbers:
        """Give the F1 of all labels of each sample together: [resample]."""
        hits, predicted, true = label_sums(predictions, references, counts)
        return f1_of_sums(hits.sum(axis=1), predicted.sum(axis=1), true.sum(axis=1))
