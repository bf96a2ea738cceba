"""Laws that hold for every mixture; a new file in `taskloom/mixture` joins by itself."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from taskloom.batches.quotas import quotas
from taskloom.mixture import MIXTURES, Mixture, Seen

NAMES = MIXTURES.names()
STEPPING = [name for name in NAMES if MIXTURES.load(name).pace == "step"]
FOLLOWING = [name for name in NAMES if MIXTURES.load(name).pace == "window"]
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


def window(number: int, **losses: float) -> Seen:
    """Make a window in which every task had as many rows, and scores that rise as losses fall."""
    scores = {task: 1 / (1 + loss) for task, loss in losses.items()}
    return Seen(step=20 * number, losses=losses, rows=dict.fromkeys(losses, 100), scores=scores)


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


# --- what windows show ----------------------------------------------------------------------------------------------

anything = st.floats(width=64) | st.sampled_from([0.0, 1e-320, 1e308, -1e308, float("nan"), float("inf")])
usual = st.floats(1e-3, 20.0)


@st.composite
def runs(draw: st.DrawFn, values: st.SearchStrategy[float] = anything) -> tuple[dict[str, int], list[Seen]]:
    """Draw the sizes of a run's tasks, and what its windows showed: some tasks drawn in each, some scored."""
    sizes = draw(sizes_of_tasks)
    windows = []
    for number in range(draw(st.integers(1, 6))):
        drawn, scored = (draw(st.sets(st.sampled_from(sorted(sizes)))) for _ in range(2))
        windows.append(
            Seen(
                step=20 * (number + 1),
                losses={task: draw(values) for task in sizes if task in drawn},
                rows={task: draw(st.integers(1, 10**6)) for task in sizes if task in drawn},
                scores={task: draw(values) for task in sizes if task in scored},
            )
        )
    return sizes, windows


def shown(name: str, sizes: dict[str, int], windows: list[Seen]) -> Mixture:
    """Make a mixture that has seen windows."""
    mixture = mixture_called(name, sizes)
    for seen in windows:
        mixture.observe(seen)
    return mixture


def kept_of(state: Any, task: str) -> list[Any]:
    """Find all that a state says of one task."""
    if not isinstance(state, dict):
        return []
    return [found for key, value in state.items() for found in ([value] if key == task else kept_of(value, task))]


@pytest.mark.parametrize("name", NAMES)
@given(run=runs(), step=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_probabilities_are_positive_and_add_up_to_one_whatever_the_windows_showed(
    name: str, run: tuple[dict[str, int], list[Seen]], step: int
) -> None:
    sizes, windows = run
    mixture = mixture_called(name, sizes)
    for seen in windows:
        mixture.observe(seen)
        found = mixture.probabilities(sizes, step, steps=100, rows=32)
        assert list(found) == list(sizes)
        assert math.fsum(found.values()) == pytest.approx(1.0, abs=1e-12)
        assert all(0 < share <= 1 for share in found.values())


@pytest.mark.parametrize("name", NAMES)
@given(run=runs(), cut=st.integers(0, 6))
@settings(max_examples=40, deadline=None)
def test_a_mixture_that_is_saved_and_restored_goes_on_bit_for_bit(
    name: str, run: tuple[dict[str, int], list[Seen]], cut: int
) -> None:
    sizes, windows = run
    through = shown(name, sizes, windows[:cut])
    restored = mixture_called(name, sizes)
    restored.restore(json.loads(json.dumps(through.state(), allow_nan=False)))
    assert restored.probabilities(sizes, 7, 100, 32) == through.probabilities(sizes, 7, 100, 32)
    for seen in windows[cut:]:
        restored.observe(seen)
        through.observe(seen)
        assert restored.probabilities(sizes, 7, 100, 32) == through.probabilities(sizes, 7, 100, 32)
    assert json.dumps(restored.state(), sort_keys=True) == json.dumps(through.state(), sort_keys=True)


@pytest.mark.parametrize("name", FOLLOWING)
def test_what_is_restored_is_a_copy_that_later_windows_do_not_change(name: str) -> None:
    sizes = {"a": 5, "b": 7}
    mixture = shown(name, sizes, [window(1, a=2.0, b=1.0), window(2, a=1.5, b=1.0)])
    saved = mixture.state()
    text = json.dumps(saved)
    other = mixture_called(name, sizes)
    other.restore(saved)
    for each in (mixture, other):
        each.observe(window(3, a=0.1, b=0.9))
    assert json.dumps(saved) == text


@pytest.mark.parametrize("name", FOLLOWING)
@given(run=runs(usual), generator=st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_another_order_of_tasks_in_what_windows_show_gives_the_same_shares(
    name: str, run: tuple[dict[str, int], list[Seen]], generator: Any
) -> None:
    sizes, windows = run

    def shuffled(values: Any) -> Any:
        order = list(values)
        generator.shuffle(order)
        return {task: values[task] for task in order}

    there = [Seen(seen.step, shuffled(seen.losses), shuffled(seen.rows), shuffled(seen.scores)) for seen in windows]
    before = shown(name, sizes, windows).probabilities(sizes)
    permuted = shuffled(sizes)
    after = shown(name, permuted, there).probabilities(permuted)
    assert list(after) == list(permuted)
    assert after == pytest.approx(before, rel=1e-12)


@pytest.mark.parametrize("name", FOLLOWING)
@given(run=runs(usual))
@settings(max_examples=40, deadline=None)
def test_what_is_known_of_a_task_stays_where_a_window_did_not_draw_it(
    name: str, run: tuple[dict[str, int], list[Seen]]
) -> None:
    sizes, windows = run
    mixture = mixture_called(name, sizes)
    for seen in windows:
        before = copy.deepcopy(mixture.state())
        mixture.observe(seen)
        for task in sizes:
            if task not in seen.losses and task not in seen.scores:
                assert kept_of(mixture.state(), task) == kept_of(before, task)


@pytest.mark.parametrize("name", FOLLOWING)
@given(run=runs(usual), wrong=st.sampled_from([float("nan"), float("inf"), float("-inf")]))
@settings(max_examples=30, deadline=None)
def test_a_loss_that_is_no_number_counts_as_none(
    name: str, run: tuple[dict[str, int], list[Seen]], wrong: float
) -> None:
    sizes, windows = run
    broken = [
        dataclasses.replace(
            seen,
            losses={task: seen.losses.get(task, wrong) for task in sizes},
            scores={task: seen.scores.get(task, wrong) for task in sizes},
        )
        for seen in windows
    ]
    assert shown(name, sizes, broken).probabilities(sizes) == shown(name, sizes, windows).probabilities(sizes)


@pytest.mark.parametrize("name", FOLLOWING)
def test_what_windows_show_moves_a_mixture_that_follows_them(name: str) -> None:
    sizes = {"a": 900, "b": 30, "c": 7}
    mixture = mixture_called(name, sizes)
    before = mixture.probabilities(sizes)
    for number in range(1, 12):
        mixture.observe(window(number, a=2.0, b=2.0 / number, c=0.5 + 1.5 / number))
    after = mixture.probabilities(sizes)
    assert max(abs(after[task] - before[task]) for task in sizes) > 0.01


@pytest.mark.parametrize("name", NAMES)
@given(run=runs())
@settings(max_examples=20, deadline=None)
def test_asking_for_probabilities_changes_nothing_and_what_a_window_showed_is_left_as_it_is(
    name: str, run: tuple[dict[str, int], list[Seen]]
) -> None:
    sizes, windows = run
    kept = repr(windows)
    mixture = shown(name, sizes, windows)
    assert repr(windows) == kept
    state = json.dumps(mixture.state())
    first = mixture.probabilities(sizes, 3, 10, 8)
    fewer = {task: sizes[task] for task in list(sizes)[1:]} or sizes
    assert mixture.probabilities(fewer, 3, 10, 8).keys() == fewer.keys()
    assert mixture.probabilities(sizes, 3, 10, 8) == first
    assert json.dumps(mixture.state()) == state


# --- pace -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in NAMES if name not in STEPPING])
@given(sizes=sizes_of_tasks, one=st.integers(0, 99), other=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_a_mixture_of_another_pace_than_step_does_not_look_at_the_step(
    name: str, sizes: dict[str, int], one: int, other: int
) -> None:
    mixture = mixture_called(name, sizes)
    found = [mixture.probabilities(sizes, step, steps=100, rows=32) for step in (one, other)]
    assert found[0] == found[1]


@pytest.mark.parametrize("name", STEPPING)
def test_a_mixture_of_pace_step_looks_at_the_step(name: str) -> None:
    sizes = {"small": 3, "large": 3000}
    mixture = mixture_called(name, sizes)
    assert mixture.probabilities(sizes, 0, 100, 32) != mixture.probabilities(sizes, 99, 100, 32)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in FOLLOWING])
@given(run=runs())
@settings(max_examples=20, deadline=None)
def test_only_a_mixture_of_pace_window_looks_at_what_windows_showed(
    name: str, run: tuple[dict[str, int], list[Seen]]
) -> None:
    sizes, windows = run
    mixture = shown(name, sizes, windows)
    assert mixture.probabilities(sizes, 3, 10, 8) == mixture_called(name, sizes).probabilities(sizes, 3, 10, 8)
    assert mixture.state() == {}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("step", "steps"), [(0, 1), (0, 2), (1, 2), (5, 2), (10**6, 10**6 + 1)])
def test_every_step_of_every_run_has_probabilities(name: str, step: int, steps: int) -> None:
    sizes = {"a": 1, "b": 10**6}
    found = mixture_called(name, sizes).probabilities(sizes, step, steps, rows=1)
    assert math.fsum(found.values()) == pytest.approx(1.0, abs=1e-12)
    assert min(found.values()) > 0


# --- draws ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_how_often_tasks_are_drawn_fits_the_probabilities_in_quotas_and_in_independent_draws(name: str) -> None:
    sizes = {"a": 5_000, "b": 1_200, "c": 300, "d": 90}
    mixture = mixture_called(name, sizes)
    for number in range(1, 30):
        mixture.observe(window(number, a=2.0, b=2.0 / number, c=0.5 + 1.5 / number, d=1.0))
    found = np.array(list(mixture.probabilities(sizes, 40, steps=250, rows=16).values()))
    expected = found * 16 * 250
    assert expected.min() > 5, "the test asks for as much"
    stratified = quotas(found * 16, 16, 250).sum(axis=0)
    independent = np.random.default_rng(0).multinomial(16 * 250, found)
    assert chisquare(stratified, expected).pvalue > 0.999
    assert chisquare(independent, expected).pvalue > 0.001
    if np.ptp(found) > 0.05:
        assert chisquare(stratified, found[[3, 0, 1, 2]] * 16 * 250).pvalue < 1e-6, "the test can fail"


# --- documents ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_mixture_is_documented_in_its_class(name: str) -> None:
    text = inspect.getdoc(MIXTURES.load(name)) or ""
    assert text.split("\n")[0].endswith(".")
    assert MIXTURES.summary(name) == text.split("\n\n")[0].replace("\n", " ")
    for section in ("Prefer", "Do not", "Formula:", ">>>"):
        assert section in text, section
    for option in MIXTURES.options(name):
        assert f"    {option}: " in text, option
    if name in FOLLOWING:
        assert "State: " in text
        assert MIXTURES.load(name).state is not Mixture.state
        assert MIXTURES.load(name).restore is not Mixture.restore
