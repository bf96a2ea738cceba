"""What `pearson` and `spearman` share: correlation of many bootstrap samples at once.

A NaN among the numbers makes the score and every sample NaN: nothing is left out in silence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from taskloom.metrics import Numbers

LIMIT_BLOCK_COUNTS = 500_000
"""How many counts are worked on at a time: a block and what is derived from it took 20 MB at most when measured."""


def in_blocks(function: Callable[[Numbers], Numbers], counts: Numbers) -> Numbers:
    """Apply a function of counts [resample, example] -> [resample] to blocks of samples, to bound memory."""
    rows = max(1, LIMIT_BLOCK_COUNTS // max(1, counts.shape[1]))
    return np.concatenate([function(counts[start : start + rows]) for start in range(0, len(counts), rows)])


def correlation(x: Numbers, y: Numbers, counts: Numbers) -> Numbers:
    """Give Pearson's correlation of each sample, 0 where a side is constant in it.

    Args:
        x: [example], or [resample, example] where the samples differ in it.
        y: the same.
        counts: [resample, example].

    Returns:
        [resample].
    """
    # Each sample is centred on its own mean: sums of raw squares would cancel where the mean is far from zero.
    n = counts.sum(axis=1, keepdims=True)
    x_centred = x - (counts * x).sum(axis=1, keepdims=True) / n
    y_centred = y - (counts * y).sum(axis=1, keepdims=True) / n
    joint = np.einsum("re,re,re->r", counts, x_centred, y_centred)
    spread = np.sqrt(np.einsum("re,re,re->r", counts, x_centred, x_centred))
    spread *= np.sqrt(np.einsum("re,re,re->r", counts, y_centred, y_centred))
    varies = ~(is_constant(x, counts) | is_constant(y, counts)) & (spread != 0)
    values: Numbers = np.divide(joint, spread, out=np.zeros_like(joint), where=varies)
    return values.clip(-1.0, 1.0)


def is_constant(values: Numbers, counts: Numbers) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Tell in which samples all drawn values are the same: [resample].

    Compares the values themselves, as a variance that should be zero seldom is after rounding.
    """
    drawn, spread_out = counts > 0, np.broadcast_to(values, counts.shape)
    least = spread_out.min(axis=1, where=drawn, initial=np.inf)
    greatest = spread_out.max(axis=1, where=drawn, initial=-np.inf)
    return np.asarray(least == greatest)


def mid_ranks(values: Numbers, counts: Numbers) -> Numbers:
    """Rank the values within each sample; equal values share the mean of their ranks.

    A value that a sample holds c times, after b smaller ones, has the ranks b + 1 to b + c there, so b + (c + 1) / 2.

    Args:
        values: [example].
        counts: [resample, example].

    Returns:
        [resample, example] ranks from 1; of no meaning where the example was not drawn.
    """
    order = np.argsort(values, kind="stable")
    _, starts, place = np.unique(values[order], return_index=True, return_inverse=True)
    drawn = np.add.reduceat(counts[:, order], starts, axis=1)
    ranks = np.cumsum(drawn, axis=1) - drawn + (drawn + 1) / 2
    by_example = np.empty_like(counts, dtype=float)
    by_example[:, order] = ranks[:, place]
    by_example[:, np.isnan(values)] = np.nan
    return by_example
