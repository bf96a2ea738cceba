"""Pearson, Spearman and mean squared error against hand-computed values, SciPy and scikit-learn."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, rankdata, spearmanr
from sklearn.metrics import mean_squared_error

from taskloom.metrics._correlation import LIMIT_BLOCK_COUNTS, mid_ranks
from taskloom.metrics.mse import Mse
from taskloom.metrics.pearson import Pearson
from taskloom.metrics.spearman import Spearman

pytestmark = pytest.mark.filterwarnings("error")

Correlation = Pearson | Spearman


def test_pearson_and_spearman_equal_scipy_on_numbers_without_ties() -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 50))
    assert Pearson().score(x, y) == pytest.approx(pearsonr(x, y).statistic)
    assert Spearman().score(x, y) == pytest.approx(spearmanr(x, y).statistic)


def test_spearman_gives_ties_the_mean_of_their_ranks() -> None:
    # Ranks 1.5, 1.5, 3 and 1, 2, 3: covariance 1.5, variances 1.5 and 2.
    assert Spearman().score([1, 1, 2], [1, 2, 3]) == pytest.approx(1.5 / np.sqrt(1.5 * 2))


@given(
    st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 4)), min_size=1, max_size=12).filter(
        lambda p: any(c for _, c in p)
    )
)
@settings(max_examples=60, deadline=None)
def test_mid_ranks_of_a_sample_equal_scipy_on_the_sample_written_out(pairs: list[tuple[int, int]]) -> None:
    values, counts = np.array(pairs, dtype=float).T
    drawn = counts.astype(int)
    ranks = mid_ranks(values, counts[None, :])[0]
    assert np.repeat(ranks, drawn).tolist() == rankdata(np.repeat(values, drawn)).tolist()


@pytest.mark.parametrize("metric", [Pearson(), Spearman()])
@pytest.mark.parametrize("constant", [0.1, 0.3, 1e9 / 3])
def test_a_constant_side_gives_zero_without_a_warning(metric: Correlation, constant: float) -> None:
    varied, same = [1.0, 2.0, 4.0], [constant] * 3
    assert metric.score(same, varied) == metric.score(varied, same) == metric.score(same, same) == 0.0
    assert metric.resample(same, varied, np.ones((2, 3))).tolist() == [0.0, 0.0]
    # A sample may be constant where the data are not.
    assert metric.resample([constant, constant, 5.0], varied, np.array([[2.0, 1.0, 0.0]])).tolist() == [0.0]


@pytest.mark.parametrize("metric", [Pearson(), Spearman()])
def test_one_example_gives_zero(metric: Correlation) -> None:
    assert metric.score([1.0], [2.0]) == 0.0


@pytest.mark.parametrize("metric", [Pearson(), Spearman()])
def test_a_correlation_below_zero_counts_as_zero_in_the_composite(metric: Correlation) -> None:
    value = metric.score([1.0, 2.0, 3.0], [3.0, 2.0, 1.0])
    assert value == pytest.approx(-1.0)
    assert metric.normalise(np.array([value])).tolist() == [0.0]


@pytest.mark.parametrize("metric", [Pearson(), Spearman(), Mse()])
def test_a_nan_prediction_makes_the_score_and_every_sample_nan(metric: Correlation | Mse) -> None:
    predictions, references = [1.0, float("nan"), 3.0], [1.0, 2.0, 3.0]
    assert np.isnan(metric.score(predictions, references))
    assert np.isnan(metric.resample(predictions, references, np.array([[1.0, 1.0, 1.0], [1.0, 0.0, 2.0]]))).all()


def test_pearson_of_samples_is_exact_where_the_mean_dwarfs_the_spread() -> None:
    generator = np.random.default_rng(1)
    x = 1e6 + generator.normal(size=40)
    y = x + generator.normal(size=40)
    x[0] = -1e8  # an outlier that a third of the samples leave out
    counts = generator.multinomial(40, [1 / 40] * 40, size=30)
    expected = [Pearson().score(np.repeat(x, count).tolist(), np.repeat(y, count).tolist()) for count in counts]
    values = Pearson().resample(x.tolist(), y.tolist(), counts.astype(float))
    np.testing.assert_allclose(values, np.array(expected), rtol=0, atol=1e-9)


def test_spearman_of_many_blocks_of_samples_equals_that_of_each_sample_and_stays_under_100_mb() -> None:
    n = 5_000
    generator = np.random.default_rng(2)
    x, y = generator.integers(0, 100, size=(2, n)).astype(float)
    counts = generator.multinomial(n, [1 / n] * n, size=3 * LIMIT_BLOCK_COUNTS // n + 1).astype(float)
    tracemalloc.start()
    values = Spearman().resample(x, y, counts)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6
    for row in (0, 99, 100, len(counts) - 1):
        drawn = counts[row].astype(int)
        expected = Spearman().score(np.repeat(x, drawn).tolist(), np.repeat(y, drawn).tolist())
        assert values[row] == pytest.approx(expected, abs=1e-9)


def test_mse_equals_scikit_learn() -> None:
    x, y = np.random.default_rng(3).normal(size=(2, 50))
    assert Mse().score(x.tolist(), y.tolist()) == pytest.approx(mean_squared_error(y, x))


def test_mse_is_better_when_less_and_normalises_to_one_when_perfect() -> None:
    assert not Mse().greater_is_better
    assert Mse().perfect == 0.0
    assert Mse().normalise(np.array([0.0, 1.0, 3.0])).tolist() == [1.0, 0.5, 0.25]
