"""Overlap of predicted texts with acceptable answers."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from taskloom.metrics._mean import MeanMetric
from taskloom.metrics._squad import best_agreement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from taskloom.metrics import Numbers


class SquadF1(MeanMetric):
    """Mean over examples of the F1 of words between the predicted text and its nearest acceptable answer.

    Prefer it where answers are short passages whose ends are a matter of taste; prefer `exact_match` where only the
    whole answer is of use. Word order does not count, so it is no metric for long texts.

    Formula: ``(1/n) sum_i max_a 2 |P_i ∩ A| / (|P_i| + |A|)`` over the acceptable answers a of example i, where P_i and
    A are the multisets of words of the normalised prediction and answer. An example without an acceptable answer
    cannot be answered, and gets 1 if the normalised prediction is empty, else 0.
    Differs: from 0 to 1, where SQuAD's official scripts give percent; otherwise their ``f1``. The script of version
    2.0 also drops answers of which normalisation leaves nothing ("the"); here they stay acceptable, as in 1.1.
    Paper: Rajpurkar, Zhang, Lopyrev and Liang, SQuAD: 100,000+ questions for machine comprehension of text, 2016,
    arXiv:1606.05250; unanswerable questions as in `exact_match`.

    >>> SquadF1().score(["in the year 1912"], [["1912", "year 1912"]])
    0.8
    """

    accepts = frozenset({"text"})

    def per_example(self, predictions: Sequence[Any], references: Sequence[Any]) -> Numbers:
        """Give the best F1 of words: [example]."""
        pairs = zip(predictions, references, strict=True)
        return np.array([best_agreement(said, answers, word_f1) for said, answers in pairs], dtype=float)


def word_f1(said: str, answer: str) -> float:
    """Give the F1 of two texts as multisets of words; two empty texts agree."""
    said_words, answer_words = said.split(), answer.split()
    if not said_words or not answer_words:
        return float(said_words == answer_words)
    shared = sum((Counter(said_words) & Counter(answer_words)).values())
    return 2 * shared / (len(said_words) + len(answer_words))
