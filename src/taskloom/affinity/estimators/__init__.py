"""Estimators of transfer: from the probes of a joint run to what each task does for each other one.

An estimator is a class with one method, ``effect``; everything else has a default. To add one, put a file here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from taskloom.affinity.matrix import Matrix
from taskloom.affinity.probes import Probe
from taskloom.room import Room


class Estimator(ABC):
    """Predicts the transfer matrix from probes.

    Class attributes:
        unit: of the effects.
    """

    unit: ClassVar[str] = "relative loss"

    @abstractmethod
    def effect(self, probes: Sequence[Probe]) -> Matrix:
        """Predict what training each task does for each other one.

        Args:
            probes: of one run, one at least.

        Returns:
            [source, target] above 0 where the source helps; NaN on the diagonal where that says nothing.
        """

    def reads(self, probes: Sequence[Probe]) -> bool:
        """Say whether these probes hold what it needs."""
        return bool(probes)


ESTIMATORS: Room[Estimator] = Room("taskloom.affinity.estimators", "estimator of transfer")
