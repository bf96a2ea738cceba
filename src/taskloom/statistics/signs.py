"""Tests on paired differences, one for each seed: exact sign flips, Holm's correction, power and equivalence."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy import optimize, stats

LIMIT_EXACT = 20
"""Up to so many seeds all sign patterns are gone through; beyond, `DRAWS` of them are drawn."""

DRAWS = 200_000

LIMIT_DRAWN, TESTS = 12, 2000
"""What sign flips can detect is found by so many drawn tests for up to so many seeds; a t test comes near it beyond."""


def sign_flip(differences: Sequence[float], seed: int = 0) -> float:
    """Test whether the mean of paired differences could as well be nought, by flipping their signs.

    Under the hypothesis that each difference is as likely to be the other way round, every pattern of signs is equally
    likely; the p-value is the share of patterns whose mean is at least as far from nought. No distribution is assumed.

    Args:
        differences: [seed].
        seed: of the patterns that are drawn where there are more than `LIMIT_EXACT` differences.

    Returns:
        the two-sided p-value; never below `smallest_p`.

    Raises:
        ValueError: there is no difference, or one is not finite.

    Paper: Fisher, The Design of Experiments, 1935, section 21.
    """
    values = np.asarray(differences, dtype=float)
    if values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"`differences` should be finite numbers, one at least. Found {values.tolist()}.")
    n = values.size
    if n <= LIMIT_EXACT:
        codes = np.arange(2**n, dtype=np.int64)
        sums = np.zeros(2**n)
        for place, value in enumerate(values):
            sums += np.where(codes >> place & 1, value, -value)
    else:
        generator = np.random.default_rng(seed)
        signs = generator.integers(0, 2, size=(DRAWS, n), dtype=np.int8) * 2 - 1
        sums = np.append(signs @ values, values.sum())  # the pattern that was seen is one of those that can be
    far = abs(values.sum())
    return float(np.mean(np.abs(sums) >= far - 1e-12 * max(1.0, far)))


def smallest_p(n: int) -> float:
    """Give the least p-value that a sign flip of n differences can come to: 2 of 2^n patterns."""
    return min(1.0, 2.0 ** (1 - n))


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Correct p-values for how many there are, so that one false alarm in all is as rare as the level says.

    Args:
        p: name -> p-value.

    Returns:
        name -> corrected p-value, in the order given.

    Paper: Holm, A simple sequentially rejective multiple test procedure, 1979, Scandinavian Journal of Statistics 6.
    """
    largest, corrected = 0.0, {}
    for place, name in enumerate(sorted(p, key=lambda each: p[each])):
        largest = max(largest, min(1.0, (len(p) - place) * p[name]))
        corrected[name] = largest
    return {name: corrected[name] for name in p}


def detectable(deviation: float, n: int, *, level: float = 0.05, power: float = 0.8) -> float:
    """Give the smallest mean difference that a sign flip of n differences would find that often, were they normal.

    Args:
        deviation: standard deviation of the paired differences.
        n: seeds.
        level: of the two-sided test; divide it by the number of tasks for what Holm's correction asks of the first.
        power: how often the difference is to be found.

    Returns:
        the difference, in the unit of `deviation`; infinite where n differences can never get below the level. To about
        2 %, since tests are drawn for up to `LIMIT_DRAWN` differences; of more it is that of a paired t test.
    """
    return float(deviation * _effect(n, level, power))


@functools.cache
def _effect(n: int, level: float, power: float) -> float:
    """Give the detectable difference in standard deviations; it takes a while, and is asked for every task."""
    if smallest_p(n) > level:
        return float("inf")
    missing = _missing_of_flips(n, level, power) if n <= LIMIT_DRAWN else _missing_of_t(n, level, power)
    return float(optimize.brentq(missing, 1e-6, 100.0))


def _missing_of_flips(n: int, level: float, power: float) -> Callable[[float], float]:
    """Give what a sign flip's power lacks, by effect; the same tests are drawn for every effect."""
    noise = np.random.default_rng(0).normal(size=(n, TESTS))
    codes = np.arange(2 ** (n - 1))[:, None]
    signs = (codes >> np.arange(n) & 1) * 2 - 1  # the other half of the patterns is this one turned round
    sums, counts = signs @ noise, signs.sum(axis=1, keepdims=True)

    def missing(effect: float) -> float:
        shifted = np.abs(sums + effect * counts)
        p = np.mean(shifted >= shifted[0] - 1e-12, axis=0)  # the first pattern is the one that was seen
        return float(np.mean(p <= level) - power)

    return missing


def _missing_of_t(n: int, level: float, power: float) -> Callable[[float], float]:
    """Give what a paired t test's power lacks, by effect."""
    freedom = n - 1
    limit = stats.t.ppf(1 - level / 2, freedom)

    def missing(effect: float) -> float:
        shift = effect * np.sqrt(n)
        upper, lower = stats.nct.sf(limit, freedom, shift), stats.nct.cdf(-limit, freedom, shift)
        return float(np.nan_to_num(upper) + np.nan_to_num(lower) - power)

    return missing


def t_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Give the interval of the mean by Student's t; NaN where there are fewer than two values."""
    held = np.asarray(values, dtype=float)
    if held.size < 2:
        return float("nan"), float("nan")
    reach = stats.t.ppf((1 + confidence) / 2, held.size - 1) * held.std(ddof=1) / np.sqrt(held.size)
    return float(held.mean() - reach), float(held.mean() + reach)


def equivalence(differences: Sequence[float], margin: float) -> float:
    """Test whether the mean difference lies within a margin on both sides (TOST).

    Args:
        differences: [seed].
        margin: above 0.

    Returns:
        the p-value of the claim that the mean is no further from nought than `margin`; 1 for fewer than two seeds.

    Paper: Schuirmann, A comparison of the two one-sided tests procedure, 1987, doi:10.1007/BF01068419.
    """
    held = np.asarray(differences, dtype=float)
    if held.size < 2:
        return 1.0
    above = stats.ttest_1samp(held, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(held, margin, alternative="less").pvalue
    # Of differences without any spread the test has no number; they lie where they lie.
    return float(np.nan_to_num(max(above, below), nan=float(abs(held.mean()) >= margin)))
