"""Share of examples with exactly the right labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from taskloom.metrics._labels import as_set
from taskloom.metrics._mean import MeanMetric

if TYPE_CHECKING:
    from collections.abc import Sequence

    from taskloom.metrics import Numbers


class SubsetAccuracy(MeanMetric):
    """Share of examples whose predicted labels are exactly the right ones, in any order.

    Prefer it where an answer is of use only when complete; prefer `micro_f1` or `macro_f1` where a part of it is, since
    here one label too many costs as much as all labels wrong.

    Formula: ``(1/n) sum_i [set(prediction_i) = set(reference_i)]``.
    Differs: no difference from scikit-learn's ``accuracy_score`` of indicator matrices.

    >>> SubsetAccuracy().score([["b", "a"], ["a"]], [["a", "b"], ["a", "b"]])
    0.5
    """

    accepts = frozenset({"labels"})

    def per_example(self, predictions: Sequence[Any], references: Sequence[Any]) -> Numbers:
        """Give 1 where the sets are equal, else 0: [example]."""
        pairs = zip(predictions, references, strict=True)
        return np.array([as_set(said) == as_set(right) for said, right in pairs], dtype=float)
