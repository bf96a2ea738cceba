"""What metrics share that are a mean over examples."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from taskloom.metrics import Metric, Numbers

if TYPE_CHECKING:
    from collections.abc import Sequence


class MeanMetric(Metric):
    """A metric that is the mean of one number per example."""

    @abstractmethod
    def per_example(self, predictions: Sequence[Any], references: Sequence[Any]) -> Numbers:
        """Give what each example contributes: [example]."""

    def score(self, predictions: Sequence[Any], references: Sequence[Any]) -> float:
        """Give the mean over examples; see the class."""
        return float(self.per_example(predictions, references).mean())

    def resample(self, predictions: Sequence[Any], references: Sequence[Any], counts: Numbers) -> Numbers:
        """Give the mean over the examples of each sample: [resample]."""
        values: Numbers = counts @ self.per_example(predictions, references) / counts.sum(axis=1)
        return values
