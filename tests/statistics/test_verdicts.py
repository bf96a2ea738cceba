"""Tests on paired seeds, against scipy and statsmodels, on simulated studies whose truth is known."""

from __future__ import annotations

import doctest
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from taskloom.metrics.accuracy import Accuracy
from taskloom.statistics import (
    detectable,
    equivalence,
    holm,
    paired_interval,
    sign_flip,
    smallest_p,
    t_interval,
    verdicts,
)
from taskloom.statistics.signs import LIMIT_EXACT

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from null_studies import alarms, simulated_studies

NUMBERS = st.integers(-80, 80).map(lambda value: value / 8)  # sums without rounding: scipy tells ties by it


@given(st.lists(NUMBERS, min_size=2, max_size=9))
def test_a_sign_flip_gives_what_scipy_gives(values: list[float]) -> None:
    found = stats.permutation_test(
        (np.array(values),),
        lambda held, axis: held.sum(axis=axis),
        permutation_type="samples",
        n_resamples=np.inf,
        vectorized=True,
    )
    # scipy doubles the smaller side; of patterns that mirror each other that is the share on both.
    assert sign_flip(values) == pytest.approx(min(1.0, found.pvalue), abs=1e-9)


@pytest.mark.parametrize("n", [1, 3, 5, 6, 10])
def test_the_least_p_value_is_that_of_differences_of_one_sign(n: int) -> None:
    assert sign_flip([0.1 + 0.01 * place for place in range(n)]) == smallest_p(n)


def test_five_seeds_can_never_reach_a_twentieth_and_six_can() -> None:
    assert smallest_p(5) == 0.0625
    assert smallest_p(6) == 0.03125


def test_many_seeds_are_tested_by_drawn_patterns_as_student_tests_them() -> None:
    values = np.random.default_rng(0).normal(0.5, 1.0, LIMIT_EXACT + 10)
    assert sign_flip(values.tolist()) == pytest.approx(stats.ttest_1samp(values, 0).pvalue, rel=0.3)


@pytest.mark.parametrize("values", [[], [math.nan, 1.0], [math.inf]])
def test_no_difference_and_one_that_is_no_number_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="`differences` should be finite numbers, one at least"):
        sign_flip(values)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_gives_what_statsmodels_gives(p: list[float]) -> None:
    names = [f"task_{place}" for place in range(len(p))]
    found = holm(dict(zip(names, p, strict=True)))
    assert list(found) == names
    assert list(found.values()) == pytest.approx(multipletests(p, method="holm")[1].tolist())


@pytest.mark.parametrize(("n", "near"), [(10, 0.05), (12, 0.03), (13, 1e-3), (20, 1e-3)])
def test_the_detectable_difference_of_many_seeds_is_that_of_statsmodels(n: int, near: float) -> None:
    wanted = TTestPower().solve_power(nobs=n, alpha=0.05, power=0.8, alternative="two-sided")
    assert detectable(2.0, n) == pytest.approx(2.0 * wanted, rel=near)


@pytest.mark.parametrize(("n", "level"), [(6, 0.05), (8, 0.05 / 6)])
def test_the_detectable_difference_of_few_seeds_needs_all_signs_alike(n: int, level: float) -> None:
    effect = detectable(1.0, n, level=level)
    below, above = (stats.norm.cdf(each) ** n + stats.norm.cdf(-each) ** n for each in (0.97 * effect, 1.03 * effect))
    assert below < 0.8 < above


@pytest.mark.parametrize(("n", "level"), [(1, 0.05), (5, 0.05), (7, 0.05 / 6)])
def test_too_few_seeds_detect_nothing(n: int, level: float) -> None:
    assert detectable(1.0, n, level=level) == math.inf


def test_an_interval_of_the_mean_is_students() -> None:
    values = [0.3, -0.1, 0.4, 0.2]
    wanted = stats.t.interval(0.9, 3, loc=np.mean(values), scale=stats.sem(values))
    assert t_interval(values, 0.9) == pytest.approx(wanted)
    assert all(math.isnan(end) for end in t_interval([1.0]))


def test_equivalence_is_claimed_of_small_differences_alone() -> None:
    assert equivalence([0.001, -0.002, 0.001, 0.0], 0.01) < 0.05
    assert equivalence([0.02, 0.01, 0.03, 0.02], 0.01) > 0.5
    assert equivalence([0.0, 0.0], 0.01) == 0.0
    assert equivalence([0.5, 0.5], 0.01) == 1.0
    assert equivalence([0.0], 0.01) == 1.0


def test_the_page_shows_what_the_program_says() -> None:
    page = Path(__file__).parents[2] / "docs" / "statistics.md"
    found = doctest.testfile(str(page), module_relative=False)
    assert found.attempted
    assert not found.failed


# --- verdicts -----------------------------------------------------------------------------------------------------


def test_verdicts_say_what_seeds_show() -> None:
    better = [0.03, 0.02, 0.04, 0.03, 0.02, 0.03, 0.04, 0.03]
    held = verdicts({"up": better, "down": [-each for each in better], "even": [0.1, -0.1] * 4})
    assert [each.word for each in held] == ["helped", "harmed", "no difference shown"]
    assert str(held[0]) == "up: helped (+0.030, +0.024 … +0.036; p 0.023 after Holm)"
    assert str(held[2]).startswith("even: no difference shown (+0.000, ")
    deviation = float(np.std([0.1, -0.1] * 4, ddof=1))
    assert held[2].detectable == pytest.approx(detectable(deviation, 8, level=0.05 / 3))


@pytest.mark.parametrize("n", [1, 3, 5])
def test_too_few_seeds_cannot_tell_whatever_they_show(n: int) -> None:
    (found,) = verdicts({"intent": [0.5] * n})
    assert found.word == "cannot tell"
    assert str(found) == f"intent: {n} seeds cannot tell; their least p-value is {smallest_p(n):.2g}"


def test_six_seeds_of_six_tasks_cannot_tell_since_the_correction_asks_for_more() -> None:
    found = verdicts({f"task_{place}": [0.5, 0.4, 0.6, 0.5, 0.4, 0.6] for place in range(6)})
    assert {each.word for each in found} == {"cannot tell"}
    assert str(found[0]) == "task_0: 6 seeds of 6 tasks cannot tell; their least p-value is 0.19 after Holm"
    (alone,) = verdicts({"task_0": [0.5, 0.4, 0.6, 0.5, 0.4, 0.6]})
    assert alone.word == "helped"


def test_of_a_thousand_studies_without_any_difference_fewer_than_six_in_a_hundred_call_a_task_harmed() -> None:
    harmed, helped = alarms(simulated_studies(1000, seed=0))
    assert harmed < 0.06
    assert helped < 0.06
    assert harmed + helped < 0.06
    assert harmed + helped > 0  # the test is no test that never calls anything


def test_real_differences_are_found() -> None:
    harmed, _ = alarms(simulated_studies(200, seed=1, effect=-3.0))
    assert harmed > 0.9


# --- seeds and examples -------------------------------------------------------------------------------------------


def answers(generator: np.random.Generator, wanted: list[str], share: float) -> list[str]:
    return [label if generator.random() < share else "wrong" for label in wanted]


def test_a_paired_interval_holds_the_difference_and_of_one_answer_is_nought() -> None:
    generator = np.random.default_rng(0)
    wanted = ["a", "b"] * 100
    pairs = [(answers(generator, wanted, 0.6), answers(generator, wanted, 0.8), wanted) for _ in range(6)]
    found = paired_interval(Accuracy(), pairs)
    by_hand = np.mean(
        [np.mean(np.array(other) == wanted) - np.mean(np.array(one) == wanted) for one, other, _ in pairs]
    )
    assert found.value == pytest.approx(float(by_hand))
    assert 0 < found.low < found.value < found.high
    same = paired_interval(Accuracy(), [(one, one, wanted) for one, _, _ in pairs])
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)


def test_paired_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Seeds differ by 0.05 around a true difference of 0.1; examples add their own chance."""
    generator = np.random.default_rng(3)
    wanted = ["a"] * 150
    inside = 0
    for study in range(120):
        pairs = []
        for _ in range(10):
            gain = 0.1 + generator.normal(0, 0.05)
            pairs.append((answers(generator, wanted, 0.6), answers(generator, wanted, 0.6 + gain), wanted))
        found = paired_interval(Accuracy(), pairs, resamples=300, seed=study)
        inside += found.low <= 0.1 <= found.high
    # Both levels are resampled, so it is a little too wide rather than too narrow.
    assert inside / 120 >= 0.92


def test_paired_intervals_hold_the_truth_where_all_seeds_are_tested_on_the_same_examples() -> None:
    """What makes an example easier for one run than for the other is the same for all seeds: 0.1 of them on average."""
    generator = np.random.default_rng(4)
    inside = 0
    for study in range(120):
        wanted = generator.permutation(["a"] * 75 + ["b"] * 75).tolist()
        easier = generator.choice([0.0, 0.4, -0.2], p=[0.5, 1 / 3, 1 / 6], size=150)
        pairs = []
        for _ in range(8):
            luck = generator.random((2, 150))
            both = [[w if u < p else "c" for w, u, p in zip(wanted, held, chance, strict=True)]
                    for held, chance in zip(luck, (np.full(150, 0.5), 0.5 + easier), strict=True)]  # fmt: skip
            pairs.append((both[0], both[1], wanted))
        found = paired_interval(Accuracy(), pairs, resamples=300, seed=study)
        inside += found.low <= 0.1 <= found.high
    assert inside / 120 >= 0.91


def test_a_score_that_is_no_number_cannot_be_told() -> None:
    held = verdicts({"gone": [0.1, math.nan] * 4, "there": [0.1, 0.2] * 4})
    assert [each.word for each in held] == ["cannot tell", "helped"]
    assert str(held[0]) == "gone: cannot tell, since a score of it is no number"


def test_pairs_of_different_length_are_refused() -> None:
    for pairs in ([], [(["a"], ["a", "b"], ["a"])], [([], [], [])]):
        with pytest.raises(ValueError, match="`pairs` should hold a pair of equally many"):
            paired_interval(Accuracy(), pairs)  # type: ignore[arg-type]
