"""Mixtures that follow what windows of training show, against closed forms and the published algorithms."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from taskloom.batches.quotas import quotas
from taskloom.errors import ConfigError
from taskloom.mixture import Mixture, Seen
from taskloom.mixture._signals import LIMIT, filled, move, numbers
from taskloom.mixture.by_loss import ByLoss
from taskloom.mixture.difficulty import Difficulty
from taskloom.mixture.learning_progress import LearningProgress
from taskloom.mixture.online_data_mixing import OnlineDataMixing

SIZES = {"a": 900, "b": 30, "c": 7}
ALL = [ByLoss, LearningProgress, OnlineDataMixing, Difficulty]
tables = st.lists(st.lists(st.floats(0.01, 20.0), min_size=3, max_size=3), min_size=1, max_size=12)


def window(losses: dict[str, float], rows: dict[str, int] | None = None, **scores: float) -> Seen:
    return Seen(step=20, losses=losses, rows=rows or dict.fromkeys(losses, 100), scores=scores)


def shown(mixture: Mixture, table: list[list[float]]) -> Mixture:
    """Show a mixture a table of losses: [window, task]."""
    for losses in table:
        mixture.observe(window(dict(zip(SIZES, losses, strict=True))))
    return mixture


def shares_of(mixture: Mixture) -> list[float]:
    return list(mixture.probabilities(SIZES).values())


def running_mean(values: np.ndarray, keep: float) -> np.ndarray:
    """Give the running mean over the first axis as one weighted sum."""
    weights = (1 - keep) * keep ** np.arange(len(values) - 1, -1, -1.0)
    weights[0] = keep ** (len(values) - 1)
    assert weights.sum() == pytest.approx(1)
    return weights @ values


@pytest.mark.parametrize("method", ALL)
def test_before_anything_is_seen_all_tasks_are_drawn_alike(method: Any) -> None:
    mixture = method()
    assert shares_of(mixture) == pytest.approx([1 / 3] * 3, rel=1e-15)
    mixture.observe(Seen(step=20, losses={}, rows={}))
    mixture.observe(window({"a": math.nan, "b": math.inf, "c": -math.inf}, b=math.nan))
    assert shares_of(mixture) == pytest.approx([1 / 3] * 3, rel=1e-15)


@pytest.mark.parametrize("method", ALL)
def test_a_task_that_enters_late_is_drawn_as_the_mean_of_the_others_would_be(method: Any) -> None:
    mixture = method()
    for step in range(1, 40):
        mixture.observe(window({"a": 2.0, "b": 2.0 / step}, a=0.2, b=0.8))
    share = mixture.probabilities(SIZES)
    assert min(share["a"], share["b"]) < share["c"] < max(share["a"], share["b"])


def test_a_number_that_is_none_is_left_out_and_a_huge_one_is_cut() -> None:
    values = {"a": 1.5, "b": math.nan, "c": math.inf, "d": 1e300, "e": -1e300, "f": -math.inf}
    assert numbers(values) == {"a": 1.5, "d": LIMIT, "e": -LIMIT}


@given(value=st.floats(-1e9, 1e9), keep=st.floats(0, 0.999))
@settings(max_examples=50, deadline=None)
def test_a_running_mean_of_equal_values_does_not_move_by_rounding(value: float, keep: float) -> None:
    means: dict[str, float] = {}
    for _ in range(20):
        move(means, {"a": value}, keep)
    assert means == {"a": value}


def test_what_is_not_known_counts_as_the_mean_of_the_tasks_asked_for() -> None:
    assert filled({"a": 1.0, "b": 3.0, "gone": 1000.0}, ["a", "b", "c"]) == {"a": 1.0, "b": 3.0, "c": 2.0}
    assert filled({"gone": 1000.0}, ["a", "b"]) == {"a": 0.0, "b": 0.0}


# --- by_loss --------------------------------------------------------------------------------------------------------


@given(
    table=tables,
    temperature=st.floats(0.1, 10),
    smoothing=st.floats(0, 0.99),
    relative=st.booleans(),
    exploration=st.floats(0.01, 1),
)
@settings(max_examples=80, deadline=None)
def test_by_loss_is_a_softmax_of_running_means(
    table: list[list[float]], temperature: float, smoothing: float, relative: bool, exploration: float
) -> None:
    mixture = ByLoss(temperature=temperature, smoothing=smoothing, relative=relative, exploration=exploration)
    losses = np.array(table)
    level = running_mean(losses, smoothing) / (losses[0] if relative else 1)
    wanted = (1 - exploration) * softmax(level / temperature) + exploration / 3
    assert shares_of(shown(mixture, table)) == pytest.approx(wanted, rel=1e-9)


def test_the_unit_of_a_loss_does_not_matter_where_losses_are_relative() -> None:
    table = [[2.0, 1.0, 4.0], [1.0, 0.9, 3.0]]
    larger = [[1000 * a, b, c] for a, b, c in table]
    assert shares_of(shown(ByLoss(), larger)) == pytest.approx(shares_of(shown(ByLoss(), table)))
    absolute = [shares_of(shown(ByLoss(relative=False), each)) for each in (table, larger)]
    assert absolute[1][0] > 0.9 > absolute[0][0] + 0.3


def test_a_first_loss_of_zero_leaves_all_shares_defined() -> None:
    found = shares_of(shown(ByLoss(), [[0.0, 1.0, 1.0], [5.0, 1.0, 1.0]]))
    assert found == pytest.approx([0.9 + 0.1 / 3, 0.1 / 3, 0.1 / 3])
    assert shares_of(shown(ByLoss(), [[0.0, 0.0, 0.0]])) == pytest.approx([1 / 3] * 3)


# --- learning_progress ----------------------------------------------------------------------------------------------


@given(table=tables, fast=st.floats(0, 0.8), more=st.floats(0.05, 0.19), exploration=st.floats(0.01, 1))
@settings(max_examples=80, deadline=None)
def test_learning_progress_is_how_far_two_running_means_are_apart(
    table: list[list[float]], fast: float, more: float, exploration: float
) -> None:
    mixture = LearningProgress(fast=fast, slow=fast + more, exploration=exploration)
    losses = np.array(table)
    apart = np.abs(running_mean(losses, fast) - running_mean(losses, fast + more)) / losses[0]
    apart[apart < 1e-9] = 0
    share = apart / apart.sum() if apart.sum() else np.full(3, 1 / 3)
    wanted = (1 - exploration) * share + exploration / 3
    assert shares_of(shown(mixture, table)) == pytest.approx(wanted, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("windows", [1, 2, 5, 20])
def test_a_loss_that_jumps_is_progress_by_the_difference_of_powers(windows: int) -> None:
    """A loss that goes from 1 to 1 - d leaves means at 1 - d (1 - keep^k) after k windows."""
    mixture = shown(LearningProgress(fast=0.5, slow=0.9, exploration=0.1), [[1.0, 1.0, 1.0]])
    shown(mixture, [[0.4, 0.9, 1.0]] * windows)
    gap = 0.9**windows - 0.5**windows
    moved = {"a": 0.6 * gap, "b": 0.1 * gap, "c": 0.0}
    wanted = [0.9 * moved[task] / (0.7 * gap) + 0.1 / 3 for task in SIZES]
    assert shares_of(mixture) == pytest.approx(wanted, rel=1e-9)
    assert [abs(mixture.fast_means[t] - mixture.slow_means[t]) for t in "ab"] == pytest.approx([moved["a"], moved["b"]])


def test_what_is_forgotten_is_drawn_as_what_is_learned() -> None:
    falls, rises = ([[1.0, 1.0, 1.0], [1.0 + change, 1.0, 1.0]] for change in (-0.5, 0.5))
    found = [shares_of(shown(LearningProgress(), table)) for table in (falls, rises)]
    assert found[0] == pytest.approx(found[1])
    assert found[0][0] == pytest.approx(0.9 + 0.1 / 3)


def test_losses_that_stand_still_are_drawn_alike_and_rounding_is_no_progress() -> None:
    assert shares_of(shown(LearningProgress(), [[0.1, 0.7, 3.0]] * 9)) == pytest.approx([1 / 3] * 3)
    noise = [[0.1, 0.7, 3.0], [0.1 + 1e-16, 0.7, 3.0 + 1e-15]]
    assert shares_of(shown(LearningProgress(), noise)) == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize("fast", [0.9, 0.95])
def test_a_fast_mean_that_is_not_faster_is_refused(fast: float) -> None:
    with pytest.raises(ConfigError) as raised:
        LearningProgress(fast=fast, slow=0.9)
    assert str(raised.value) == f"`mixture.fast` should be below `mixture.slow`, which is 0.9. Found `{fast}`."


# --- online_data_mixing ---------------------------------------------------------------------------------------------


def published(table: np.ndarray, drawn: np.ndarray, smoothing: float) -> np.ndarray:
    """Give the shares after each window as the published algorithm does: [window, task].

    Args:
        table: [window, task] losses.
        drawn: [window, task] share of the rows that each task had; none where it was not drawn.
        smoothing: of the running means of the rewards.
    """
    tasks = table.shape[1]
    reward: list[float | None] = [None] * tasks
    result = []
    for turn, (losses, share) in enumerate(zip(table, drawn, strict=True), 1):
        for arm in range(tasks):
            if share[arm] > 0:
                paid, old = losses[arm] / share[arm], reward[arm]
                reward[arm] = paid if old is None else smoothing * old + (1 - smoothing) * paid
        before = min(1 / tasks, math.sqrt(math.log(tasks) / (tasks * turn)))
        now = min(1 / tasks, math.sqrt(math.log(tasks) / (tasks * (turn + 1))))
        powers = np.exp([before * (each or 0.0) for each in reward])
        result.append((1 - tasks * now) * powers / powers.sum() + now)
    return np.array(result)


@given(seed=st.integers(0, 2**16), windows=st.integers(1, 30), smoothing=st.floats(0, 0.99))
@settings(max_examples=60, deadline=None)
def test_the_bandit_is_the_published_one(seed: int, windows: int, smoothing: float) -> None:
    generator = np.random.default_rng(seed)
    table = generator.uniform(0, 5, (windows, 3))
    rows = generator.integers(0, 40, (windows, 3))
    rows[0] += 1
    rows[:, 0] += 1
    mixture = OnlineDataMixing(smoothing=smoothing)
    wanted = published(table, rows / rows.sum(axis=1, keepdims=True), smoothing)
    for losses, counts, shares in zip(table, rows, wanted, strict=True):
        drawn = {task: int(count) for task, count in zip(SIZES, counts, strict=True) if count}
        known = dict(zip(SIZES, losses.tolist(), strict=True))
        mixture.observe(window({task: known[task] for task in drawn}, drawn))
        assert shares_of(mixture) == pytest.approx(shares, rel=1e-9)


@pytest.mark.parametrize("tasks", [2, 3, 8])
def test_the_bandit_only_explores_for_the_first_windows_and_explores_less_and_less(tasks: int) -> None:
    sizes = {f"task {place}": 10 for place in range(tasks)}
    mixture = OnlineDataMixing()
    least = []
    for turn in range(1, 400):
        mixture.observe(window({name: 10.0 * (place == 0) for place, name in enumerate(sizes)}))
        shares = mixture.probabilities(sizes)
        least.append(min(shares.values()))
        even = turn + 1 <= tasks * math.log(tasks)
        assert (max(shares.values()) - min(shares.values()) < 1e-12) == even
    rate = math.sqrt(math.log(tasks) / (tasks * 400))
    assert rate < least[-1] < 1 / tasks


def test_one_task_is_always_drawn() -> None:
    mixture = OnlineDataMixing()
    for _ in range(3):
        mixture.observe(window({"a": 2.0}))
        assert mixture.probabilities({"a": 5}) == {"a": 1.0}


def test_a_task_that_was_drawn_half_as_often_is_paid_twice_as_much() -> None:
    mixture = OnlineDataMixing()
    mixture.observe(window({"a": 1.0, "b": 1.0, "c": 3.0}, {"a": 50, "b": 25, "c": 25}))
    assert mixture.rewards == pytest.approx({"a": 2.0, "b": 4.0, "c": 12.0})


def test_a_window_that_shows_no_loss_is_no_turn_of_the_bandit() -> None:
    mixture = shown(OnlineDataMixing(), [[3.0, 1.0, 0.1]] * 9)
    before = shares_of(mixture)
    mixture.observe(window({"a": math.nan}))
    mixture.observe(Seen(step=20, losses={}, rows={}))
    assert shares_of(mixture) == before


def test_a_bandit_that_draws_by_its_own_shares_starves_no_task_and_prefers_the_highest_loss() -> None:
    mixture, drawn = OnlineDataMixing(), np.zeros(3)
    for _ in range(200):
        counts = quotas(np.array(shares_of(mixture)) * 32, 32, 20).sum(axis=0)
        drawn += counts
        rows = {task: int(count) for task, count in zip(SIZES, counts, strict=True)}
        losses = {"a": 3.0, "b": 1.0, "c": 0.1}
        mixture.observe(window(losses, rows))
    assert drawn[0] > drawn[1] > drawn[2] > 0.1 * drawn.sum()


# --- difficulty -----------------------------------------------------------------------------------------------------


@given(
    scores=st.lists(st.floats(0, 1), min_size=3, max_size=3),
    references=st.lists(st.floats(0, 1), min_size=3, max_size=3),
    exploration=st.floats(0.01, 1),
)
@settings(max_examples=80, deadline=None)
def test_difficulty_is_the_gap_to_the_reference(
    scores: list[float], references: list[float], exploration: float
) -> None:
    named = dict(zip(SIZES, references, strict=True))
    mixture = Difficulty(references=named, exploration=exploration)
    mixture.observe(window({}, **dict(zip(SIZES, scores, strict=True))))
    gaps = np.maximum(np.array(references) - scores, 0)
    share = gaps / gaps.sum() if gaps.sum() else np.full(3, 1 / 3)
    assert shares_of(mixture) == pytest.approx((1 - exploration) * share + exploration / 3, rel=1e-9)


def test_a_task_without_a_reference_is_measured_against_one_and_without_a_score_as_the_mean() -> None:
    mixture = Difficulty(references={"a": 0.8}, exploration=0.1)
    mixture.observe(window({}, a=0.7, b=0.7))
    assert shares_of(mixture) == pytest.approx([0.9 * gap / 0.6 + 0.1 / 3 for gap in (0.1, 0.3, 0.2)])


def test_the_newest_score_counts_and_losses_do_not() -> None:
    mixture = Difficulty()
    mixture.observe(window({"a": 9.0}, a=0.1, b=0.9, c=0.9))
    mixture.observe(window({"a": 1.0, "b": 50.0}, a=0.9))
    assert shares_of(mixture) == pytest.approx([1 / 3] * 3)


def test_a_task_beyond_its_reference_takes_nothing_from_the_others() -> None:
    mixture = Difficulty(references={"a": 0.5, "b": 0.5, "c": 0.5}, exploration=0.3)
    mixture.observe(window({}, a=0.9, b=0.4, c=0.4))
    assert shares_of(mixture) == pytest.approx([0.1, 0.45, 0.45])


@pytest.mark.parametrize("method", ALL)
def test_what_is_kept_is_small_and_by_name(method: Any) -> None:
    mixture = method()
    for step in range(300):
        mixture.observe(window({"a": 2.0, "b": 1.0 + step}, a=0.5, b=0.1))
    assert len(json.dumps(mixture.state())) < 300
