"""Pairs of neighbouring words in common with a reference."""

from __future__ import annotations

from taskloom.metrics._rouge import RougeMetric


class Rouge2(RougeMetric):
    """Mean over examples of the F-measure of pairs of neighbouring words in common with the nearest reference.

    Prefer it where wording should agree phrase by phrase; prefer `rouge_l` for short or freely ordered texts, most of
    whose pairs differ.

    Formula: ``(1/n) sum_i max_r 2 p q / (p + q)`` over the references r of example i, with p the share of the
    prediction's pairs of neighbouring words that are in r, and q the share of r's in the prediction, each as often as
    in both.
    Differs: from 0 to 1, and the mean of all examples where the package resamples; otherwise rouge-score's ``rouge2``
    without stemming, whose words are those of ASCII alone, while here letters and digits of any script count. Where
    neither text has a pair of words, the package gives 0; here 1 if the texts are the same but for case and blanks. An
    example without a reference is right if nothing is said.
    Paper: Lin, ROUGE: a package for automatic evaluation of summaries, 2004, aclanthology W04-1013.

    >>> Rouge2().score(["the cat sat down"], [["the cat lay down"]])
    0.3333333333333333
    """

    accepts = frozenset({"text"})
    kind = "rouge2"
    order = 2
