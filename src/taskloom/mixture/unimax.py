"""Draw every task equally often, unless its rows would repeat too often."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from taskloom.mixture import Mixture, shares


class Unimax(Mixture):
    """Draw each task equally often, but no task more than so many times over.

    Prefer it where all tasks matter alike and some are small: it is the only mixture here that looks at how long the
    run is. Do not where the run goes over all data more often than `epochs`: it is `proportional` then.

    Formula: ``q_t = min(level, epochs n_t) / B`` with n_t the training items of task t, B the rows that the run draws,
    and the water level that makes the shares add up to 1: what small tasks may not take is divided equally among the
    others. Where B is more than ``epochs sum_s n_s`` no level does, and ``q_t = n_t / sum_s n_s``: the limit is broken,
    for every task by the same factor (a limit that holds is `max_epochs`).

    Options:
        epochs: how often a task's rows may be drawn, above 0 (4.0; the paper tried 1, 5 and 10 for pretraining).

    Paper: Chung et al., UniMax: Fairer and more Effective Language Sampling for Large-Scale Multilingual Pretraining,
    2023, arXiv:2304.09151.

    >>> Unimax(epochs=2.0).probabilities({"a": 900, "b": 100}, steps=50, rows=16)
    {'a': 0.75, 'b': 0.25}
    """

    def __init__(self, *, epochs: Annotated[float, Field(gt=0)] = 4.0) -> None:
        self.epochs = epochs

    def probabilities(self, sizes: Mapping[str, int], step: int = 0, steps: int = 1, rows: int = 1) -> dict[str, float]:
        """Divide the run's rows equally, from the smallest task on; see the class."""
        left = float(rows * steps)
        drawn = {}
        for place, name in enumerate(sorted(sizes, key=sizes.__getitem__)):
            drawn[name] = min(left / (len(sizes) - place), self.epochs * sizes[name])
            left -= drawn[name]
        return shares({name: drawn[name] for name in sizes})
