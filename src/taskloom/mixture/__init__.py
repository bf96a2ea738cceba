"""Mixtures: how often each task is drawn. How much a task counts is another setting, its `weight`.

A mixture is a class with one method, ``probabilities``. To add one, put a file here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from taskloom.room import Room


@dataclass(frozen=True)
class Seen:
    """What one window of optimizer steps showed.

    Attributes:
        step: optimizer steps done by its end.
        losses: task -> mean training loss of its examples in the window; a task without a row is left out.
        rows: task -> rows drawn in the window.
        scores: task -> newest validation score, higher is better; empty before the first evaluation.
    """

    step: int
    losses: Mapping[str, float]
    rows: Mapping[str, int]
    scores: Mapping[str, float] = field(default_factory=dict)


class Mixture(ABC):
    """From the sizes of the tasks, the step, and what training has shown to how often each task is drawn.

    Attributes:
        pace: when the probabilities change: "never", with the "step" alone, or with what each "window" of steps showed.
    """

    pace: ClassVar[Literal["never", "step", "window"]] = "never"

    @abstractmethod
    def probabilities(self, sizes: Mapping[str, int], step: int = 0, steps: int = 1, rows: int = 1) -> dict[str, float]:
        """Give the share of drawn rows of each task.

        Args:
            sizes: task -> how many training items it has, each at least 1.
            step: the optimizer step that is drawn for, from 0.
            steps: optimizer steps of the run.
            rows: of one optimizer step; ``rows * steps`` is what the run draws.

        Returns:
            task -> probability, in the order of `sizes`; they add up to 1.
        """

    def observe(self, seen: Seen) -> None:  # noqa: B027 - most mixtures look at nothing
        """Take up what a window of steps showed; called in the order of the windows."""

    def state(self) -> dict[str, Any]:
        """Give what has been taken up, as JSON."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - most mixtures keep nothing
        """Take up what `state` gave."""


def shares(weights: Mapping[str, float]) -> dict[str, float]:
    """Divide by the sum, so that the weights add up to 1."""
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


MIXTURES: Room[Mixture] = Room("taskloom.mixture", "mixture")
