"""Linear CKA against its definition by HSIC, its laws, and its intervals against resampling by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ortho_group

from taskloom.bootstrap import draws, percentiles
from taskloom.representation.similarity import likeness, linear_cka


def pair(seed: int, n: int = 40, one: int = 7, other: int = 12) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    first = generator.normal(size=(n, one)) + 3.0
    return first, first @ generator.normal(size=(one, other)) + generator.normal(size=(n, other))


def hsic(one: np.ndarray, other: np.ndarray) -> float:
    n = len(one)
    centring = np.eye(n) - np.ones((n, n)) / n
    return float(np.trace(one @ one.T @ centring @ other @ other.T @ centring) / (n - 1) ** 2)


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_normalised_hsic_and_the_formula_of_features(seed: int) -> None:
    one, other = pair(seed)
    expected = hsic(one, other) / np.sqrt(hsic(one, one) * hsic(other, other))
    assert linear_cka(one, other) == pytest.approx(expected, rel=1e-10)
    x, y = one - one.mean(axis=0), other - other.mean(axis=0)
    features = np.linalg.norm(y.T @ x) ** 2 / np.linalg.norm(x.T @ x) / np.linalg.norm(y.T @ y)
    assert linear_cka(one, other) == pytest.approx(features, rel=1e-10)


def test_rotation_scale_and_shift_change_nothing_and_other_maps_do() -> None:
    one, other = pair(0)
    turned = 0.01 * one @ ortho_group.rvs(7, random_state=0) + 5.0
    assert linear_cka(one, turned) == pytest.approx(1.0)
    assert linear_cka(turned, other) == pytest.approx(linear_cka(one, other))
    stretched = one @ np.diag([30.0, 1, 1, 1, 1, 1, 1])
    assert linear_cka(one, stretched) < 0.8


def test_unrelated_representations_are_little_alike_and_order_matters_not() -> None:
    generator = np.random.default_rng(0)
    one, other = generator.normal(size=(2000, 5)), generator.normal(size=(2000, 5))
    assert linear_cka(one, other) < 0.02
    assert linear_cka(one, other) == pytest.approx(linear_cka(other, one))


def test_what_is_the_same_for_all_examples_has_no_likeness() -> None:
    one, _ = pair(0)
    assert np.isnan(linear_cka(one, np.full((40, 3), 0.1)))
    assert np.isnan(likeness(one, np.full((40, 3), 0.1), resamples=5).low)


def test_the_interval_equals_resampling_by_hand() -> None:
    one, other = pair(3, n=25)
    found = likeness(one, other, resamples=40, seed=2)
    samples = []
    for counts in np.concatenate(list(draws(25, 40, 2))):
        drawn = np.repeat(np.arange(25), counts.astype(int))
        samples.append(linear_cka(one[drawn], other[drawn]))
    low, high = np.array(percentiles(np.array(samples), 0.95)) - np.mean(samples) + found.value
    assert (found.low, found.high) == pytest.approx((low, min(high, 1.0)))
    assert found.low <= found.value <= found.high
    assert found.n == 25


def test_identical_representations_are_alike_for_sure() -> None:
    one, _ = pair(1)
    found = likeness(one, one.copy(), resamples=20)
    assert (found.value, found.low, found.high) == pytest.approx((1.0, 1.0, 1.0))
