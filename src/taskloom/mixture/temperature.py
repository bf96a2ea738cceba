"""Draw by size, flattened by a temperature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from taskloom.mixture import Mixture, shares


class Temperature(Mixture):
    """Draw by size to the power of one over a temperature: between `proportional` (1) and `uniform` (infinity).

    Prefer it as the default where sizes differ. Do not where you know the ratios you want; take `fixed`.

    Formula: ``q_t ∝ n_t^(1/temperature)``.

    Options:
        temperature: at least 1; 2.0 draws a task of 100 times the rows 10 times as often.

    Paper: Arivazhagan et al., Massively Multilingual Neural Machine Translation in the Wild, 2019, arXiv:1907.05019.

    >>> Temperature(temperature=2.0).probabilities({"a": 900, "b": 100})
    {'a': 0.75, 'b': 0.25}
    """

    def __init__(self, *, temperature: Annotated[float, Field(ge=1)] = 2.0) -> None:
        self.temperature = temperature

    def probabilities(self, sizes: Mapping[str, int], step: int = 0, steps: int = 1, rows: int = 1) -> dict[str, float]:
        """Give each task its flattened share; see the class."""
        return shares({name: size ** (1 / self.temperature) for name, size in sizes.items()})
