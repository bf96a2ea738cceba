"""Which task enters when, and which items are open, held against closed forms and against the plan that draws them."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskloom.batches.plan import Plan, TaskDraws
from taskloom.config.sections import CurriculumSection, ItemCurriculum, TaskCurriculum
from taskloom.curriculum import Competence, apply, entries, order_of_tasks, pace
from taskloom.curriculum.beginning import Difficulty
from taskloom.errors import ConfigError
from taskloom.mixture.uniform import Uniform

UPDATES = 40
DIFFICULTY = {"hard": 9.0, "easy": 1.0, "middle": 5.0, "harder": 12.0}


def plan_of(sizes: dict[str, int], updates: int = UPDATES, each: int = 2, **options: Any) -> Plan:
    draws = {name: TaskDraws(size) for name, size in sizes.items()}
    return Plan(draws, Uniform(), rows=6, updates=updates, each=each, seed=3, **options)


def tasks_of(**keys: Any) -> TaskCurriculum:
    return TaskCurriculum.model_validate({"by": "length", **keys})


def drawn(plan: Plan) -> dict[str, list[int]]:
    """Give the rows of each task in each optimizer step."""
    rows: dict[str, list[int]] = {name: [0] * plan.updates for name in plan.tasks}
    for index in range(len(plan)):
        for name, items in plan.micro(index).items.items():
            rows[name][index // plan.each] += len(items)
    return rows


# --- tasks ------------------------------------------------------------------------------------------------------------


def test_tasks_are_ordered_by_difficulty_in_both_directions_and_alike_ones_as_they_stand() -> None:
    assert order_of_tasks(tasks_of(), DIFFICULTY) == ["easy", "middle", "hard", "harder"]
    assert order_of_tasks(tasks_of(direction="hard_first"), DIFFICULTY) == ["harder", "hard", "middle", "easy"]
    alike = {"b": 1.0, "a": 1.0, "c": math.inf}
    assert order_of_tasks(tasks_of(), alike) == ["b", "a", "c"]
    assert order_of_tasks(tasks_of(direction="hard_first"), alike) == ["c", "b", "a"]
    assert order_of_tasks(tasks_of(by="listed", order=["c", "a", "b"]), {}) == ["c", "a", "b"]


def test_each_task_is_drawn_from_the_step_on_at_which_it_enters_and_never_before() -> None:
    plan = plan_of(dict.fromkeys(DIFFICULTY, 50))
    decisions = apply(plan, CurriculumSection(tasks=tasks_of(first=1, until=0.75)), Difficulty(tasks=DIFFICULTY))
    entered = {each.task: each.step for each in decisions if each.factor}
    assert entered == {"easy": 0, "middle": 10, "hard": 20, "harder": 30}, "thirds of three quarters of 40 steps"
    for name, rows in drawn(plan).items():
        assert not any(rows[: entered[name]])
        assert all(rows[entered[name] :])
    # Twelve rows a step, shared evenly by those that are there.
    assert [sum(rows) for rows in zip(*drawn(plan).values(), strict=True)] == [12] * UPDATES
    assert drawn(plan)["easy"] == [12] * 10 + [6] * 10 + [4] * 10 + [3] * 10


def test_a_task_leaves_as_the_next_one_enters_where_that_is_asked_for() -> None:
    plan = plan_of(dict.fromkeys(DIFFICULTY, 50))
    section = CurriculumSection(tasks=tasks_of(first=2, until=0.5, leave=True))
    decisions = apply(plan, section, Difficulty(tasks=DIFFICULTY))
    rows = drawn(plan)
    there = [[name for name in DIFFICULTY if rows[name][update]] for update in range(UPDATES)]
    assert there[:10] == [["easy", "middle"]] * 10
    assert there[10:20] == [["hard", "middle"]] * 10
    assert there[20:] == [["hard", "harder"]] * 20
    assert [(each.step, each.task, each.factor) for each in decisions] == [
        (0, "easy", 1.0), (0, "middle", 1.0), (0, "hard", 0.0), (0, "harder", 0.0),
        (10, "hard", 1.0), (10, "easy", 0.0), (20, "harder", 1.0), (20, "middle", 0.0),
    ]  # fmt: skip


def test_decisions_name_the_curriculum_and_give_their_numbers_in_full_sentences() -> None:
    found = entries(["easy", "hard"], tasks_of(leave=True), 100, DIFFICULTY)
    assert [(each.update, each.reason) for each in found] == [
        (0, "`easy` is there from the start: 1 of 2 by length, easy first (1.0 tokens an item)."),
        (0, "`hard` waits until 50 steps are done: 2 of 2 by length, easy first (9.0 tokens an item)."),
        (50, "`hard` enters: 2 of 2 by length, easy first (9.0 tokens an item)."),
        (50, "`easy` leaves as `hard` enters: the newest task alone stays."),
    ]
    for by, value, words in (
        ("loss", 1.23456, "zero-shot loss 1.235"),
        ("loss", math.inf, "a loss that is not finite"),
        ("speed", -0.125, "its loss fell by 12.5% in the probe"),
        ("speed", 0.02, "its loss rose by 2.0% in the probe"),
    ):
        reason = entries(["a", "b"], tasks_of(by=by), 100, {"a": value, "b": value})[0].reason
        assert reason == f"`a` is there from the start: 1 of 2 by {by}, easy first ({words})."
    listed = tasks_of(by="listed", order=["a", "b"])
    assert entries(["a", "b"], listed, 100, {})[-1].reason == "`b` enters: 2 of 2 as listed."
    plan = plan_of({"a": 5, "b": 5})
    decisions = apply(plan, CurriculumSection(tasks=listed), Difficulty(tasks={}))
    assert {each.policy for each in decisions} == {"curriculum"}


def test_a_policy_scales_what_the_curriculum_lets_in_and_brings_nothing_in_before() -> None:
    plan = plan_of(dict.fromkeys(DIFFICULTY, 50), each=1)
    apply(plan, CurriculumSection(tasks=tasks_of(first=2, until=0.5, leave=True)), Difficulty(tasks=DIFFICULTY))
    plan.scale("hard", 0.5, 2)  # holds from step 10 on
    plan.scale("harder", 2.0, 2)
    plan.scale("middle", 0.25, 2)
    rows = drawn(plan)
    assert not any(rows["harder"][:20])
    assert all(rows["harder"][20:])
    assert not any(rows["middle"][20:])
    assert plan.factors(30) == {"hard": 0.5, "easy": 0.0, "middle": 0.0, "harder": 2.0}


@given(st.integers(2, 9), st.integers(1, 8), st.floats(0.01, 0.99), st.integers(1, 500), st.booleans())
def test_entries_stand_in_order_and_end_by_the_share_that_is_asked_for(
    tasks: int, first: int, until: float, updates: int, leave: bool
) -> None:
    first = min(first, tasks - 1)
    names = [str(place) for place in range(tasks)]
    section = tasks_of(by="listed", order=names, first=first, until=until, leave=leave)
    found = entries(names, section, updates, {})
    steps = [each.update for each in found]
    assert steps == sorted(steps)
    entered = {name: next(each.update for each in found if each.task == name and each.factor) for name in names}
    assert list(entered) == sorted(names, key=lambda name: entered[name])
    assert all(entered[name] == 0 for name in names[:first])
    assert until * updates - 1 < entered[names[-1]] <= until * updates + 1e-6
    stages = np.diff([entered[name] for name in names[first - 1 :]])
    assert stages.max() - stages.min() <= 1 + 1e-9, "even stages"
    left = [each for each in found if not each.factor and "leaves" in each.reason]
    assert len(left) == (tasks - first if leave else 0)


def test_a_schedule_under_which_a_task_is_never_drawn_or_a_step_is_empty_is_refused() -> None:
    section = CurriculumSection(tasks=tasks_of(leave=True, until=0.5))
    with pytest.raises(ConfigError) as caught:
        apply(plan_of(dict.fromkeys(DIFFICULTY, 50), updates=3), section, Difficulty(tasks=DIFFICULTY))
    assert str(caught.value) == (
        "`curriculum.tasks` should let every task be drawn. Found no draw of `hard`, `easy`. "
        "Train longer, lower `until`, or write `leave: false`."
    )
    draws = {"easy": TaskDraws(50, end_step=10), "hard": TaskDraws(50)}
    plan = Plan(draws, Uniform(), rows=4, updates=UPDATES)
    with pytest.raises(ConfigError) as caught:
        apply(plan, CurriculumSection(tasks=tasks_of(until=0.5)), Difficulty(tasks={"easy": 1.0, "hard": 2.0}))
    assert str(caught.value) == (
        "`curriculum.tasks` should leave a task with rows to every step. Found none in step 10. "
        "Write `leave: false`, a larger `first`, or other `start_step`, `end_step` and `max_epochs` of tasks."
    )


# --- items ------------------------------------------------------------------------------------------------------------


@given(st.floats(0.001, 1.0), st.integers(1, 1000), st.integers(0, 2000))
def test_competence_is_the_root_of_a_line_from_its_start_squared_to_one(c0: float, steps: int, t: int) -> None:
    wanted = min(1.0, (t * (1 - c0 * c0) / steps + c0 * c0) ** 0.5)
    assert Competence(c0, steps)(t) == pytest.approx(wanted, rel=1e-12)
    assert Competence(c0, steps)(0) == pytest.approx(c0)
    assert Competence(c0, steps)(steps) == 1.0


def test_the_rate_of_new_items_is_inverse_to_the_competence() -> None:
    """Platanios 2019 derive the formula from dc/dt = P / c."""
    competence = Competence(0.1, 1000)
    for t in (50, 300, 900):
        slope = (competence(t + 1) - competence(t - 1)) / 2
        assert slope * competence(t) == pytest.approx((1 - 0.1**2) / 2000, rel=1e-4)


@pytest.mark.parametrize("direction", ["easy_first", "hard_first"])
def test_items_that_are_drawn_are_among_the_first_of_the_order_that_competence_opens(direction: str) -> None:
    size, until, start = 200, 0.5, 0.05
    difficulty = np.random.default_rng(0).permutation(size).astype(float)
    section = ItemCurriculum.model_validate(
        {"by": "length", "direction": direction, "start": start, "until": until, "tasks": ["a"]}
    )
    plan = plan_of({"a": size, "b": size}, each=2)
    apply(plan, CurriculumSection(items=section), Difficulty(items={"a": difficulty}))
    rank = difficulty if direction == "easy_first" else size - 1 - difficulty
    reached = []
    for index in range(len(plan)):
        update = index // plan.each
        share = min(1.0, math.sqrt(update * (1 - start**2) / (until * UPDATES) + start**2))
        ranks = rank[plan.micro(index).items["a"]]
        assert (ranks < math.ceil(share * size)).all()
        reached.append(ranks.max() / size)
    assert max(reached[:2]) < 0.06
    assert max(reached[20:40]) > 0.6, "what is open is used"
    late = [item for index in range(40, 80) for item in plan.micro(index).items["a"]]
    assert max(rank[late]) > 0.95 * size
    unpaced = plan_of({"a": size, "b": size}, each=2)
    assert [plan.micro(i).items["b"] for i in range(80)] == [unpaced.micro(i).items["b"] for i in range(80)]


def test_alike_items_keep_their_order_and_infinite_ones_are_the_hardest() -> None:
    section = ItemCurriculum(by="loss")
    assert pace(section, [2.0, 1.0, math.inf, 1.0], 10).order.tolist() == [1, 3, 0, 2]
    section = ItemCurriculum(by="loss", direction="hard_first")
    assert pace(section, [2.0, 1.0, math.inf, 1.0], 10).order.tolist() == [2, 0, 1, 3]


def test_a_pace_goes_to_worker_processes() -> None:
    made = pickle.loads(pickle.dumps(pace(ItemCurriculum(by="length", start=0.5), [3, 1, 2], 100)))
    assert made.order.tolist() == [1, 2, 0]
    assert made.competence(0) == 0.5
    assert made.competence(50) == 1.0
