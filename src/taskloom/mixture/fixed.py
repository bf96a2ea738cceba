"""Draw by ratios that the user gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from taskloom.errors import ConfigError, Fault
from taskloom.mixture import Mixture, shares


class Fixed(Mixture):
    """Draw each task by a ratio of your own.

    Prefer it where you know what each task needs, or to repeat another run. Do not as a first try.

    Formula: ``q_t = ratio_t / sum_s ratio_s``.

    Options:
        ratios: task -> a number above 0; every task of the run has one.

    Errors: `ConfigError` where a task has no ratio.

    >>> Fixed(ratios={"a": 16, "b": 8, "c": 8}).probabilities({"a": 1, "b": 1, "c": 1})
    {'a': 0.5, 'b': 0.25, 'c': 0.25}
    """

    def __init__(self, *, ratios: dict[str, Annotated[float, Field(gt=0)]]) -> None:
        self.ratios = ratios

    def probabilities(self, sizes: Mapping[str, int], step: int = 0, steps: int = 1, rows: int = 1) -> dict[str, float]:
        """Give each task the share that its ratio asks for; see the class."""
        missing = [name for name in sizes if name not in self.ratios]
        if missing:
            raise ConfigError(
                *(Fault(f"mixture.ratios.{name}", "be given", "nothing", f"Add `{name}: 1`") for name in missing)
            )
        return shares({name: self.ratios[name] for name in sizes})
