"""Draw every task equally often."""

from __future__ import annotations

from collections.abc import Mapping

from taskloom.mixture import Mixture, shares


class Uniform(Mixture):
    """Draw each task equally often, however many rows it has.

    Prefer it where sizes are alike or all tasks matter alike. Do not where one task is tiny: its rows repeat often.

    Formula: ``q_t = 1 / T``.

    >>> Uniform().probabilities({"a": 300, "b": 100})
    {'a': 0.5, 'b': 0.5}
    """

    def probabilities(self, sizes: Mapping[str, int], step: int = 0, steps: int = 1, rows: int = 1) -> dict[str, float]:
        """Give each task the same share; see the class."""
        return shares(dict.fromkeys(sizes, 1.0))
