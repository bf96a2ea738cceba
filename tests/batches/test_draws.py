from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskloom.batches.draws import Draws, quotas

weights_of_tasks = st.lists(st.floats(1e-4, 1.0), min_size=1, max_size=20)


@given(weights=weights_of_tasks, rows=st.integers(1, 40))
@settings(max_examples=25, deadline=None)
def test_no_task_is_ever_a_whole_row_off_its_share_nor_given_less_than_none(weights, rows) -> None:
    expected = rows * np.array(weights) / sum(weights)
    given_rows = quotas(expected, rows, 1000)
    assert (given_rows.sum(axis=1) == rows).all()
    assert (given_rows >= 0).all()
    shares = np.arange(1, 1001)[:, None] * expected
    assert np.abs(given_rows.cumsum(axis=0) - shares).max() < 1


def test_many_small_tasks_beside_a_large_one_are_given_less_than_none_in_no_step() -> None:
    """Rounding by largest remainder took rows back here, and so drew other rows twice."""
    generator = np.random.default_rng(0)
    for _ in range(60):
        count, rows = int(generator.integers(10, 25)), int(generator.integers(1, 12))
        expected = generator.dirichlet(np.full(count, 0.3)) * rows
        given_rows = quotas(expected, rows, 200)
        assert given_rows.min() >= 0
        assert (given_rows.sum(axis=1) == rows).all()


def test_whole_shares_are_given_in_every_step() -> None:
    assert (quotas(np.array([4.0] * 7), 28, 100) == 4).all()
    assert (quotas(np.array([0.5, 0.25, 0.25]) * 8, 8, 50) == [4, 2, 2]).all()


def test_equal_tasks_that_outnumber_the_rows_take_turns() -> None:
    given_rows = quotas(np.full(4, 0.25), 1, 40)
    for start in range(0, 40, 4):
        assert (given_rows[start : start + 4].sum(axis=0) == 1).all()


def test_a_share_of_nothing_gets_nothing() -> None:
    assert quotas(np.array([3.0, 0.0]), 3, 20)[:, 1].sum() == 0


def plan(seed=0, steps=60, sizes=None, probabilities=None, rows=7):
    sizes = sizes or {"a": 11, "b": 5, "c": 23}
    probabilities = probabilities or {"a": 0.5, "b": 0.2, "c": 0.3}
    return Draws(sizes, probabilities, rows=rows, steps=steps, seed=seed)


def sequence_of(draws: Draws, name: str) -> list[int]:
    return [item for index in range(len(draws)) for item in draws.step(index).get(name, [])]


def test_each_task_goes_through_all_its_rows_before_it_repeats_one() -> None:
    draws = plan()
    for name, size in draws.sizes.items():
        drawn = sequence_of(draws, name)
        assert len(drawn) == draws.totals()[name]
        for start in range(0, len(drawn) - size + 1, size):
            assert sorted(drawn[start : start + size]) == list(range(size))


def test_epochs_are_shuffled_anew() -> None:
    drawn = sequence_of(plan(steps=100), "a")
    epochs = [tuple(drawn[start : start + 11]) for start in range(0, len(drawn) - 10, 11)]
    assert len(set(epochs)) == len(epochs) > 3


@given(order=st.permutations(list(range(40))))
@settings(max_examples=15, deadline=None)
def test_a_step_is_the_same_in_whatever_order_steps_are_asked_for(order) -> None:
    wanted, asked = plan(steps=40), plan(steps=40)
    steps = [wanted.step(index) for index in range(40)]
    assert [asked.step(index) for index in order] == [steps[index] for index in order]


def test_a_longer_run_begins_like_a_shorter_one() -> None:
    short, long = plan(steps=10), plan(steps=500)
    assert [short.step(index) for index in range(10)] == [long.step(index) for index in range(10)]


def test_seeds_and_tasks_have_orders_of_their_own() -> None:
    sizes = {"a": 30, "b": 30}
    draws, other = (plan(seed, 30, sizes, {"a": 0.5, "b": 0.5}, 4) for seed in (0, 1))
    assert sequence_of(draws, "a") != sequence_of(draws, "b")
    assert sequence_of(draws, "a") != sequence_of(other, "a")


def test_a_tasks_order_does_not_depend_on_its_neighbours() -> None:
    alone = Draws({"a": 11}, {"a": 1.0}, rows=3, steps=50, seed=0)
    beside = plan(steps=50)
    count = min(alone.totals()["a"], beside.totals()["a"])
    assert sequence_of(alone, "a")[:count] == sequence_of(beside, "a")[:count]


def test_totals_are_what_the_steps_draw() -> None:
    draws = plan(steps=33)
    assert draws.totals() == {name: len(sequence_of(draws, name)) for name in draws.tasks}
    assert sum(draws.totals().values()) == 33 * 7


@pytest.mark.parametrize("index", [0, 59])
def test_tasks_without_a_row_in_a_step_are_left_out(index) -> None:
    draws = plan(sizes={"a": 3, "b": 3}, probabilities={"a": 0.999, "b": 0.001}, rows=2)
    assert draws.step(index).keys() == {"a"}
