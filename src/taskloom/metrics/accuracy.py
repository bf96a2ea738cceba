"""Share of examples that are right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score

from taskloom.metrics import Metric, Numbers


class Accuracy(Metric):
    """Share of examples whose predicted label is the right one.

    Prefer it where labels are about equally frequent; prefer `macro_f1` or `mcc` where they are not.

    Formula: ``(1/n) sum_i [prediction_i = reference_i]``.
    Differs: no difference from scikit-learn's ``accuracy_score``.

    >>> Accuracy().score(["a", "b", "b"], ["a", "b", "a"])
    0.6666666666666666
    """

    accepts = frozenset({"label", "choice"})

    def score(self, predictions: Sequence[Any], references: Sequence[Any]) -> float:
        """Give the share of right predictions; see the class."""
        return float(accuracy_score(references, predictions))

    def resample(self, predictions: Sequence[Any], references: Sequence[Any], counts: Numbers) -> Numbers:
        """Give the share of right predictions of each sample: [resample]."""
        right = np.array([a == b for a, b in zip(predictions, references, strict=True)], dtype=float)
        values: Numbers = counts @ right / counts.sum(axis=1)
        return values
