"""Correlation of the order of numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import spearmanr

from taskloom.metrics import Metric, Numbers
from taskloom.metrics._correlation import correlation, in_blocks, mid_ranks

if TYPE_CHECKING:
    from collections.abc import Sequence


class Spearman(Metric):
    """Spearman correlation of predicted and right numbers: 1 where they put the examples in the same order.

    Prefer it where only the order of examples matters (it is a metric of STS-B); prefer `pearson` where distances
    matter too, and `mse` where the numbers themselves are used.

    Formula: the Pearson correlation of the ranks of predictions and references, equal numbers sharing the mean of their
    ranks. It is 0 where a side is constant.
    Differs: SciPy's ``spearmanr`` gives NaN and a warning where a side is constant. In the composite a negative value
    counts as 0.
    Paper: Spearman, The proof and measurement of association between two things, 1904, doi:10.2307/1412159.

    >>> round(Spearman().score([0.1, 0.4, 0.3, 9.0], [1.0, 2.0, 3.0, 4.0]), 4)
    0.8
    """

    accepts = frozenset({"number"})

    def score(self, predictions: Sequence[Any], references: Sequence[Any]) -> float:
        """Give the correlation of ranks; see the class."""
        x, y = np.asarray(predictions, dtype=float), np.asarray(references, dtype=float)
        if np.ptp(x) == 0 or np.ptp(y) == 0:
            return 0.0
        return float(spearmanr(x, y).statistic)

    def resample(self, predictions: Sequence[Any], references: Sequence[Any], counts: Numbers) -> Numbers:
        """Give the correlation of the ranks within each sample: [resample].

        A repeated example is a tie with itself, so ranks are formed anew in each sample.
        """
        x, y = np.asarray(predictions, dtype=float), np.asarray(references, dtype=float)
        return in_blocks(lambda block: correlation(mid_ranks(x, block), mid_ranks(y, block), block), counts)
