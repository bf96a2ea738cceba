"""chrF of a corpus."""

from __future__ import annotations

from typing import Any

from sacrebleu.metrics.chrf import CHRF

from taskloom.metrics._sacrebleu import CorpusMetric


class Chrf(CorpusMetric):
    """Agreement of runs of one to six characters with the nearest reference, over all examples together.

    Prefer it to `bleu` for translation into languages with rich endings or without blanks between words, and for short
    texts; prefer `exact_match` where only the whole answer is of use.

    Formula: ``5 p q / (4 p + q)``, with p the mean over k = 1..6 of the share of the predictions' runs of k characters
    that are in the reference of the same example, and q the mean of the share of the references' runs that are in the
    predictions; blanks do not count. A k of which there is no run is left out of both means.
    Differs: from 0 to 1, where sacrebleu gives percent; otherwise its ``corpus_score`` with its defaults (signature
    ``case:mixed|eff:yes|nc:6|nw:0|space:no``), where what is said counts for nothing, not as wrong, if the nearest
    reference is empty. An example without a reference has an empty one.
    Paper: Popović, chrF: character n-gram F-score for automatic MT evaluation, 2015, doi:10.18653/v1/W15-3049.

    >>> round(Chrf().score(["the cats"], [["the cat", "a cat"]]), 6)
    0.932588
    """

    accepts = frozenset({"text"})

    def scorer(self) -> Any:
        """Make sacrebleu's chrF."""
        return CHRF()
