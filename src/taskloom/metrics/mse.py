"""Mean squared error of numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from taskloom.metrics._mean import MeanMetric

if TYPE_CHECKING:
    from collections.abc import Sequence

    from taskloom.metrics import Numbers


class Mse(MeanMetric):
    """Mean squared difference between predicted and right numbers; less is better.

    Prefer it where the numbers themselves are used and large errors are the worst; prefer `pearson` or `spearman` where
    only the order of examples matters, and in a composite, since the size of an error depends on the unit.

    Formula: ``(1/n) sum_i (prediction_i - reference_i)^2``; in the composite ``1 / (1 + value)``.
    Differs: no difference from scikit-learn's ``mean_squared_error``.

    >>> Mse().score([1.0, 2.0, 4.0], [1.0, 2.0, 1.0])
    3.0
    """

    accepts = frozenset({"number"})
    greater_is_better = False
    perfect = 0.0

    def per_example(self, predictions: Sequence[Any], references: Sequence[Any]) -> Numbers:
        """Give the squared differences: [example]."""
        squares: Numbers = np.square(np.asarray(predictions, dtype=float) - np.asarray(references, dtype=float))
        return squares

    def normalise(self, values: Numbers) -> Numbers:
        """Map 0 onto 1 and growing errors towards 0: ``1 / (1 + value)``."""
        return 1.0 / (1.0 + values)
