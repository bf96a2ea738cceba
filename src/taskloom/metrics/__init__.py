"""Metrics: from predictions and references to a number, each thin over the library that the field trusts.

A metric is a class with one method, ``score``; everything else has a default. To add one, put a file here. A run file
may also name a function of its own, ``file.py:name``, which takes predictions and references and gives a number.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from taskloom.room import Room

Numbers = NDArray[np.float64]


class Metric(ABC):
    """One number for how well predictions agree with references.

    Class attributes:
        accepts: the kinds of prediction it reads (`Task.predicts`): "label", "labels", "tags", "text", "number",
            "choice", "extraction" (a list of mappings with `label` and `value`), "loss" (a mapping with a summed `nll`
            and `tokens`).
        greater_is_better: whether more is better.
        perfect: what perfect predictions get.
    """

    accepts: ClassVar[frozenset[str]]
    greater_is_better: ClassVar[bool] = True
    perfect: ClassVar[float] = 1.0

    @abstractmethod
    def score(self, predictions: Sequence[Any], references: Sequence[Any]) -> float:
        """Score all examples together.

        Args:
            predictions: [example] what the model said, in the user's terms.
            references: [example] what is right.
        """

    def resample(self, predictions: Sequence[Any], references: Sequence[Any], counts: Numbers) -> Numbers:
        """Score many bootstrap samples of the same examples.

        The default repeats examples and calls `score` once per sample: right for every metric, and slow. A metric
        that is a function of sums over examples overrides it with a matrix product.

        Args:
            predictions: [example].
            references: [example].
            counts: [resample, example] how often each example was drawn in each sample.

        Returns:
            [resample] the metric of each sample.
        """
        values = np.empty(len(counts))
        for index, count in enumerate(counts):
            drawn = np.repeat(np.arange(count.size), count.astype(int))
            values[index] = self.score([predictions[i] for i in drawn], [references[i] for i in drawn])
        return values

    def normalise(self, values: Numbers) -> Numbers:
        """Map values onto 0 (useless) to 1 (perfect), for the composite score; the default clips to that range."""
        return np.clip(values, 0.0, 1.0)

    @classmethod
    def of_function(cls, function: Callable[..., Any], name: str) -> type[Metric]:
        """Make a metric of a function of predictions and references.

        What the function says of itself counts: attributes called as those of this class. Without any it reads every
        kind of prediction, and more is better; where less is better it is perfect at 0, and the composite takes
        ``1 / (1 + value)`` of it.

        Args:
            function: takes [example] predictions and [example] references, gives a number.
            name: in run files.

        Raises:
            ConfigError: it takes other arguments.
        """
        from taskloom.metrics._functions import metric_of

        return metric_of(function, name)


METRICS: Room[Metric] = Room("taskloom.metrics", "metric")
