"""Bootstrap intervals: how often they cover, that they repeat, and how they combine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from taskloom import bootstrap
from taskloom.bootstrap import Interval, composite, interval
from taskloom.composite.weighted_mean import WeightedMean
from taskloom.composite.worst_task import WorstTask
from taskloom.errors import DataError
from taskloom.metrics import Metric
from taskloom.metrics.accuracy import Accuracy
from taskloom.metrics.mse import Mse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def graded(right: Sequence[bool] | NDArray[np.bool_]) -> tuple[list[str], list[str]]:
    """Make predictions and references of a run that got these examples right."""
    return ["yes" if each else "no" for each in right], ["yes"] * len(right)


def known_interval(value: float, samples: list[float], n: int = 10) -> Interval:
    return Interval(value, min(samples), max(samples), n, np.array(samples))


class OnlyManyExamples(Metric):
    """The number of different examples drawn, unknown where that is less than three of four."""

    accepts = frozenset({"number"})

    def score(self, predictions: Sequence[Any], references: Sequence[Any]) -> float:
        different = len(set(references))
        return float(different) if different >= 3 else float("nan")


def test_a_95_percent_interval_of_accuracy_covers_the_truth_in_90_to_99_percent_of_draws() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for draw in range(300):
        found = interval(Accuracy(), *graded(generator.random(200) < 0.8), resamples=400, seed=draw)
        covered += found.low <= 0.8 <= found.high
    assert 0.90 <= covered / 300 <= 0.99


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    examples = graded(np.random.default_rng(1).random(101) < 0.7)
    first, again, other = (interval(Accuracy(), *examples, seed=seed) for seed in (3, 3, 4))
    assert first == again
    np.testing.assert_array_equal(first.samples, again.samples)
    assert not np.array_equal(first.samples, other.samples)


def test_an_interval_holds_the_value_the_number_of_examples_and_every_sample() -> None:
    found = interval(Accuracy(), *graded([True, True, False, True]), resamples=50)
    assert (found.value, found.n, found.samples.shape) == (0.75, 4, (50,))
    assert found.low == pytest.approx(np.quantile(found.samples, 0.025))
    assert found.high == pytest.approx(np.quantile(found.samples, 0.975))


def test_less_confidence_gives_a_narrower_interval() -> None:
    examples = graded(np.random.default_rng(2).random(100) < 0.7)
    wide, narrow = (interval(Accuracy(), *examples, confidence=confidence) for confidence in (0.95, 0.5))
    assert wide.low < narrow.low <= narrow.value <= narrow.high < wide.high


def test_draws_do_not_depend_on_how_they_are_cut_into_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    examples = graded(np.random.default_rng(3).random(30) < 0.7)
    whole = interval(Accuracy(), *examples, resamples=100)
    for limit in (1, 30 * 7):
        monkeypatch.setattr(bootstrap, "LIMIT_BLOCK_COUNTS", limit)
        np.testing.assert_array_equal(interval(Accuracy(), *examples, resamples=100).samples, whole.samples)


def test_each_sample_draws_as_many_examples_as_there_are() -> None:
    counts = np.concatenate(list(bootstrap.draws(7, 40, seed=0)))
    assert counts.shape == (40, 7)
    assert set(counts.sum(axis=1)) == {7.0}


def test_one_example_gives_an_interval_of_no_width() -> None:
    found = interval(Accuracy(), ["a"], ["a"], resamples=10)
    assert (found.low, found.value, found.high, found.n) == (1.0, 1.0, 1.0, 1)


def test_samples_without_a_value_are_dropped_from_the_ends_but_keep_their_place() -> None:
    found = interval(OnlyManyExamples(), [0] * 4, [1, 2, 3, 4], resamples=200)
    assert 0 < np.isnan(found.samples).sum() < 200
    assert (found.low, found.high, found.samples.size) == (3.0, 4.0, 200)


def test_an_interval_without_any_sample_of_value_is_nan() -> None:
    found = interval(OnlyManyExamples(), [0], [1], resamples=5)
    assert np.isnan([found.value, found.low, found.high]).all()


def test_no_examples_are_refused_in_one_sentence() -> None:
    with pytest.raises(DataError) as caught:
        interval(Accuracy(), [], [])
    assert str(caught.value) == (
        "`references` should hold at least one example. Found none. Score a split that has rows."
    )


def test_predictions_and_references_of_different_number_are_refused() -> None:
    with pytest.raises(DataError, match=r"`predictions` should be as many as the 2 references\. Found 1\."):
        interval(Accuracy(), ["a"], ["a", "b"])


def test_a_composite_is_the_weighted_mean_of_normalised_values() -> None:
    accuracy, error = known_interval(0.8, [0.7, 0.9], n=100), known_interval(1.0, [3.0, 0.0], n=20)
    found = composite({"a": (3, Accuracy(), accuracy), "b": (1, Mse(), error)}, WeightedMean())
    assert found.value == pytest.approx((3 * 0.8 + 0.5) / 4)
    np.testing.assert_allclose(found.samples, [(3 * 0.7 + 0.25) / 4, (3 * 0.9 + 1.0) / 4])
    assert found.low == pytest.approx(np.quantile(found.samples, 0.025))
    assert found.n == 120


def test_a_composite_of_one_score_is_that_score() -> None:
    part = interval(Accuracy(), *graded([True, False, True]), resamples=50)
    found = composite({"a": (0.5, Accuracy(), part)}, WeightedMean())
    assert found == part
    np.testing.assert_array_equal(found.samples, part.samples)


def test_a_composite_drops_samples_in_which_a_part_has_no_value() -> None:
    part, other = known_interval(0.5, [0.2, 0.4, 0.6]), known_interval(0.5, [0.2, float("nan"), 0.6])
    found = composite({"a": (1, Accuracy(), part), "b": (1, Accuracy(), other)}, WeightedMean())
    assert np.isnan(found.samples).tolist() == [False, True, False]
    assert 0.2 < found.low < found.high < 0.6


@pytest.mark.parametrize("weights", [[], [0.0], [2.0, -1.0]])
def test_a_composite_without_positive_weight_is_refused(weights: list[float]) -> None:
    parts = {str(place): (each, Accuracy(), known_interval(0.5, [0.5])) for place, each in enumerate(weights)}
    with pytest.raises(DataError, match="`weights` should be zero or more, and above zero for one score at least"):
        composite(parts, WeightedMean())


def test_a_composite_of_different_numbers_of_samples_is_refused() -> None:
    both = {"a": [0.5], "b": [0.4, 0.6]}
    parts = {name: (1.0, Accuracy(), known_interval(0.5, samples)) for name, samples in both.items()}
    with pytest.raises(DataError, match=r"`resamples` should be the same .* Found \[1, 2\]"):
        composite(parts, WeightedMean())


def test_a_part_without_weight_is_left_out_of_a_composite() -> None:
    counted, other = known_interval(0.5, [0.4, 0.6], n=10), known_interval(0.1, [0.1], n=99)
    found = composite({"a": (1.0, Accuracy(), counted), "b": (0.0, Accuracy(), other)}, WorstTask())
    assert (found.value, found.n) == (0.5, 10)
