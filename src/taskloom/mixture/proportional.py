"""Draw every row equally often."""

from __future__ import annotations

from collections.abc import Mapping

from taskloom.mixture import Mixture, shares


class Proportional(Mixture):
    """Draw each task in proportion to its number of rows.

    Prefer it where sizes say how much each task matters. Do not where one task is ten times the others: it drowns
    them; take `temperature`.

    Formula: ``q_t = n_t / sum_s n_s`` with n_t the training items of task t.

    >>> Proportional().probabilities({"a": 300, "b": 100})
    {'a': 0.75, 'b': 0.25}
    """

    def probabilities(self, sizes: Mapping[str, int], step: int = 0, steps: int = 1, rows: int = 1) -> dict[str, float]:
        """Give each task its share of all rows; see the class."""
        return shares(sizes)
