"""Mixtures: how often each task is drawn. How much a task counts is another setting, its `weight`.

A mixture is a class with one method, ``probabilities``. To add one, put a file here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from taskloom.room import Room


class Mixture(ABC):
    """From the sizes of the tasks to how often each is drawn."""

    @abstractmethod
    def probabilities(self, sizes: Mapping[str, int]) -> dict[str, float]:
        """Give the share of drawn rows of each task.

        Args:
            sizes: task -> how many training items it has, each at least 1.

        Returns:
            task -> probability, in the order of `sizes`; they add up to 1.
        """


def shares(weights: Mapping[str, float]) -> dict[str, float]:
    """Divide by the sum, so that the weights add up to 1."""
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


MIXTURES: Room[Mixture] = Room("taskloom.mixture", "mixture")
