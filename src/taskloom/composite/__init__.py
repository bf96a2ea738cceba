"""Composite scores: from every task's score to the one number that checkpoints, studies and plans are compared by.

A composite is a class with one method, ``combine``. To add one, put a file here. A run file may also name a function of
its own, ``file.py:name`` or ``package.module:name``, which takes a mapping of tasks to scores and gives a number.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taskloom.room import Room

Numbers = NDArray[np.float64]


class Composite(ABC):
    """One number for how well all tasks are done."""

    @abstractmethod
    def combine(self, values: Numbers, weights: Numbers, tasks: Sequence[str]) -> Numbers:
        """Combine the scores of tasks, sample by sample.

        Args:
            values: [task, sample] normalised scores, 0 useless and 1 perfect.
            weights: [task] importance, above 0.
            tasks: [task] names.

        Returns:
            [sample].
        """

    @classmethod
    def of_function(cls, function: Callable[..., Any], name: str) -> type[Composite]:
        """Make a composite of a function of a mapping: task -> normalised score.

        Args:
            function: takes the mapping, gives a number.
            name: in run files.
        """
        from taskloom.composite._functions import composite_of

        return composite_of(function, name)


COMPOSITES: Room[Composite] = Room("taskloom.composite", "composite score")


def build_composite(settings: Mapping[str, Any]) -> Composite:
    """Make a composite of its ``name`` and its options."""
    options = {key: value for key, value in settings.items() if key != "name"}
    return COMPOSITES.load(settings["name"])(**options)
