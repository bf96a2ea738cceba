"""Laws that hold for every composite score; a new file in `taskloom/composite` joins by itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskloom.composite import COMPOSITES

NAMES = COMPOSITES.names()


def drawn(tasks: int, seed: int, samples: int = 5) -> tuple[np.ndarray, np.ndarray, list[str]]:
    generator = np.random.default_rng(seed)
    return generator.uniform(0.05, 0.95, size=(tasks, samples)), generator.uniform(0.1, 3, size=tasks), list("abcdefgh")


@pytest.mark.parametrize("name", NAMES)
@given(tasks=st.integers(1, 8), seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_it_lies_between_the_worst_and_the_best_task(name: str, tasks: int, seed: int) -> None:
    values, weights, names = drawn(tasks, seed)
    found = COMPOSITES.load(name)().combine(values, weights, names[:tasks])
    assert found.shape == (5,)
    assert (found >= values.min(axis=0) - 1e-12).all()
    assert (found <= values.max(axis=0) + 1e-12).all()


@pytest.mark.parametrize("name", NAMES)
@given(tasks=st.integers(1, 8), seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_a_task_that_does_better_never_lowers_it(name: str, tasks: int, seed: int) -> None:
    values, weights, names = drawn(tasks, seed)
    better = values.copy()
    better[seed % tasks] += 0.05
    how = COMPOSITES.load(name)()
    assert (how.combine(better, weights, names[:tasks]) >= how.combine(values, weights, names[:tasks]) - 1e-12).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_tasks_and_the_size_of_all_weights_do_not_matter(name: str) -> None:
    values, weights, names = drawn(6, 3)
    order = np.random.default_rng(0).permutation(6)
    how = COMPOSITES.load(name)()
    wanted = how.combine(values, weights, names[:6])
    np.testing.assert_allclose(how.combine(values[order], 7 * weights[order], [names[i] for i in order]), wanted)


@pytest.mark.parametrize("name", NAMES)
def test_perfect_tasks_are_perfect_together_and_useless_ones_useless(name: str) -> None:
    how, weights, names = COMPOSITES.load(name)(), np.array([1.0, 2.0]), ["a", "b"]
    assert how.combine(np.ones((2, 3)), weights, names).tolist() == [1.0] * 3
    assert how.combine(np.zeros((2, 3)), weights, names).tolist() == [0.0] * 3


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_without_a_value_for_one_task_has_none(name: str) -> None:
    values, weights, names = drawn(3, 1)
    values[1, 2] = np.nan
    assert (
        np.isnan(COMPOSITES.load(name)().combine(values, weights, names[:3])).tolist()
        == [False] * 2 + [True] + [False] * 2
    )
