"""What BLEU and chrF share: sacrebleu's statistics of each example, which add up over examples."""

from __future__ import annotations

from abc import abstractmethod
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

from taskloom.metrics import Metric, Numbers

if TYPE_CHECKING:
    from collections.abc import Sequence


class CorpusMetric(Metric):
    """A score of sacrebleu, which is a function of sums over examples.

    The package keeps the statistics of single examples for its own significance tests; they are read from there, so
    that each bootstrap sample costs one sum, and equals the package's score of the sample written out.
    """

    @abstractmethod
    def scorer(self) -> Any:
        """Make the package's metric."""

    def score(self, predictions: Sequence[Any], references: Sequence[Any]) -> float:
        """Give the score of all examples together; see the class."""
        return float(self.resample(predictions, references, np.ones((1, len(references))))[0])

    def resample(self, predictions: Sequence[Any], references: Sequence[Any], counts: Numbers) -> Numbers:
        """Give the score of each sample: [resample]."""
        if len(predictions) != len(references):
            raise ValueError(f"there are {len(predictions)} predictions for {len(references)} references")
        scorer = self.scorer()
        # One stream for each place in the lists of references, as the package has them; None where a list is shorter.
        streams = list(zip_longest(*(answers or [""] for answers in references)))
        statistics = scorer._extract_corpus_statistics(list(predictions), streams)
        sums = np.rint(counts @ np.array(statistics, dtype=float)).astype(np.int64)
        return np.array([scorer._compute_score_from_stats(each).score / 100 for each in sums.tolist()], dtype=float)
