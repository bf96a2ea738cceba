"""Longest common subsequence of words."""

from __future__ import annotations

from taskloom.metrics._rouge import RougeMetric


class RougeL(RougeMetric):
    """Mean over examples of the F-measure of the longest common subsequence of words with the nearest reference.

    Prefer it for summaries and other texts of a sentence or more, whose words may be interrupted but not reordered;
    prefer `rouge_2` where short phrases should agree, `chrf` for languages with rich endings or without blanks between
    words.

    Formula: ``(1/n) sum_i max_r 2 p q / (p + q)`` over the references r of example i, with ``p = lcs / |prediction|``
    and ``q = lcs / |r|``, lengths and longest common subsequence (lcs) counted in words.
    Differs: from 0 to 1, and the mean of all examples where the package resamples; otherwise rouge-score's ``rougeL``
    without stemming, whose words are those of ASCII alone, while here letters and digits of any script count. Where
    neither text has a word, the package gives 0; here 1 if the texts are the same but for case and blanks. An example
    without a reference is right if nothing is said.
    Paper: Lin, ROUGE: a package for automatic evaluation of summaries, 2004, aclanthology W04-1013.

    >>> RougeL().score(["the cat sat down"], [["the cat lay down"]])
    0.75
    """

    accepts = frozenset({"text"})
    kind = "rougeL"
    order = 1
