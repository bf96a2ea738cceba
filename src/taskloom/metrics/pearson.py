"""Linear correlation of numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import pearsonr

from taskloom.metrics import Metric, Numbers
from taskloom.metrics._correlation import correlation, in_blocks

if TYPE_CHECKING:
    from collections.abc import Sequence


class Pearson(Metric):
    """Pearson correlation of predicted and right numbers: 1 where the one is a rising line of the other.

    Prefer it where predictions should rise in proportion but their unit and offset are free (it is a metric of STS-B);
    prefer `spearman` where only the order matters or a few extreme numbers would decide, and `mse` where the numbers
    themselves are used.

    Formula: ``sum_i (x_i - mean x)(y_i - mean y) / sqrt(sum_i (x_i - mean x)^2 sum_i (y_i - mean y)^2)``, with x the
    predictions and y the references. It is 0 where a side is constant.
    Differs: SciPy's ``pearsonr`` gives NaN and a warning where a side is constant. In the composite a negative value
    counts as 0.
    Paper: Pearson, Note on regression and inheritance in the case of two parents, 1895, doi:10.1098/rspl.1895.0041.

    >>> round(Pearson().score([1.0, 2.0, 3.0], [2.0, 4.0, 7.0]), 4)
    0.9934
    """

    accepts = frozenset({"number"})

    def score(self, predictions: Sequence[Any], references: Sequence[Any]) -> float:
        """Give the correlation; see the class."""
        x, y = np.asarray(predictions, dtype=float), np.asarray(references, dtype=float)
        if np.ptp(x) == 0 or np.ptp(y) == 0:
            return 0.0
        return float(pearsonr(x, y).statistic)

    def resample(self, predictions: Sequence[Any], references: Sequence[Any], counts: Numbers) -> Numbers:
        """Give the correlation of each sample: [resample]."""
        x, y = np.asarray(predictions, dtype=float), np.asarray(references, dtype=float)
        return in_blocks(lambda block: correlation(x, y, block), counts)
