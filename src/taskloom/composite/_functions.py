"""Composites made of functions that run files name."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, ClassVar

import numpy as np

from taskloom.composite import Composite, Numbers
from taskloom.errors import ConfigError, Fault
from taskloom.room import shown


class FunctionComposite(Composite):
    """A function as a composite; it knows of no weights but its own.

    Class attributes:
        function: what gives the number.
        name: in run files.
    """

    function: ClassVar[Callable[..., Any]]
    name: ClassVar[str]

    def combine(self, values: Numbers, weights: Numbers, tasks: Sequence[str]) -> Numbers:
        """Call the function for each sample; raises ConfigError where it gives no number."""
        return np.array([self._called(dict(zip(tasks, column.tolist(), strict=True))) for column in values.T])

    def _called(self, scores: dict[str, float]) -> float:
        value = type(self).function(scores)
        if not isinstance(value, Real):
            raise ConfigError(Fault(shown(self.name), "give a number", f"`{value!r:.80}`", "Return a float"))
        return float(value)


@functools.cache
def composite_of(function: Callable[..., Any], name: str) -> type[Composite]:
    """Make a composite of a function; the same function gives the same class."""
    own = {
        "__module__": function.__module__,
        "__doc__": function.__doc__,
        "function": staticmethod(function),
        "name": name,
    }
    return type(function.__name__, (FunctionComposite,), own)
