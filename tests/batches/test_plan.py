from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plans import plan_of, sequence_of
from taskloom.batches.plan import Pace, Plan, TaskDraws
from taskloom.batches.quotas import quotas
from taskloom.batches.shares import bounded
from taskloom.mixture import Seen
from taskloom.mixture.by_loss import ByLoss
from taskloom.mixture.proportional import Proportional
from taskloom.mixture.uniform import Uniform

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
    return plan_of(sizes, probabilities, rows=rows, steps=steps, seed=seed)


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
    steps = [wanted.micro(index) for index in range(40)]
    assert [asked.micro(index) for index in order] == [steps[index] for index in order]


def test_a_longer_run_begins_like_a_shorter_one() -> None:
    short, long = plan(steps=10), plan(steps=500)
    assert [short.micro(index) for index in range(10)] == [long.micro(index) for index in range(10)]


def test_seeds_and_tasks_have_orders_of_their_own() -> None:
    sizes = {"a": 30, "b": 30}
    draws, other = (plan(seed, 30, sizes, {"a": 0.5, "b": 0.5}, 4) for seed in (0, 1))
    assert sequence_of(draws, "a") != sequence_of(draws, "b")
    assert sequence_of(draws, "a") != sequence_of(other, "a")


def test_a_tasks_order_does_not_depend_on_its_neighbours() -> None:
    alone = plan_of({"a": 11}, {"a": 1.0}, rows=3, steps=50)
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
    assert draws.micro(index).items.keys() == {"a"}


# --- shares that change -----------------------------------------------------------------------------------------------


def made(tasks, *, updates=40, rows=8, mixture=None, **options) -> Plan:
    return Plan(tasks, mixture or Uniform(), rows=rows, updates=updates, **options)


def rows_by_update(plan: Plan, name: str) -> list[int]:
    return [len(plan.micro(index).items.get(name, [])) for index in range(len(plan))]


def test_a_task_is_drawn_between_its_first_step_and_its_last() -> None:
    plan = made({"a": TaskDraws(50), "b": TaskDraws(50, start_step=10, end_step=20)})
    rows = rows_by_update(plan, "b")
    assert rows == [0] * 10 + [4] * 10 + [0] * 20
    assert [sum(map(len, plan.micro(index).items.values())) for index in range(40)] == [8] * 40
    assert plan.micro(0).expected == {"a": 8.0}
    assert plan.micro(10).expected == {"a": 4.0, "b": 4.0}


def test_a_task_with_rows_of_its_own_has_them_in_every_micro_batch() -> None:
    plan = made({"a": TaskDraws(50), "b": TaskDraws(50, rows=3), "c": TaskDraws(50)})
    assert set(rows_by_update(plan, "b")) == {3}
    assert set(rows_by_update(plan, "a")) == {4}
    assert sum(plan.expected(0).values()) == 11


@given(
    weights=st.lists(st.floats(0.01, 1.0), min_size=2, max_size=8),
    floor=st.floats(0, 0.12),
    most=st.lists(st.floats(0.2, 2.0), min_size=8, max_size=8),
)
@settings(max_examples=100, deadline=None)
def test_shares_add_up_and_stay_between_floor_and_limit(weights, floor, most) -> None:
    names = "abcdefgh"[: len(weights)]
    limits = dict(zip(names, most, strict=False))
    shares = bounded(dict(zip(names, weights, strict=True)), floor, limits)
    assert sum(shares.values()) == pytest.approx(1.0)
    if sum(limits[name] for name in names) >= 1:
        assert all(shares[name] <= limits[name] * (1 + 1e-9) for name in names)
        assert all(shares[name] >= min(floor, limits[name]) * (1 - 1e-9) for name in names)


def test_a_small_task_keeps_its_floor_beside_large_ones() -> None:
    tasks = {"a": TaskDraws(10**6), "b": TaskDraws(10**6), "c": TaskDraws(10)}
    plan = made(tasks, mixture=Proportional(), floor=0.05, rows=20, updates=200)
    assert plan.totals()["c"] == 200


@given(cap=st.floats(0.5, 6.0), updates=st.integers(20, 120))
@settings(max_examples=25, deadline=None)
def test_no_row_is_drawn_more_often_than_its_cap_allows_and_no_step_is_short(cap, updates) -> None:
    plan = made({"a": TaskDraws(10_000), "b": TaskDraws(17), "c": TaskDraws(31)}, max_epochs=cap, updates=updates)
    totals = plan.totals()
    assert totals["b"] <= cap * 17 + 1
    assert totals["c"] <= cap * 31 + 1
    assert sum(totals.values()) == 8 * updates
    assert plan.foreseen()[1] is None
    least = min(cap * 17, 8 * updates / 3)
    assert totals["b"] >= least - 2, "what the cap allows is spread over the run, not lost"


def test_a_run_that_uses_up_all_its_rows_says_when() -> None:
    plan = made({"a": TaskDraws(16), "b": TaskDraws(16)}, max_epochs=1, updates=40)
    assert plan.foreseen()[1] == 4


def test_a_decision_holds_ahead_of_what_loaders_fetch_and_scales_share_and_weight() -> None:
    plan = made({"a": TaskDraws(50), "b": TaskDraws(50)}, updates=60)
    for index in range(12):
        plan.micro(index)
    assert plan.scale("b", 0.25, 10) == 18
    assert rows_by_update(plan, "b")[:18] == [4] * 18
    assert plan.micro(18).expected["b"] == pytest.approx(8 * 0.2)
    assert plan.micro(18).factors == {"a": 1.0, "b": 0.25}
    assert plan.micro(17).factors == {"a": 1.0, "b": 1.0}
    with pytest.raises(ValueError, match="drawn already"):
        plan.scale("b", 1.0, 10)


def test_rows_of_its_own_follow_a_tasks_factor_over_the_steps() -> None:
    """A quarter of three rows is no whole number: what a step gives too much, the next ones make up for."""
    plan = made({"a": TaskDraws(500), "b": TaskDraws(500, rows=3), "c": TaskDraws(500)}, updates=400)
    plan.scale("b", 0.25, 0)
    drawn = {name: np.cumsum(rows_by_update(plan, name)) for name in "abc"}
    shares = {name: np.cumsum([plan.micro(i).expected[name] for i in range(400)]) for name in "abc"}
    assert all(np.abs(drawn[name] - shares[name]).max() < 2 for name in "abc")
    assert drawn["b"][-1] == pytest.approx(8 * 3 + 392 * 0.75, abs=1)


def test_a_task_that_is_dropped_is_drawn_no_more() -> None:
    plan = made({"a": TaskDraws(50), "b": TaskDraws(50)})
    start = plan.scale("b", 0.0, 5)
    assert rows_by_update(plan, "b") == [4] * start + [0] * (40 - start)


def test_what_a_curriculum_and_a_policy_say_is_multiplied() -> None:
    plan = made({"a": TaskDraws(50), "b": TaskDraws(50)}, updates=60)
    plan.scale("b", 0.0, 0, "curriculum")
    plan.scale("b", 1.0, 20, "curriculum")
    start = plan.scale("b", 0.5, 4)
    assert plan.factors(start)["b"] == 0.0
    assert plan.factors(20)["b"] == 0.5
    assert not any(rows_by_update(plan, "b")[:20])


@given(changes=st.lists(st.tuples(st.integers(0, 3), st.floats(0.05, 4.0)), min_size=1, max_size=20))
@settings(max_examples=40, deadline=None)
def test_quotas_stay_near_their_shares_while_these_change(changes) -> None:
    plan = made({name: TaskDraws(1000) for name in "abcd"}, updates=200, rows=7)
    for number, (task, factor) in enumerate(changes):
        plan.scale("abcd"[task], factor, 8 * number)
    shares, drawn = np.zeros(4), np.zeros(4)
    for index in range(len(plan)):
        micro = plan.micro(index)
        shares += [micro.expected.get(name, 0.0) for name in "abcd"]
        drawn += [len(micro.items.get(name, [])) for name in "abcd"]
        assert drawn.sum() == 7 * (index + 1)
        assert np.abs(drawn - shares).max() < 2


def test_a_plan_taken_up_from_its_state_draws_the_same() -> None:
    def begun() -> Plan:
        return made({name: TaskDraws(30) for name in "abc"}, mixture=ByLoss(), updates=80, rows=7, seed=3)

    plan = begun()
    for step, losses in ((10, {"a": 2.0, "b": 2.0, "c": 2.0}), (20, {"a": 2.0, "b": 0.5, "c": 1.0})):
        plan.mixture.observe(Seen(step, losses, {"a": 9, "b": 9, "c": 9}))
        plan.reweigh(step)
    plan.scale("c", 0.25, 30)
    other = begun()
    other.restore(json.loads(json.dumps(plan.state())))
    assert [other.micro(index) for index in range(40, 80)] == [plan.micro(index) for index in range(80)][40:]
    assert len({tuple(sorted(plan.expected(update).items())) for update in (0, 30, 60)}) == 3


def test_a_paced_task_draws_its_easiest_items_first() -> None:
    plan = made({"a": TaskDraws(100), "b": TaskDraws(100)}, updates=50)
    order = np.random.default_rng(0).permutation(100)
    plan.paces["a"] = Pace(order, lambda update: min(1.0, (update + 1) / 40))
    for update in range(40):
        assert set(plan.micro(update).items["a"]) <= set(order[: int(np.ceil(100 * (update + 1) / 40))].tolist())
    assert sequence_of(plan, "b")[:100] == sequence_of(made({"b": TaskDraws(100)}, updates=50), "b")[:100]
