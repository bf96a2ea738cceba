"""Share of texts that are an acceptable answer."""

from __future__ import annotations

from operator import eq
from typing import TYPE_CHECKING, Any

import numpy as np

from taskloom.metrics._mean import MeanMetric
from taskloom.metrics._squad import best_agreement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from taskloom.metrics import Numbers


class ExactMatch(MeanMetric):
    """Share of examples whose predicted text is, but for case, punctuation and articles, an acceptable answer.

    Prefer it where answers are short and closed (names, numbers, choices written out); prefer `squad_f1` where a part
    of the right answer has worth.

    Formula: ``(1/n) sum_i max_a [normal(prediction_i) = normal(a)]`` over the acceptable answers a of example i. An
    example without one cannot be answered, and is right if the normalised prediction is empty.
    Differs: from 0 to 1, where SQuAD's official scripts give percent; otherwise their ``exact``. The script of version
    2.0 also drops answers of which normalisation leaves nothing ("the"); here they stay acceptable, as in 1.1.
    Paper: Rajpurkar, Jia and Liang, Know what you don't know: unanswerable questions for SQuAD, 2018, arXiv:1806.03822.

    >>> ExactMatch().score(["The Hague.", "", "Rome"], [["the hague", "Hague"], [], ["Paris"]])
    0.6666666666666666
    """

    accepts = frozenset({"text"})

    def per_example(self, predictions: Sequence[Any], references: Sequence[Any]) -> Numbers:
        """Give 1 where the prediction is acceptable, else 0: [example]."""
        pairs = zip(predictions, references, strict=True)
        return np.array([best_agreement(said, answers, eq) for said, answers in pairs], dtype=float)
