"""Numbers by group against fairlearn, scikit-learn and statsmodels, and gaps that are planted."""

from __future__ import annotations

import math
from typing import Any

import fairlearn.metrics
import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import accuracy_score, f1_score
from statsmodels.stats.proportion import proportions_ztest

from taskloom.bootstrap import draws, percentiles
from taskloom.fairness.comparing import LEAST_ROWS, by_group, gaps, too_small
from taskloom.fairness.rates import RATES, parities, rates
from taskloom.metrics import Metric
from taskloom.metrics.accuracy import Accuracy
from taskloom.metrics.macro_f1 import MacroF1
from taskloom.metrics.mse import Mse
from taskloom.metrics.span_f1 import SpanF1

LABELS = ["blue", "green", "red"]


def answered(seed: int, right: dict[str, float], sizes: dict[str, int]) -> tuple[list[str], list[str], list[str]]:
    """Draw answers of three labels that are right in a group's own share of rows: said, right, groups."""
    draw = np.random.default_rng(seed)
    groups = [group for group, size in sizes.items() for _ in range(size)]
    truth = draw.choice(LABELS, len(groups)).tolist()
    said = [
        label if draw.random() < right[group] else str(draw.choice([each for each in LABELS if each != label]))
        for label, group in zip(truth, groups, strict=True)
    ]
    return said, truth, groups


SAID, TRUTH, GROUPS = answered(0, {"a": 0.9, "b": 0.7, "c": 0.8}, {"a": 160, "b": 120, "c": 60})


def of_group(values: list[Any], group: str) -> list[Any]:
    return [value for value, own in zip(values, GROUPS, strict=True) if own == group]


def test_scores_of_groups_are_those_of_scikit_learn_and_fairlearn() -> None:
    for name, metric, function in (
        ("accuracy", Accuracy(), accuracy_score),
        ("macro_f1", MacroF1(), lambda y, p: f1_score(y, p, average="macro")),
    ):
        found = by_group(name, metric, SAID, TRUTH, GROUPS)
        frame = fairlearn.metrics.MetricFrame(metrics=function, y_true=TRUTH, y_pred=SAID, sensitive_features=GROUPS)
        assert {group: each.value for group, each in found.groups.items()} == pytest.approx(frame.by_group.to_dict())
        assert found.whole.value == pytest.approx(frame.overall)
        (gap,) = gaps([found])
        assert gap.difference.value == pytest.approx(frame.difference())
        assert gap.ratio.value == pytest.approx(frame.ratio())
        for group in "abc":
            assert found.groups[group].value == pytest.approx(function(of_group(TRUTH, group), of_group(SAID, group)))
            assert found.groups[group].n == len(of_group(TRUTH, group))


def test_intervals_are_those_of_resampling_each_group_by_hand() -> None:
    found = by_group("accuracy", Accuracy(), SAID, TRUTH, GROUPS, resamples=200, seed=7)
    samples = {}
    for number, group in enumerate("abc", start=1):
        right = np.array([p == y for p, y in zip(of_group(SAID, group), of_group(TRUTH, group), strict=True)])
        counts = np.concatenate(list(draws(len(right), 200, 7 + 1000 * number)))
        samples[group] = counts @ right / len(right)
        low, high = percentiles(samples[group], 0.95)
        assert (found.groups[group].low, found.groups[group].high) == pytest.approx((low, high))
    (gap,) = gaps([found])
    assert (gap.high_group, gap.low_group) == ("a", "b")
    ends = np.quantile(samples["a"] - samples["b"], [0.025, 0.975])
    assert (gap.difference.low, gap.difference.high) == pytest.approx(tuple(ends))


def test_the_p_value_of_two_groups_is_that_of_the_pooled_test_of_shares() -> None:
    said, truth, groups = answered(3, {"a": 0.85, "b": 0.7}, {"a": 150, "b": 100})
    (gap,) = gaps([by_group("accuracy", Accuracy(), said, truth, groups, resamples=4000)])
    hits = [sum(p == y for p, y, g in zip(said, truth, groups, strict=True) if g == group) for group in "ab"]
    _, expected = proportions_ztest(hits, [150, 100])
    assert gap.p == pytest.approx(expected, rel=0.25)  # the standard error comes from 4,000 samples
    (rate, *_) = rates(said, truth, groups, ["red"])
    chosen = [sum(p == "red" for p, g in zip(said, groups, strict=True) if g == group) for group in "ab"]
    _, expected = proportions_ztest(chosen, [150, 100])
    assert gaps([rate])[0].p == pytest.approx(expected)


@pytest.mark.parametrize("label", LABELS)
def test_parities_are_those_of_fairlearn(label: str) -> None:
    found = {each.label: each for each in parities(rates(SAID, TRUTH, GROUPS, LABELS))}[label]
    truth, said = [y == label for y in TRUTH], [p == label for p in SAID]
    options = {"y_true": truth, "y_pred": said, "sensitive_features": GROUPS}
    assert found.equalised_odds is not None
    assert found.equal_opportunity is not None
    assert found.demographic_parity.difference.value == pytest.approx(
        fairlearn.metrics.demographic_parity_difference(**options)
    )
    assert found.demographic_parity.ratio.value == pytest.approx(fairlearn.metrics.demographic_parity_ratio(**options))
    assert found.equal_opportunity.difference.value == pytest.approx(
        fairlearn.metrics.equal_opportunity_difference(**options)
    )
    assert found.equalised_odds.difference.value == pytest.approx(
        fairlearn.metrics.equalized_odds_difference(**options)
    )


def test_rates_of_lists_of_labels_count_each_label() -> None:
    said = [["a"], ["a", "b"], [], ["b"]]
    right = [["a", "b"], ["b"], [], ["b"]]
    found = {(each.name, each.label): each for each in rates(said, right, ["x", "x", "y", "y"], ["a", "b"])}
    values = {key: {group: value.value for group, value in each.groups.items()} for key, each in found.items()}
    assert values["selection_rate", "a"] == {"x": 1.0, "y": 0.0}
    assert values["true_positive_rate", "b"] == {"x": 0.5, "y": 1.0}
    assert values["false_positive_rate", "a"] == {"x": 1.0, "y": 0.0}
    assert math.isnan(values["true_positive_rate", "a"]["y"])
    assert math.isnan(values["false_positive_rate", "b"]["x"])


def test_a_rate_that_one_group_alone_has_gives_no_gap() -> None:
    found = parities(rates(["a", "b", "b", "b"], ["a", "b", "b", "b"], ["x", "x", "y", "y"], ["a"]))
    assert found[0].equal_opportunity is None
    assert found[0].equalised_odds is not None
    assert found[0].equalised_odds.quantity == "false_positive_rate"


def test_tags_and_numbers_are_compared_as_well() -> None:
    tags, wrong = ["B-city", "O"], ["O", "O"]
    found = by_group("span_f1", SpanF1(), [tags, wrong, tags, tags], [tags] * 4, ["x", "x", "y", "y"])
    assert {group: each.value for group, each in found.groups.items()} == {"x": pytest.approx(2 / 3), "y": 1.0}
    found = by_group("mse", Mse(), [1.0, 2.0, 3.0], [1.0, 1.0, 1.0], ["x", "x", "y"])
    assert {group: each.value for group, each in found.groups.items()} == {"x": 0.5, "y": 4.0}


class Own(Metric):
    """A metric of a user, without a fast way to resample."""

    accepts = frozenset({"label"})

    def score(self, predictions: Any, references: Any) -> float:
        """Give the share of answers that are shorter than the references."""
        return sum(len(p) < len(y) for p, y in zip(predictions, references, strict=True)) / len(references)


def test_a_metric_of_the_user_has_values_by_group_and_intervals() -> None:
    found = by_group("own", Own(), SAID, TRUTH, GROUPS, resamples=50)
    for group in "abc":
        value = found.groups[group]
        assert value.value == Own().score(of_group(SAID, group), of_group(TRUTH, group))
        assert value.low <= value.value <= value.high


def test_a_planted_gap_is_shown_and_none_where_there_is_none() -> None:
    shown = 0
    for seed in range(20):
        said, truth, groups = answered(seed, {"a": 0.9, "b": 0.6}, {"a": 200, "b": 100})
        (gap,) = gaps([by_group("accuracy", Accuracy(), said, truth, groups, resamples=300)])
        assert gap.shown
        assert gap.difference.low > 0
        said, truth, groups = answered(seed, {"a": 0.8, "b": 0.8, "c": 0.8}, {"a": 100, "b": 100, "c": 40})
        (gap,) = gaps([by_group("accuracy", Accuracy(), said, truth, groups, resamples=300)])
        shown += gap.shown or bool(gap.also)
    assert shown <= 3  # of 20 at a level of 5 %: more than 3 come in 1.6 % of such seeds


def test_a_gap_whose_interval_holds_zero_is_never_called_shown() -> None:
    for seed in range(30):
        said, truth, groups = answered(seed, {"a": 0.85, "b": 0.75}, {"a": 80, "b": 60})
        (gap,) = gaps([by_group("accuracy", Accuracy(), said, truth, groups, resamples=200)])
        assert gap.difference.low > 0 or not gap.shown


def test_a_handful_of_rows_shows_nothing_though_all_of_them_are_wrong() -> None:
    said, truth, groups = answered(0, {"a": 0.9, "b": 0.0}, {"a": 200, "b": LEAST_ROWS - 1})
    (gap,) = gaps([by_group("accuracy", Accuracy(), said, truth, groups)])
    assert gap.difference.low > 0
    assert gap.p < 0.001
    assert not gap.shown


def test_a_small_group_at_the_end_does_not_hide_what_larger_ones_show() -> None:
    said, truth, groups = answered(1, {"a": 0.95, "b": 0.7, "c": 0.5}, {"a": 300, "b": 300, "c": 6})
    (gap,) = gaps([by_group("accuracy", Accuracy(), said, truth, groups)])
    assert gap.low_group == "c"
    assert not gap.shown
    assert [(each.high_group, each.low_group, each.shown) for each in gap.also] == [("a", "b", True)]


def test_p_values_are_corrected_for_all_pairs_of_groups() -> None:
    right = {"a": 114, "b": 99, "c": 106, "d": 107}
    said = [label for count in right.values() for label in ["x"] * count + ["y"] * (120 - count)]
    groups = [group for group in right for _ in range(120)]
    (two,) = gaps([by_group("accuracy", Accuracy(), said[:240], ["x"] * 240, groups[:240], resamples=4000)])
    (four,) = gaps([by_group("accuracy", Accuracy(), said, ["x"] * 480, groups, resamples=4000)])
    assert (two.high_group, two.low_group) == (four.high_group, four.low_group) == ("a", "b")
    assert (two.shown, four.shown) == (True, True)
    _, pair = proportions_ztest([114, 99], [120, 120])
    assert two.p == pytest.approx(pair, rel=0.3)
    pooled = sum(right.values()) / 480
    error = math.sqrt(pooled * (1 - pooled) * 2 / 120)
    assert four.p == pytest.approx(6 * 2 * norm.sf((114 - 99) / 120 / error), rel=0.3)  # six pairs


def test_a_group_that_is_too_small_is_told_with_what_it_could_show() -> None:
    said, truth, groups = answered(0, {"a": 0.8, "b": 0.8}, {"a": 300, "b": 20})
    found = by_group("accuracy", Accuracy(), said, truth, groups)
    share = found.whole.value
    needed = math.ceil((2 * 1.96 * math.sqrt(share * (1 - share)) / 0.2) ** 2)
    least = (1.96 + 0.8416) * math.sqrt(share * (1 - share) * (1 / 20 + 1 / 300))
    assert found.detectable(20, 300) == pytest.approx(least, rel=0.1)
    (line,) = too_small(found)
    told = found.detectable(20, 300)
    said_needed = int(line.rpartition("About ")[2].partition(" rows")[0])
    assert said_needed == pytest.approx(needed, rel=0.1)
    assert line == (
        f"`b` has 20 rows, too few to tell: a gap in accuracy to all others below {told:.2f} would often be missed. "
        f"About {said_needed} rows would do."
    )


def test_all_rows_right_is_no_certainty() -> None:
    found = by_group("accuracy", Accuracy(), ["x"] * 12, ["x"] * 12, ["a"] * 6 + ["b"] * 6)
    assert found.deviation == pytest.approx(math.sqrt(13 * 1) / 14)
    assert found.detectable(6, 6) > 0.3


def test_every_kind_of_rate_is_given_for_each_label() -> None:
    found = rates(SAID, TRUTH, GROUPS, LABELS, resamples=50)
    assert [(each.label, each.name) for each in found] == [(label, name) for label in LABELS for name in RATES]
