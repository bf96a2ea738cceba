"""Macro and micro F1, subset accuracy and MCC against hand-computed values and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef
from sklearn.preprocessing import MultiLabelBinarizer

from taskloom.metrics.macro_f1 import MacroF1
from taskloom.metrics.mcc import Mcc
from taskloom.metrics.micro_f1 import MicroF1
from taskloom.metrics.subset_accuracy import SubsetAccuracy

pytestmark = pytest.mark.filterwarnings("error")

NAMES = np.array(["ant", "bee", "cat", "dog"])


def random_lists(seed: int, n: int = 60) -> tuple[list[list[str]], list[list[str]]]:
    draws = np.random.default_rng(seed).random((2, n, len(NAMES))) < 0.4
    predictions, references = ([NAMES[row].tolist() for row in side] for side in draws)
    return predictions, references


def test_macro_f1_is_the_mean_of_the_f1_of_each_label() -> None:
    # a: 1 hit, predicted 1, true 2 -> 2/3; b: 1 hit, predicted 2, true 1 -> 2/3; c: predicted once, never true -> 0
    value = MacroF1().score(["a", "b", "b", "c"], ["a", "a", "b", "b"])
    assert value == pytest.approx((2 / 3 + 2 / 4 + 0) / 3)


def test_macro_and_micro_f1_of_single_labels_equal_scikit_learn() -> None:
    predictions, references = np.random.default_rng(0).choice(NAMES, size=(2, 80)).tolist()
    for metric, average in ((MacroF1(), "macro"), (MicroF1(), "micro")):
        expected = f1_score(references, predictions, average=average, zero_division=0)
        assert metric.score(predictions, references) == pytest.approx(expected, abs=1e-12)


def test_macro_and_micro_f1_of_lists_of_labels_equal_scikit_learn_on_indicators() -> None:
    predictions, references = random_lists(1)
    binarizer = MultiLabelBinarizer().fit(predictions + references)
    true, predicted = binarizer.transform(references), binarizer.transform(predictions)
    for metric, average in ((MacroF1(), "macro"), (MicroF1(), "micro")):
        expected = f1_score(true, predicted, average=average, zero_division=0)
        assert metric.score(predictions, references) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("metric", [MacroF1(), MicroF1()])
def test_f1_of_a_problem_with_one_label_does_not_count_its_absence_as_a_label(metric: MacroF1 | MicroF1) -> None:
    # 1 hit, predicted 2, true 2: F1 is 1/2. Read as a binary problem, macro would average in the F1 of "not a".
    assert metric.score([["a"], ["a"], [], []], [["a"], [], ["a"], []]) == 0.5


@pytest.mark.parametrize("metric", [MacroF1(), MicroF1()])
def test_f1_without_any_label_is_zero_in_score_and_in_samples(metric: MacroF1 | MicroF1) -> None:
    assert metric.score([[], []], [[], []]) == 0.0
    assert metric.resample([[], []], [[], []], np.array([[2.0, 0.0]])).tolist() == [0.0]
    some, sample_without = [["a"], []], np.array([[0.0, 2.0], [1.0, 1.0]])
    assert metric.resample(some, some, sample_without).tolist() == [0.0, 1.0]


def test_macro_f1_of_a_sample_leaves_out_a_label_that_it_does_not_hold() -> None:
    predictions = references = ["a", "b", "c"]
    counts = np.array([[3.0, 0.0, 0.0], [1.0, 2.0, 0.0]])
    assert MacroF1().resample(predictions, references, counts).tolist() == [1.0, 1.0]


def test_a_label_listed_twice_counts_once() -> None:
    assert MicroF1().score([["a", "a", "b"]], [["a"]]) == pytest.approx(2 / 3)
    assert SubsetAccuracy().score([["a", "a"]], [["a"]]) == 1.0


def test_subset_accuracy_equals_scikit_learn_on_indicators() -> None:
    predictions, references = random_lists(2)
    binarizer = MultiLabelBinarizer().fit(predictions + references)
    expected = accuracy_score(binarizer.transform(references), binarizer.transform(predictions))
    assert 0 < expected < 1
    assert SubsetAccuracy().score(predictions, references) == pytest.approx(expected)


def test_subset_accuracy_takes_two_empty_lists_for_equal() -> None:
    assert SubsetAccuracy().score([[], ["a"]], [[], []]) == 0.5


def test_mcc_of_two_labels_is_the_formula_of_matthews() -> None:
    # tp 2, tn 1, fp 1, fn 1
    predictions, references = ["y", "y", "y", "n", "n"], ["y", "y", "n", "y", "n"]
    assert Mcc().score(predictions, references) == pytest.approx((2 * 1 - 1 * 1) / np.sqrt(3 * 3 * 2 * 2))


def test_mcc_of_more_labels_equals_scikit_learn() -> None:
    predictions, references = np.random.default_rng(3).choice(NAMES, size=(2, 80)).tolist()
    references[:40] = predictions[:40]
    value = Mcc().score(predictions, references)
    assert value == pytest.approx(matthews_corrcoef(references, predictions))
    assert 0.2 < value < 0.8


@pytest.mark.parametrize(
    ("predictions", "references"), [(["a", "a"], ["a", "b"]), (["a", "b"], ["a", "a"]), (["a", "a"], ["a", "a"])]
)
def test_mcc_is_zero_where_a_side_has_one_label(predictions: list[str], references: list[str]) -> None:
    assert Mcc().score(predictions, references) == 0.0
    assert Mcc().resample(predictions, references, np.ones((1, 2))).tolist() == [0.0]


def test_mcc_below_zero_counts_as_zero_in_the_composite() -> None:
    assert Mcc().normalise(np.array([-0.5, 0.25])).tolist() == [0.0, 0.25]
