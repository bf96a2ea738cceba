"""What the ROUGE metrics share: words of any script, and the best F-measure over several references."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import Tokenizer

from taskloom.metrics._mean import MeanMetric

if TYPE_CHECKING:
    from collections.abc import Sequence

    from taskloom.metrics import Numbers

WORD = re.compile(r"[^\W_]+")


class Words(Tokenizer):
    """Runs of letters and digits in lower case, of any script; of ASCII text what rouge-score's own makes of it."""

    def tokenize(self, text: str) -> list[str]:
        """Cut a text into its words."""
        return WORD.findall(text.lower())


class RougeMetric(MeanMetric):
    """The mean over examples of one kind of ROUGE.

    Attributes:
        kind: rouge-score's name for it.
        order: words that a text needs for it to be defined.
    """

    kind: ClassVar[str]
    order: ClassVar[int]

    def per_example(self, predictions: Sequence[Any], references: Sequence[Any]) -> Numbers:
        """Give the best F-measure over an example's references: [example]."""
        words = Words()
        scorer = RougeScorer([self.kind], tokenizer=words)

        def agreement(said: str, right: str) -> float:
            if max(len(words.tokenize(said)), len(words.tokenize(right))) < self.order:
                return float(said.lower().split() == right.lower().split())
            return float(scorer.score(right, said)[self.kind].fmeasure)

        pairs = zip(predictions, references, strict=True)
        best = [max(agreement(said, right) for right in answers or [""]) for said, answers in pairs]
        return np.array(best, dtype=float)
