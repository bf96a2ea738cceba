"""Calibration errors against scikit-learn and hand computation; temperatures against planted ones."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.calibration import calibration_curve

from taskloom.bootstrap import draws, percentiles
from taskloom.calibration.measuring import bin_of, calibration_error, chance_error, error_interval, reliability
from taskloom.calibration.temperature import LEAST, MOST, at_limit, fit_temperature, mean_loss


def planted(seed: int, n: int, options: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Draw logits, and right options from their probabilities at another temperature."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(scale=3.0, size=(n, options))
    chances = softmax(logits / temperature, axis=1)
    right = (generator.random(n)[:, None] > chances.cumsum(axis=1)).sum(axis=1)
    return logits, right


@pytest.mark.parametrize("digits", [1, 8])  # with one digit, most confidences are equal to others
@pytest.mark.parametrize("n", [40, 1000, 1003])
def test_the_bars_are_those_of_scikit_learn(n: int, digits: int) -> None:
    generator = np.random.default_rng(n)
    confidence = generator.random(n).round(digits)
    right = (generator.random(n) < confidence).astype(float)
    share, mean = calibration_curve(right, confidence, n_bins=15, strategy="quantile")
    bars = reliability(confidence, right)
    assert [bar.right for bar in bars] == pytest.approx(share.tolist())
    assert [bar.confidence for bar in bars] == pytest.approx(mean.tolist())
    expected = sum(bar.n * abs(s - m) for bar, s, m in zip(bars, share, mean, strict=True)) / n
    assert calibration_error(confidence, right) == pytest.approx(expected)
    assert sum(bar.n for bar in bars) == n


def test_bins_hold_equal_numbers_and_do_not_depend_on_the_order() -> None:
    generator = np.random.default_rng(0)
    confidence, right = generator.random(150), (generator.random(150) < 0.5).astype(float)
    assert np.bincount(bin_of(confidence, 15)).tolist() == [10] * 15
    order = generator.permutation(150)
    assert calibration_error(confidence[order], right[order]) == pytest.approx(calibration_error(confidence, right))


def test_the_error_by_hand() -> None:
    confidence, right = np.array([0.6, 0.7, 0.9, 1.0]), np.array([1.0, 0.0, 1.0, 1.0])
    assert calibration_error(confidence, right, bins=2) == pytest.approx((2 * abs(0.5 - 0.65) + 2 * abs(1 - 0.95)) / 4)
    assert calibration_error(confidence, right, bins=1) == pytest.approx(abs(0.75 - 0.8))


def test_the_interval_equals_resampling_by_hand() -> None:
    generator = np.random.default_rng(1)
    confidence, row = generator.random(60), np.repeat(np.arange(20), 3)
    right = (generator.random(60) < confidence).astype(float)
    found = error_interval(confidence, right, row, bins=5, resamples=50, seed=3)
    place, samples = bin_of(confidence, 5), []
    for counts in np.concatenate(list(draws(20, 50, 3))):
        drawn = np.concatenate([np.repeat(np.flatnonzero(row == number), int(c)) for number, c in enumerate(counts)])
        gaps = [(right[drawn] - confidence[drawn])[place[drawn] == number].sum() for number in range(5)]
        samples.append(np.abs(gaps).sum() / len(drawn))
    low, high = np.array(percentiles(np.array(samples), 0.95)) - np.mean(samples) + found.value
    assert (found.low, found.high) == pytest.approx((max(low, 0), high))
    assert found.low <= found.value <= found.high


def test_the_error_by_chance_is_that_of_simulated_calibrated_answers() -> None:
    generator = np.random.default_rng(0)
    for spread in (0.5, 0.99):
        confidence = generator.uniform(spread, 1.0, 400)
        errors = [calibration_error(confidence, (generator.random(400) < confidence) * 1.0) for _ in range(400)]
        assert chance_error(confidence) == pytest.approx(np.mean(errors), rel=0.25 if spread > 0.9 else 0.06)


def test_sure_answers_that_are_wrong_lie_clear_of_chance() -> None:
    generator = np.random.default_rng(0)
    confidence = generator.uniform(0.5, 1.0, 400)
    found = error_interval(confidence, (generator.random(400) < 0.5) * 1.0, np.arange(400), resamples=200)
    assert found.low > 3 * found.chance


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 4.0])
def test_a_planted_temperature_is_found(temperature: float) -> None:
    logits, right = planted(0, 20_000, 5, temperature)
    assert fit_temperature(logits, right) == pytest.approx(temperature, rel=0.05)


def test_a_planted_temperature_of_two_takes_the_error_away() -> None:
    logits, right = planted(1, 20_000, 4, 2.0)
    found = fit_temperature(logits, right)
    errors = []
    for each in (1.0, found):
        chances = softmax(logits / each, axis=1)
        errors.append(calibration_error(chances.max(axis=1), (chances.argmax(axis=1) == right).astype(float)))
    assert errors[0] > 0.1
    assert errors[1] < 0.015


def test_the_fitted_temperature_has_the_least_loss_of_a_grid() -> None:
    logits, right = planted(2, 300, 3, 1.7)
    best = mean_loss(logits, right, fit_temperature(logits, right))
    assert all(best <= mean_loss(logits, right, each) + 1e-9 for each in np.geomspace(LEAST, MOST, 400))


def test_options_that_a_choice_lacks_do_not_count() -> None:
    logits, right = planted(3, 500, 3, 2.0)
    wider = np.concatenate([logits, np.full((500, 2), -np.inf)], axis=1)
    assert fit_temperature(wider, right) == pytest.approx(fit_temperature(logits, right), rel=1e-6)


def test_answers_that_are_all_right_run_to_the_limit() -> None:
    logits = np.array([[3.0, 0.0], [0.0, 2.0]])
    assert at_limit(fit_temperature(logits, np.array([0, 1])))
    assert not at_limit(fit_temperature(*planted(0, 500, 3, 2.0)))


def test_the_loss_of_two_options_is_the_logistic_one() -> None:
    logits, right = np.array([[0.0, 1.5], [0.0, -0.5]]), np.array([1, 1])
    expected = -np.log(expit(np.array([1.5, -0.5]) / 3)).mean()
    assert mean_loss(logits, right, 3.0) == pytest.approx(expected)
