"""Draw by size, where no task counts as larger than a limit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from taskloom.mixture import Mixture, shares


class ExamplesProportional(Mixture):
    """Draw by size up to a limit: `proportional` among small tasks, `uniform` among those at the limit.

    Prefer it where a few huge tasks would drown the rest and the small ones are alike. Do not where all tasks are
    smaller than the limit: it is `proportional` then; nor where the small ones differ tenfold: take `temperature`.

    Formula: ``q_t ∝ min(n_t, limit_rows)`` with n_t the training items of task t.

    Options:
        limit_rows: what larger tasks count as, at least 1 (65536, the least that T5 tried; for fine-tuning set it to
            about the size of a middling task).

    Paper: Raffel et al., Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer, 2019,
    arXiv:1910.10683 (section 3.5.2, examples-proportional mixing).

    >>> ExamplesProportional(limit_rows=300).probabilities({"a": 90_000, "b": 100})
    {'a': 0.75, 'b': 0.25}
    """

    def __init__(self, *, limit_rows: Annotated[int, Field(ge=1)] = 65_536) -> None:
        self.limit_rows = limit_rows

    def probabilities(self, sizes: Mapping[str, int], step: int = 0, steps: int = 1, rows: int = 1) -> dict[str, float]:
        """Give each task the share of its size up to the limit; see the class."""
        return shares({name: min(size, self.limit_rows) for name, size in sizes.items()})
