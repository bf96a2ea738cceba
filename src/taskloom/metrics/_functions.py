"""Metrics made of functions that run files name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, ClassVar

import numpy as np

from taskloom.errors import ConfigError, Fault
from taskloom.metrics import Metric, Numbers
from taskloom.room import shown

KINDS = frozenset({"label", "labels", "tags", "text", "number", "choice", "extraction", "loss"})
"""The kinds of prediction that there are."""


class FunctionMetric(Metric):
    """A function as a metric.

    Class attributes:
        function: what gives the number.
        name: in run files.
    """

    function: ClassVar[Callable[..., Any]]
    name: ClassVar[str]

    def score(self, predictions: Sequence[Any], references: Sequence[Any]) -> float:
        """Call the function; raises ConfigError where it gives no number."""
        value = type(self).function(predictions, references)
        if not isinstance(value, Real):
            found = f"`{value!r:.80}` of {len(predictions)} examples"
            raise ConfigError(Fault(shown(self.name), "give a number", found, "Return a float"))
        return float(value)

    def normalise(self, values: Numbers) -> Numbers:
        """Clip to 0..1 where more is better, and else map 0 onto 1 and growing values towards 0."""
        return super().normalise(values) if self.greater_is_better else 1.0 / (1.0 + np.clip(values, 0.0, None))


@functools.cache
def metric_of(function: Callable[..., Any], name: str) -> type[Metric]:
    """Make a metric of a function; see `Metric.of_function`. The same function gives the same class."""
    try:
        inspect.signature(function).bind([], [])
    except TypeError as error:
        requirement = "take predictions and references, and nothing else that has no default"
        found = f"`{function.__name__}{inspect.signature(function)}`"
        raise ConfigError(Fault(name, requirement, found)) from error
    greater = bool(getattr(function, "greater_is_better", True))
    own = {
        "__module__": function.__module__,
        "__doc__": function.__doc__,
        "function": staticmethod(function),
        "name": name,
        "accepts": frozenset(getattr(function, "accepts", KINDS)),
        "greater_is_better": greater,
        "perfect": float(getattr(function, "perfect", 1.0 if greater else 0.0)),
    }
    return type(function.__name__, (FunctionMetric,), own)
