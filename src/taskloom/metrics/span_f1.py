"""F1 of tagged spans."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from seqeval.metrics import f1_score
from seqeval.scheme import IOB2, Tokens

from taskloom.metrics import Metric, Numbers
from taskloom.metrics._labels import f1_of_sums

if TYPE_CHECKING:
    from collections.abc import Sequence


class SpanF1(Metric):
    """F1 of spans, where a span is found if its first token, last token and label are all right.

    Prefer it for named entities and slots; it says nothing of how near a miss was, and `accuracy` of single tags is no
    substitute, as most tags are ``O``.

    Formula: ``2 hits / (predicted + true)``, where predicted and true count the spans of all predictions and
    references, and hits those that are in both. A span is ``B-X`` and the ``I-X`` that follow it without a gap. Without
    any span on either side it is 0, so predicting none where there is none scores 0 and not 1.
    Differs: no difference from seqeval's ``f1_score(mode="strict", scheme=IOB2, zero_division=0)``. Unlike conlleval
    and seqeval's default mode, an ``I-X`` that continues no span of X is no span: references in the IOB1 scheme, whose
    spans begin with ``I-X``, must be rewritten first.
    Errors: a tag other than ``O``, ``B-X`` and ``I-X``, or predictions of another length than their references, raise
    what seqeval raises (KeyError, ValueError).
    Paper: Tjong Kim Sang and De Meulder, Introduction to the CoNLL-2003 shared task, 2003, arXiv:cs/0306050.

    >>> SpanF1().score([["B-city", "I-city", "O"]], [["B-city", "I-city", "B-day"]])
    0.6666666666666666
    """

    accepts = frozenset({"tags"})

    def score(self, predictions: Sequence[Any], references: Sequence[Any]) -> float:
        """Give the F1 of the spans of all examples; see the class."""
        true, predicted = [list(tags) for tags in references], [list(tags) for tags in predictions]
        return float(f1_score(true, predicted, mode="strict", scheme=IOB2, zero_division=0))

    def resample(self, predictions: Sequence[Any], references: Sequence[Any], counts: Numbers) -> Numbers:
        """Give the F1 of the spans of each sample: [resample]."""
        pairs = zip(predictions, references, strict=True)
        found = [(spans(said), spans(right)) for said, right in pairs]
        statistics = np.array([(len(said & right), len(said), len(right)) for said, right in found], dtype=float)
        hits, predicted, true = (counts @ statistics).T
        return f1_of_sums(hits, predicted, true)


def spans(tags: Sequence[str]) -> set[tuple[int, int, str]]:
    """Give a sequence's spans as (first token, token after the last, label)."""
    return {(entity.start, entity.end, entity.tag) for entity in Tokens(list(tags), IOB2).entities}
