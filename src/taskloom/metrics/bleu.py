"""BLEU of a corpus."""

from __future__ import annotations

from typing import Any

from sacrebleu.metrics.bleu import BLEU

from taskloom.metrics._sacrebleu import CorpusMetric


class Bleu(CorpusMetric):
    """Agreement of runs of one to four words with the references, over all examples together.

    Prefer it for translations, to stand beside published figures; prefer `chrf` for languages with rich endings or
    without blanks between words, and `rouge_l` or `exact_match` for answers of a few words: where no prediction has
    four words it is 0.

    Formula: ``b exp((1/4) sum_{k=1..4} log p_k)`` with p_k the share of the predictions' runs of k words that are in a
    reference of the same example, each at most as often as there, and ``b = min(1, exp(1 - r/c))`` for predictions of c
    words in all and nearest references of r. The j-th p_k that is 0 counts as ``1 / (2^j runs)``.
    Differs: from 0 to 1, where sacrebleu gives percent; otherwise its ``corpus_score`` with its defaults (signature
    ``case:mixed|eff:no|tok:13a|smooth:exp``). An example without a reference has an empty one.
    Paper: Papineni, Roukos, Ward and Zhu, BLEU: a method for automatic evaluation of machine translation, 2002,
    doi:10.3115/1073083.1073135; Post, A call for clarity in reporting BLEU scores, 2018, arXiv:1804.08771.

    >>> round(Bleu().score(["the cat sat down there"], [["the cat sat down here", "it sat down there"]]), 6)
    0.840896
    """

    accepts = frozenset({"text"})

    def scorer(self) -> Any:
        """Make sacrebleu's BLEU, which here does not warn of blanks before full stops."""
        return BLEU(force=True)
