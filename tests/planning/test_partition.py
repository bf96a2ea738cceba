"""Ways to part tasks: exact against brute force, the heuristic against the exact way, planted groups found again."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskloom.planning import partition
from taskloom.planning.partition import (
    best_partitions,
    drawn_effects,
    gains_of,
    optimism,
    simplest_within_noise,
    value_of,
)


def effects(tasks: int, seed: int) -> np.ndarray:
    effect = np.random.default_rng(seed).normal(size=(tasks, tasks))
    np.fill_diagonal(effect, np.nan)
    return effect


def every_partition(tasks: list[int]) -> Iterator[list[list[int]]]:
    if not tasks:
        yield []
        return
    first, rest = tasks[0], tasks[1:]
    for found in every_partition(rest):
        yield [[first], *found]
        for place in range(len(found)):
            yield [*found[:place], [first, *found[place]], *found[place + 1 :]]


@given(tasks=st.integers(1, 6), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_the_exact_way_is_the_best_of_all_ways(tasks: int, seed: int) -> None:
    effect, weights = effects(tasks, seed), np.random.default_rng(seed).uniform(0.1, 2.0, size=tasks)
    best: dict[int, float] = {}
    for groups in every_partition(list(range(tasks))):
        value = value_of(tuple(map(tuple, groups)), effect, weights)
        best[len(groups)] = max(value, best.get(len(groups), -np.inf))
    found = best_partitions(effect, weights)
    assert [len(each.groups) for each in found] == list(range(1, tasks + 1))
    for each in found:
        assert sorted(task for group in each.groups for task in group) == list(range(tasks))
        assert each.value == pytest.approx(best[len(each.groups)])


@pytest.mark.parametrize("seed", range(6))
def test_merging_and_moving_comes_close_to_the_exact_way(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    effect, weights = effects(10, seed), np.ones(10)
    exact = best_partitions(effect, weights)
    monkeypatch.setattr(partition, "LIMIT_EXACT", 3)
    found = best_partitions(effect, weights)
    assert [len(each.groups) for each in found] == [len(each.groups) for each in exact]
    top, reached = (max(each.value for each in held) for held in (exact, found))
    assert reached >= 0.9 * top
    assert found[0].value == pytest.approx(exact[0].value)


@pytest.mark.parametrize(("tasks", "noise"), [(8, 0.1), (12, 0.1), (18, 0.1)])
def test_planted_groups_are_found_again(tasks: int, noise: float) -> None:
    generator = np.random.default_rng(0)
    owner = np.arange(tasks) % 2
    effect = np.where(owner[:, None] == owner[None, :], 0.5, -0.5) + noise * generator.normal(size=(tasks, tasks))
    found = best_partitions(effect, np.ones(tasks))
    assert found[1].groups == (tuple(range(0, tasks, 2)), tuple(range(1, tasks, 2)))
    # More groups seem better still, since each finds its own noise; they are not told from two.
    weights, drawn = np.ones(tasks), drawn_effects(effect, effect - 2 * noise, effect + 2 * noise, 200)
    samples = np.array([[value_of(each.groups, one, weights) for each in found] for one in drawn])
    samples -= optimism(drawn[:10], effect, weights)
    assert simplest_within_noise(samples.mean(axis=0), samples) == 1


def test_a_gain_is_what_the_others_in_the_group_do_over_the_root_of_their_number() -> None:
    effect = np.array([[np.nan, 0.2, -0.1], [0.4, np.nan, np.nan], [0.6, 0.0, np.nan]])
    assert gains_of(((0, 1, 2),), effect).tolist() == pytest.approx([1.0 / 2**0.5, 0.2 / 2**0.5, -0.1 / 2**0.5])
    assert gains_of(((0, 1), (2,)), effect).tolist() == pytest.approx([0.4, 0.2, 0.0])


def test_draws_have_the_width_of_the_intervals() -> None:
    effect, reach = effects(4, 0), 0.3
    drawn = drawn_effects(effect, effect - reach, effect + reach, 4000)
    off = ~np.eye(4, dtype=bool)
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    assert np.abs(high - low - 2 * reach)[off].max() < 0.05
    unknown = np.full_like(effect, np.nan)
    assert (drawn_effects(effect, unknown, unknown, 3) == np.nan_to_num(effect)).all()


def test_fewer_groups_are_chosen_where_more_are_not_told_from_them() -> None:
    found = best_partitions(effects(3, 1), np.ones(3))
    best = int(np.argmax([each.value for each in found]))
    generator = np.random.default_rng(0)
    values = np.array([each.value for each in found])
    noisy, sharp = (values + width * generator.normal(size=(500, 3)) for width in (10.0, 1e-6))
    assert simplest_within_noise(values, sharp) == best
    assert simplest_within_noise(values, noisy) == 0 or best == 0
    assert simplest_within_noise(values, np.tile(values, (5, 1))) == best


def test_the_best_of_pure_noise_looks_better_than_it_is_by_as_much_as_it_was_found_to() -> None:
    noise = np.random.default_rng(3).normal(size=(60, 6, 6))
    nothing, weights = np.zeros((6, 6)), np.ones(6)
    excess = optimism(noise[:30], nothing, weights)
    found = np.mean([[each.value for each in best_partitions(one, weights)] for one in noise[30:]], axis=0)
    np.testing.assert_allclose(excess, found, atol=0.12)
    assert excess[2] > 0.3
    assert excess[5] == 0
