"""Correlation of predicted and right labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import matthews_corrcoef

from taskloom.metrics import Metric, Numbers
from taskloom.metrics._labels import label_sums

if TYPE_CHECKING:
    from collections.abc import Sequence


class Mcc(Metric):
    """Matthews correlation coefficient of predicted and right labels: 1 is perfect, 0 is chance, below 0 is worse.

    Prefer it where labels are unevenly frequent and one number should not reward naming the most frequent one (it is
    the metric of CoLA); prefer `macro_f1` where readers want to see which label fails.

    Formula: ``(n c - sum_k p_k t_k) / sqrt((n^2 - sum_k p_k^2) (n^2 - sum_k t_k^2))``, where c counts the right
    predictions among n examples, and ``p_k`` and ``t_k`` count how often the label k was predicted and is right. It is
    0 where either side has one label only, even the same one.
    Differs: no difference from scikit-learn's ``matthews_corrcoef``, except that one label on both sides warns of
    nothing. In the composite a negative value counts as 0.
    Paper: Matthews, Comparison of the predicted and observed secondary structure of T4 phage lysozyme, 1975,
    doi:10.1016/0005-2795(75)90109-9; Gorodkin, Comparing two K-category assignments by a K-category correlation
    coefficient, 2004, doi:10.1016/j.compbiolchem.2004.09.006 (more than two labels).

    >>> round(Mcc().score(["a", "b", "a", "a"], ["a", "a", "a", "b"]), 4)
    -0.3333
    """

    accepts = frozenset({"label"})

    def score(self, predictions: Sequence[Any], references: Sequence[Any]) -> float:
        """Give the coefficient; see the class."""
        if len({*predictions, *references}) == 1:  # scikit-learn gives 0 too, and warns
            return 0.0
        return float(matthews_corrcoef(references, predictions))

    def resample(self, predictions: Sequence[Any], references: Sequence[Any], counts: Numbers) -> Numbers:
        """Give the coefficient of each sample: [resample]."""
        hits, predicted, true = label_sums(predictions, references, counts)
        n = counts.sum(axis=1)
        agreement = n * hits.sum(axis=1) - (predicted * true).sum(axis=1)
        spread = (n**2 - (predicted**2).sum(axis=1)) * (n**2 - (true**2).sum(axis=1))
        values: Numbers = np.divide(agreement, np.sqrt(spread), out=np.zeros_like(agreement), where=spread > 0)
        return values
