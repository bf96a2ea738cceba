"""What is said of recorded gradients, against numpy and scipy on made-up records."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from taskloom.gradients.conflict import Interval, cosines, half_cosines, interval, layer_cosines, pairs, rounded

TASKS = ["a", "b", "c"]


def drawn(seed: int, tasks: int = 3, params: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(tasks, params))


def record_of(gradients: np.ndarray, tasks: list[str], **more: Any) -> dict[str, Any]:
    return {"tasks": tasks, "gramian": (gradients @ gradients.T).tolist(), **more}


def halved(cosine: float, noise_one: float, noise_other: float) -> list[list[float]]:
    return [[noise_one, cosine], [cosine, noise_other]]


def test_cosines_are_those_of_the_gradients_and_unknown_beside_one_of_zero() -> None:
    gradients = drawn(0)
    gradients[1] = 0.0
    found = cosines((gradients @ gradients.T).tolist())
    assert found[0, 2] == pytest.approx(1 - _cosine_distance(gradients[0], gradients[2]))
    assert found[0, 0] == pytest.approx(1.0)
    assert np.isnan(found[1]).all()
    assert np.isnan(found[:, 1]).all()


def _cosine_distance(one: np.ndarray, other: np.ndarray) -> float:
    from scipy.spatial.distance import cosine

    return float(cosine(one, other))


def test_half_cosines_are_means_over_halves_and_a_tasks_own_two_on_the_diagonal() -> None:
    halves = drawn(1, tasks=6)
    found = half_cosines(halves @ halves.T)

    def cosine(one: int, other: int) -> float:
        return 1 - _cosine_distance(halves[one], halves[other])

    for i in range(3):
        assert found[i, i] == pytest.approx(cosine(2 * i, 2 * i + 1))
        for j in range(3):
            if i != j:
                wanted = np.mean([cosine(2 * i + x, 2 * j + y) for x in (0, 1) for y in (0, 1)])
                assert found[i, j] == pytest.approx(wanted)


def test_a_task_with_rows_in_one_half_alone_has_no_half_cosine() -> None:
    halves = drawn(2, tasks=4)
    halves[3] = 0.0
    found = half_cosines(halves @ halves.T)
    assert np.isfinite(found[0, 0])
    assert np.isnan(found[1]).all()
    assert np.isnan(found[:, 1]).all()


@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_an_interval_is_students(confidence: float) -> None:
    values = np.random.default_rng(3).normal(0.2, 1.0, size=12)
    low, high = stats.t.interval(confidence, 11, loc=values.mean(), scale=stats.sem(values))
    found = interval([*values.tolist(), math.nan], confidence)
    assert (found.mean, found.low, found.high) == pytest.approx((values.mean(), low, high))
    assert found.n == 12


def test_one_value_or_none_has_no_width() -> None:
    assert interval([0.5, math.nan]) == Interval(0.5, -math.inf, math.inf, 1)
    none = interval([])
    assert math.isnan(none.mean)
    assert (none.low, none.high, none.n) == (-math.inf, math.inf, 0)


def test_pairs_sum_up_the_records_that_have_both_tasks() -> None:
    gradients = [drawn(seed) for seed in range(5)]
    records = [record_of(each, TASKS) for each in gradients[:4]]
    # In the last record the tasks stand in another order, and one is absent.
    records.append(record_of(gradients[4][[2, 0]], ["c", "a"]))
    found = {pair.tasks: pair for pair in pairs(records, TASKS)}
    assert list(found) == [("a", "b"), ("a", "c"), ("b", "c")]
    for (one, other), pair in found.items():
        i, j = TASKS.index(one), TASKS.index(other)
        held = gradients if "b" not in (one, other) else gradients[:4]
        values = [1 - _cosine_distance(each[i], each[j]) for each in held]
        assert pair.cosine.n == len(held)
        assert pair.cosine.mean == pytest.approx(np.mean(values))
        assert pair.cosine.high - pair.cosine.low == pytest.approx(
            2 * stats.t.ppf(0.975, len(held) - 1) * stats.sem(values)
        )
        assert pair.negative == pytest.approx(np.mean(np.array(values) < 0))
        ratios = [np.linalg.norm(each[j]) / np.linalg.norm(each[i]) for each in held]
        assert pair.norm_ratio == pytest.approx(stats.gmean(ratios))
        assert pair.half_cosine.n == pair.noise.n == 0
        assert not pair.conflict, "nothing is said of noise without halves"


def test_a_pair_that_was_never_seen_together_or_has_no_gradient_is_left_out() -> None:
    gradients = drawn(6)
    gradients[2] = 0.0
    records = [record_of(gradients[:1], ["a"]), record_of(gradients[1:], ["b", "c"])]
    assert pairs(records, TASKS) == []
    assert pairs([], TASKS) == []


NOISE = [0.3, 0.34, 0.28, 0.32]
CASES = {
    "a clear conflict": ([-0.5, -0.45, -0.55, -0.5], NOISE, NOISE, True),
    "no conflict": ([0.5, 0.45, 0.55, 0.5], NOISE, NOISE, False),
    "one that may be none": ([-0.5, 0.45, -0.55, 0.2], NOISE, NOISE, False),
    "one within what noise does to the first task": ([-0.1, -0.12, -0.11, -0.1], [-0.5, 0.4, -0.2, 0.3], NOISE, False),
    "one within what noise does to the second": ([-0.1, -0.12, -0.11, -0.1], NOISE, [-0.5, 0.4, -0.2, 0.3], False),
    "one beyond noise that is itself below zero": ([-0.9, -0.91, -0.9, -0.89], [-0.2, -0.21, -0.19, -0.2], NOISE, True),
    "noise that was seen once": ([-0.5, -0.45, -0.55, -0.5], [0.3, math.nan, math.nan, math.nan], NOISE, False),
    "noise that was never seen": ([-0.5, -0.45, -0.55, -0.5], [math.nan] * 4, NOISE, False),
}


@pytest.mark.parametrize(("values", "one", "other", "conflict"), CASES.values(), ids=CASES)
def test_a_conflict_is_said_where_it_lies_below_zero_and_below_noise(
    values: list[float], one: list[float], other: list[float], conflict: bool
) -> None:
    records = [
        record_of(drawn(seed, tasks=2), ["a", "b"], half_cosines=halved(value, first, second))
        for seed, (value, first, second) in enumerate(zip(values, one, other, strict=True))
    ]
    (pair,) = pairs(records, ["a", "b"])
    assert pair.half_cosine.mean == pytest.approx(np.mean(values))
    assert pair.conflict == conflict
    lows = [interval(each).low for each in (one, other)]
    assert pair.noise.low == min(lows)


def test_halves_that_json_wrote_as_null_count_as_unknown() -> None:
    halves: list[list[Any]] = [[None, None], [None, 0.3]]
    records = [record_of(drawn(0, tasks=2), ["a", "b"], half_cosines=halves)]
    records += [record_of(drawn(1, tasks=2), ["a", "b"], half_cosines=halved(-0.5, 0.2, 0.3)), *records[:0]]
    (pair,) = pairs(records, ["a", "b"])
    assert (pair.half_cosine.n, pair.noise.n, pair.cosine.n) == (1, 1, 2)


def test_layers_have_the_cosines_of_their_own_gramians() -> None:
    gradients = [drawn(seed, params=8) for seed in range(3)]
    records = []
    for each in gradients:
        layers = {"first": (each[:, :3] @ each[:, :3].T).tolist(), "last": (each[:, 3:] @ each[:, 3:].T).tolist()}
        records.append(record_of(each, TASKS, layers=layers))
    records.append(record_of(drawn(9), TASKS))  # of a step whose layers are not known
    found = layer_cosines(records, TASKS)
    assert list(found) == ["first", "last"]
    for name, part in (("first", slice(0, 3)), ("last", slice(3, 8))):
        assert list(found[name]) == [("a", "b"), ("a", "c"), ("b", "c")]
        for (one, other), held in found[name].items():
            i, j = TASKS.index(one), TASKS.index(other)
            values = [1 - _cosine_distance(each[i, part], each[j, part]) for each in gradients]
            assert held.mean == pytest.approx(np.mean(values))
            assert held.n == 3


def test_numbers_are_rounded_to_significant_digits_wherever_they_stand() -> None:
    value = {"a": [[1.23456789e-7, -98765.4321]], "names": ["b"], "n": 12345678, "none": None}
    assert rounded(value) == {"a": [[1.23457e-7, -98765.4]], "names": ["b"], "n": 12345678, "none": None}
    assert math.isnan(rounded(math.nan))
    assert rounded(0.123456, 2) == 0.12
