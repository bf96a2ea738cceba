"""How surprised a model is by a text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from taskloom.metrics import Metric

if TYPE_CHECKING:
    from collections.abc import Sequence

    from taskloom.metrics import Numbers

LIMIT_EXPONENT = 700.0
"""Above it the exponential is no number of double precision."""


class Perplexity(Metric):
    """The number of tokens among which a model is in doubt, in the geometric mean over all tokens; less is better.

    Prefer it where texts themselves are learned and nothing is answered. Do not compare it across tokenizers: another
    one cuts the same text into other tokens.

    Formula: ``exp(sum_i nll_i / sum_i tokens_i)`` with nll_i the summed negative log-likelihood of the tokens of
    example i, so that each token counts alike and long texts more; in the composite ``1 / value``.
    Differs: examples are read apart, none goes on from the one before it; references are not looked at, since what the
    model gives its tokens is already in the prediction.

    >>> round(Perplexity().score([{"nll": 2.0, "tokens": 2}, {"nll": 1.0, "tokens": 1}], ["a b", "c"]), 6)
    2.718282
    """

    accepts = frozenset({"loss"})
    greater_is_better = False

    def score(self, predictions: Sequence[Any], references: Sequence[Any]) -> float:
        """Give the perplexity of all tokens together; not a number where there is none."""
        return float(self.resample(predictions, references, np.ones((1, len(predictions))))[0])

    def resample(self, predictions: Sequence[Any], references: Sequence[Any], counts: Numbers) -> Numbers:
        """Give the perplexity of each sample: [resample]."""
        total = counts @ np.array([said["nll"] for said in predictions], dtype=float)
        tokens = counts @ np.array([said["tokens"] for said in predictions], dtype=float)
        mean = np.divide(total, tokens, out=np.full(len(counts), np.nan), where=tokens > 0)
        values: Numbers = np.exp(np.minimum(mean, LIMIT_EXPONENT))
        return values

    def normalise(self, values: Numbers) -> Numbers:
        """Map 1 onto 1 and growing doubt towards 0: ``1 / value``."""
        return 1.0 / np.maximum(values, 1.0)
