"""Laws that hold for every mixture; a new file in `taskloom/mixture` joins by itself."""

from __future__ import annotations

import inspect
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskloom.mixture import MIXTURES, Mixture

NAMES = MIXTURES.names()
sizes_of_tasks = st.dictionaries(
    st.text("abcdefgh", min_size=1, max_size=3), st.integers(1, 10**9), min_size=1, max_size=12
)


def mixture_called(name: str, sizes: dict[str, int]) -> Mixture:
    """Make a mixture; a required option that maps tasks to numbers gets a number for each task."""
    required: dict[str, Any] = {
        option: {task: 1.0 + len(task) + index for index, task in enumerate(sorted(sizes))}
        for option, (_, default) in MIXTURES.options(name).items()
        if default is ...
    }
    return MIXTURES.load(name)(**required)


@pytest.mark.parametrize("name", NAMES)
@given(sizes=sizes_of_tasks)
@settings(max_examples=50, deadline=None)
def test_probabilities_are_positive_and_add_up_to_one(name: str, sizes: dict[str, int]) -> None:
    found = mixture_called(name, sizes).probabilities(sizes)
    assert math.fsum(found.values()) == pytest.approx(1.0, abs=1e-12)
    assert all(0 < share <= 1 for share in found.values())


@pytest.mark.parametrize("name", NAMES)
@given(sizes=sizes_of_tasks, generator=st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_another_order_of_tasks_gives_the_same_shares_in_that_order(
    name: str, sizes: dict[str, int], generator: Any
) -> None:
    names = list(sizes)
    generator.shuffle(names)
    permuted = {task: sizes[task] for task in names}
    before = mixture_called(name, sizes).probabilities(sizes)
    after = mixture_called(name, sizes).probabilities(permuted)
    assert list(before) == list(sizes)
    assert list(after) == names
    assert after == pytest.approx(before, rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
@given(sizes=sizes_of_tasks)
@settings(max_examples=20, deadline=None)
def test_the_sizes_given_are_left_as_they_are(name: str, sizes: dict[str, int]) -> None:
    kept = dict(sizes)
    mixture_called(name, sizes).probabilities(sizes)
    assert sizes == kept


@pytest.mark.parametrize("name", NAMES)
def test_a_mixture_is_documented_in_its_class(name: str) -> None:
    text = inspect.getdoc(MIXTURES.load(name)) or ""
    assert text.split("\n")[0].endswith(".")
    assert MIXTURES.summary(name) == text.split("\n\n")[0].replace("\n", " ")
    for section in ("Prefer", "Do not", "Formula:", ">>>"):
        assert section in text, section
    for option in MIXTURES.options(name):
        assert f"    {option}: " in text, option
