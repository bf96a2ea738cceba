"""Words in common with a reference."""

from __future__ import annotations

from taskloom.metrics._rouge import RougeMetric


class Rouge1(RougeMetric):
    """Mean over examples of the F-measure of words in common with the nearest reference.

    Prefer it where what is said counts and its order does not; prefer `rouge_l` or `rouge_2` where it does.

    Formula: ``(1/n) sum_i max_r 2 p q / (p + q)`` over the references r of example i, with p the share of the
    prediction's words that are in r, and q the share of r's that are in the prediction, each word as often as it occurs
    in both.
    Differs: from 0 to 1, and the mean of all examples where the package resamples; otherwise rouge-score's ``rouge1``
    without stemming, whose words are those of ASCII alone, while here letters and digits of any script count. Where
    neither text has a word, the package gives 0; here 1 if the texts are the same but for case and blanks. An example
    without a reference is right if nothing is said.
    Paper: Lin, ROUGE: a package for automatic evaluation of summaries, 2004, aclanthology W04-1013.

    >>> Rouge1().score(["down sat the cat"], [["the cat lay down"]])
    0.75
    """

    accepts = frozenset({"text"})
    kind = "rouge1"
    order = 1
