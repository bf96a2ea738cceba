"""Laws that hold for every policy; a new file in `taskloom/policy` joins by itself."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import tempfile
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskloom.policy import LIMIT_FACTOR, POLICIES, Decision, Policies, Policy, Watched
from taskloom.record import append_line

NAMES = POLICIES.names()
TASKS = ("intent", "slots", "mood", "reply")
EVERY = 10

levels = st.one_of(st.sampled_from([0.0, 0.2, 0.5, 0.8]), st.floats(-2, 2), st.just(math.nan))
columns = st.integers(0, 14).flatmap(
    lambda n: st.fixed_dictionaries(
        {task: st.lists(st.tuples(levels, levels, levels), min_size=n, max_size=n) for task in TASKS}
    )
)
"""For each task its score, training loss and validation loss at each evaluation."""
directions = st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0]), min_size=len(TASKS), max_size=len(TASKS))


def file_of_decisions() -> str:
    path = Path(tempfile.mkdtemp()) / "decisions.jsonl"
    for step, task, factor in [(10, "mood", 0.25), (30, "slots", 0.0), (35, "mood", 1.0), (60, "mood", 0.25)]:
        append_line(path, {"version": 1, **Decision(step, "x", task, factor, f"`{task}` changes.").as_row()})
    return str(path)


FILE = file_of_decisions()


def made(name: str) -> Policy:
    """Make a policy; a required mapping of tasks gets a number for each, a required text is a file of decisions."""
    required: dict[str, Any] = {}
    for option, (hint, default) in POLICIES.options(name).items():
        if default is ...:
            plain = get_args(hint)[0] if hasattr(hint, "__metadata__") else hint
            required[option] = dict.fromkeys(TASKS, 0.7) if get_origin(plain) is dict else FILE
    policy = POLICIES.load(name)(**required)
    policy.begin(TASKS)
    return policy


def watched_at(count: int, curves: dict[str, Any], ways: list[float], factors: dict[str, float]) -> Watched:
    """Give what a run has shown at its evaluation number `count`, from 1."""

    def curve(place: int) -> dict[str, list[tuple[int, float]]]:
        return {
            task: [(EVERY * (at + 1), row[place]) for at, row in enumerate(rows[:count])]
            for task, rows in curves.items()
        }

    gramian = [[one * other + (at == to) for to, other in enumerate(ways)] for at, one in enumerate(ways)]
    records = [{"tasks": list(TASKS), "gramian": gramian}] * (3 * count)
    steps = EVERY * len(curves[TASKS[0]])
    baselines = dict.fromkeys(TASKS, 0.5)
    return Watched(EVERY * count, steps, curve(0), curve(1), curve(2), factors, 0.25, records, baselines)


def run(policy: Any, curves: Any, ways: Any, order: tuple[str, ...] = TASKS, begin: int = 1, end: int | None = None,
        factors: dict[str, float] | None = None) -> list[Decision]:  # fmt: skip
    """Ask a policy at each evaluation, applying what it decides to `factors`."""
    factors = dict.fromkeys(order, 1.0) if factors is None else factors
    decisions = []
    for count in range(begin, (len(curves[TASKS[0]]) if end is None else end) + 1):
        for decision in policy.decide(watched_at(count, curves, ways, dict(factors))):
            factors[decision.task] = decision.factor
            decisions.append(decision)
    return decisions


@pytest.mark.parametrize("name", NAMES)
@given(curves=columns, ways=directions)
@settings(max_examples=40, deadline=None)
def test_a_decision_has_a_known_task_a_sound_factor_and_a_sentence(name: str, curves: Any, ways: Any) -> None:
    for decision in run(made(name), curves, ways):
        assert decision.task in TASKS
        assert isinstance(decision.factor, float)
        assert 0 <= decision.factor <= LIMIT_FACTOR
        assert decision.policy == name
        assert decision.step % EVERY == 0
        assert decision.task in decision.reason
        assert decision.reason[0] == "`" or decision.reason[0].isupper()
        assert decision.reason.endswith(".")
        assert len(decision.reason.split()) > 3
        assert list(decision.as_row()) == ["step", "policy", "task", "factor", "reason"]
        assert Decision(**json.loads(json.dumps(decision.as_row()))) == decision


@pytest.mark.parametrize("name", NAMES)
@given(curves=columns, ways=directions)
@settings(max_examples=40, deadline=None)
def test_a_decision_changes_something_and_each_task_is_told_once(name: str, curves: Any, ways: Any) -> None:
    policy, factors = made(name), dict.fromkeys(TASKS, 1.0)
    for count in range(1, len(curves[TASKS[0]]) + 1):
        decisions = policy.decide(watched_at(count, curves, ways, dict(factors)))
        told = [decision.task for decision in decisions]
        assert told == sorted(set(told), key=TASKS.index)
        for decision in decisions:
            assert decision.factor != factors[decision.task]
            factors[decision.task] = decision.factor
        assert policy.decide(watched_at(count, curves, ways, dict(factors))) == [], "nothing new was shown"


@pytest.mark.parametrize("name", NAMES)
@given(curves=columns, ways=directions, data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_policy_goes_on_from_its_state_as_if_never_stopped(name: str, curves: Any, ways: Any, data: Any) -> None:
    whole = run(made(name), curves, ways)
    stop = data.draw(st.integers(0, len(curves[TASKS[0]])))
    factors, first, second = dict.fromkeys(TASKS, 1.0), made(name), made(name)
    before = run(first, curves, ways, end=stop, factors=factors)
    saved = json.dumps(first.state(), allow_nan=False)
    second.restore(json.loads(saved))
    assert json.dumps(second.state()) == saved
    after = run(second, curves, ways, begin=stop + 1, factors=factors)
    assert before + after == whole
    assert json.dumps(first.state()) == saved, "what is restored shares nothing with what it came from"


@pytest.mark.parametrize("name", NAMES)
@given(curves=columns, ways=directions, order=st.permutations(TASKS))
@settings(max_examples=40, deadline=None)
def test_another_order_of_tasks_gives_the_same_decisions_in_that_order(
    name: str, curves: Any, ways: Any, order: list[str]
) -> None:
    one, other = run(made(name), curves, ways), run(made(name), curves, ways, order=tuple(order))
    assert sorted(other, key=lambda each: (each.step, TASKS.index(each.task))) == one
    assert other == sorted(other, key=lambda each: (each.step, order.index(each.task)))


@pytest.mark.parametrize("name", NAMES)
@given(curves=columns, ways=directions)
@settings(max_examples=30, deadline=None)
def test_what_is_watched_stays_as_it_is(name: str, curves: Any, ways: Any) -> None:
    policy = made(name)
    for count in range(1, len(curves[TASKS[0]]) + 1):
        seen = watched_at(count, curves, ways, dict.fromkeys(TASKS, 1.0))
        before = json.dumps(dataclasses.asdict(seen))
        policy.decide(seen)
        assert json.dumps(dataclasses.asdict(seen)) == before


@pytest.mark.parametrize("name", NAMES)
def test_before_anything_was_shown_nothing_is_decided(name: str) -> None:
    empty = Watched(0, 100, {}, {}, {}, dict.fromkeys(TASKS, 1.0), 0.25, [])
    assert made(name).decide(empty) == []


@given(curves=columns, ways=directions, data=st.data())
@settings(max_examples=40, deadline=None)
def test_all_policies_together_go_on_from_their_state_and_their_factor_is_the_product(
    curves: Any, ways: Any, data: Any
) -> None:
    whole = run(Policies([made(name) for name in NAMES]), curves, ways)
    stop = data.draw(st.integers(0, len(curves[TASKS[0]])))
    factors = dict.fromkeys(TASKS, 1.0)
    first, second = (Policies([made(name) for name in NAMES]) for _ in range(2))
    before = run(first, curves, ways, end=stop, factors=factors)
    second.restore(json.loads(json.dumps(first.state(), allow_nan=False)))
    assert before + run(second, curves, ways, begin=stop + 1, factors=factors) == whole
    held = second.state()["policies"]
    for task in TASKS:
        own = math.prod(each["factors"].get(task, 1.0) for each in held)
        assert factors[task] == second.factor(task) == min(own, LIMIT_FACTOR)


@pytest.mark.parametrize("name", NAMES)
def test_a_policy_is_documented_in_its_class(name: str) -> None:
    text = inspect.getdoc(POLICIES.load(name)) or ""
    assert text.split("\n")[0].endswith(".")
    assert POLICIES.summary(name) == text.split("\n\n")[0].replace("\n", " ")
    for section in ("Prefer", "Do\nnot", "Formula:", "Options:", "State:", ">>>"):
        assert section in text or section.replace("\n", " ") in text, section
    for option in POLICIES.options(name):
        assert f"    {option}: " in text, option
