"""F1 of extracted values."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from taskloom.metrics import Metric, Numbers
from taskloom.metrics._labels import f1_of_sums

if TYPE_CHECKING:
    from collections.abc import Sequence


class SlotF1(Metric):
    """F1 of pairs of a label and its value, over all examples together.

    Prefer it for values that are read out of a text, wherever they stand in it; prefer `span_f1` where the place counts
    too. A value that is only partly right is wrong.

    Formula: ``2 hits / (predicted + true)``, where predicted and true count the pairs of all predictions and
    references, and hits those that are in both of the same example, each as often as it occurs in both. Without any
    pair on either side it is 0, so predicting none where there is none scores 0 and not 1.
    Differs: the micro-averaged slot F1 of the field, for pairs instead of tagged spans; values are the same if they
    differ in nothing but case and blanks, since many tokenizers keep neither.
    Paper: Tjong Kim Sang and De Meulder, Introduction to the CoNLL-2003 shared task, 2003, arXiv:cs/0306050 (the
    measure, of spans).

    >>> found = [{"label": "city", "value": "new york"}, {"label": "day", "value": "today"}]
    >>> SlotF1().score([found], [[{"label": "city", "value": "New York"}]])
    0.6666666666666666
    """

    accepts = frozenset({"extraction"})

    def score(self, predictions: Sequence[Any], references: Sequence[Any]) -> float:
        """Give the F1 of the pairs of all examples; see the class."""
        return float(self.resample(predictions, references, np.ones((1, len(references))))[0])

    def resample(self, predictions: Sequence[Any], references: Sequence[Any], counts: Numbers) -> Numbers:
        """Give the F1 of the pairs of each sample: [resample]."""
        found = [(pairs(said), pairs(right)) for said, right in zip(predictions, references, strict=True)]
        statistics = [((said & right).total(), said.total(), right.total()) for said, right in found]
        hits, predicted, true = (counts @ np.array(statistics, dtype=float)).T
        return f1_of_sums(hits, predicted, true)


def pairs(slots: Sequence[dict[str, str]]) -> Counter[tuple[str, str]]:
    """Count the pairs of one answer, in lower case and with single blanks in their values."""
    return Counter((slot["label"], " ".join(slot["value"].casefold().split())) for slot in slots)
