"""Each mitigation against its law: independence, equal draws, a hand computation, copies that differ in words alone."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskloom.batches.plan import Plan, TaskDraws
from taskloom.errors import ConfigError
from taskloom.mitigation import MITIGATIONS, Groups
from taskloom.mitigation.augmentation import Augmentation
from taskloom.mitigation.balanced_sampling import BalancedSampling
from taskloom.mitigation.group_dro import GroupDro
from taskloom.mitigation.reweighing import Reweighing
from taskloom.mixture.uniform import Uniform
from taskloom.tasks import TASKS

cells = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["yes", "no"])), min_size=2, max_size=60)


@given(cells)
def test_reweighing_makes_label_and_group_independent_and_keeps_their_weights(rows: list[tuple[str, str]]) -> None:
    method = Reweighing()
    method.begin(Groups([group for group, _ in rows], [label for _, label in rows]))
    weights = method.factors(range(len(rows)))
    cell: Counter[tuple[str, str]] = Counter()
    for (group, label), weight in zip(rows, weights, strict=True):
        cell[group, label] += weight
    groups, labels = Counter(group for group, _ in rows), Counter(label for _, label in rows)
    for group, label in cell:  # the weighted share of a cell is the product of the shares of its sides
        assert cell[group, label] / len(rows) == pytest.approx(groups[group] / len(rows) * labels[label] / len(rows))
    if len(cell) == len(groups) * len(labels):
        assert weights.mean() == pytest.approx(1.0)


def plan_of(strata: list[str], *, rows: int = 6, updates: int = 40) -> Plan:
    plan = Plan({"t": TaskDraws(len(strata))}, Uniform(), rows=rows, updates=updates, seed=3)
    plan.stratify("t", strata)
    return plan


@given(st.lists(st.sampled_from("aabcc"), min_size=3, max_size=40))
def test_strata_are_drawn_alike_and_within_them_no_row_twice_before_each_was_drawn(strata: list[str]) -> None:
    plan = plan_of(strata)
    drawn = [item for index in range(len(plan)) for item in plan.micro(index).items["t"]]
    kinds = sorted(set(strata))
    for end in range(0, len(drawn) + 1, len(kinds)):
        counts = Counter(strata[item] for item in drawn[:end])
        assert {counts[kind] for kind in kinds} == {end // len(kinds)}
    for kind in kinds:
        own, size = [item for item in drawn if strata[item] == kind], strata.count(kind)
        for start in range(0, len(own) - size + 1, size):
            assert len(set(own[start : start + size])) == size


def test_draws_by_strata_are_a_function_of_the_step_alone() -> None:
    strata = ["a"] * 20 + ["b"] * 3
    whole = [plan_of(strata).micro(index).items for index in range(40)]
    plan = plan_of(strata)
    assert [plan.micro(index).items for index in range(39, -1, -1)] == whole[::-1]
    resumed = plan_of(strata)
    resumed.restore(plan.state())
    assert resumed.micro(25).items == whole[25]


def test_strata_are_groups_and_labels_or_groups_where_there_is_no_label() -> None:
    method = BalancedSampling()
    method.begin(Groups(["a", "b"], ["yes", "no"]))
    assert method.strata() == ["a, yes", "b, no"]
    method.begin(Groups(["a", "b"]))
    assert method.strata() == ["a", "b"]
    method = BalancedSampling(by_label=False)
    method.begin(Groups(["a", "b"], ["yes", "no"]))
    assert method.strata() == ["a", "b"]


def test_group_dro_equals_the_computation_by_hand() -> None:
    method = GroupDro(step_size=0.5, adjustment=2.0, by_label=False)
    method.begin(Groups(["a"] * 6 + ["b"] * 3 + ["c"] * 3))
    assert method.factors([0, 6, 9]).tolist() == pytest.approx([12 / 6 / 3, 12 / 3 / 3, 12 / 3 / 3])
    method.note([0, 1, 7], [1.0, 3.0, 5.0])
    method.close(method.sums())
    raw = {
        "a": math.exp(0.5 * (2.0 + 2.0 / math.sqrt(6))) / 3,
        "b": math.exp(0.5 * (5.0 + 2.0 / math.sqrt(3))) / 3,
        "c": math.exp(0.0) / 3,  # not seen in the step
    }
    q = {group: value / sum(raw.values()) for group, value in raw.items()}
    assert method.shown() == pytest.approx(q)
    assert method.factors([2, 8, 10]).tolist() == pytest.approx([q["a"] * 2, q["b"] * 4, q["c"] * 4])


@given(st.lists(st.floats(0, 5), min_size=12, max_size=12))
def test_the_mean_of_multiplied_losses_is_the_sum_over_groups(losses: list[float]) -> None:
    groups = ["a"] * 6 + ["b"] * 4 + ["c"] * 2
    method = GroupDro(step_size=0.3)
    method.begin(Groups(groups))
    method.note(range(12), losses[::-1])
    method.close(method.sums())
    means = {group: np.mean([x for x, g in zip(losses, groups, strict=True) if g == group]) for group in "abc"}
    expected = sum(q * means[group] for group, q in method.shown().items())
    assert (method.factors(range(12)) * losses).mean() == pytest.approx(expected)


def test_group_dro_goes_on_from_its_state_and_lets_a_loss_be_that_is_not_finite() -> None:
    one, other = GroupDro(step_size=0.5), GroupDro(step_size=0.5)
    for method in (one, other):
        method.begin(Groups(["a", "b"], ["x", "x"]))
    one.note([0], [2.0])
    one.close(one.sums())
    other.restore(one.state())
    assert other.shown() == one.shown()
    one.forget()
    one.note([1], [math.inf])
    one.close(one.sums())
    assert one.shown() == other.shown()


def test_augmentation_appends_what_differs_and_keeps_answers() -> None:
    rows: list[dict[str, Any]] = [
        {"tokens": ["He", "lives", "in", "Rome"], "tags": ["O", "O", "O", "B-city"]},
        {"tokens": ["It", "rains"], "tags": ["O", "O"]},
    ]
    task = TASKS.load("token_classification")()
    made = Augmentation(swaps=[["he", "she", "they"]]).appended(rows, task)
    assert made == [
        (0, {"tokens": ["She", "lives", "in", "Rome"], "tags": ["O", "O", "O", "B-city"]}),
        (0, {"tokens": ["They", "lives", "in", "Rome"], "tags": ["O", "O", "O", "B-city"]}),
    ]


@pytest.mark.parametrize(
    ("method", "options", "kind", "message"),
    [
        (
            "reweighing",
            {},
            "similarity",
            "`method` should fit the task, whose rows must have one label from a list. Found `reweighing` for a task "
            "that answers with a number. Write `balanced_sampling` or `group_dro`.",
        ),
        (
            "augmentation",
            {"swaps": [["he", "she"]]},
            "extractive_qa",
            "`method` should fit the task. Found `augmentation` for a task that answers with a text. "
            "Use it for a task with labels, numbers or tags.",
        ),
    ],
)
def test_a_task_that_a_method_does_not_fit_is_refused(
    method: str, options: dict[str, Any], kind: str, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        MITIGATIONS.load(method)(**options).check(TASKS.load(kind))
    assert str(caught.value) == message


def test_every_mitigation_keeps_a_state_that_json_holds_and_gives_a_factor_for_each_row() -> None:
    for name in MITIGATIONS.names():
        options = {"swaps": [["he", "she"]]} if name == "augmentation" else {}
        method = MITIGATIONS.load(name)(**options)
        method.begin(Groups(["a", "a", "b"], ["x", "y", "y"]))
        before = method.state()
        method.restore(before)
        assert method.state() == before
        factors, strata = method.factors([2, 0]), method.strata()
        assert factors is None or (len(factors) == 2 and (factors > 0).all())
        assert (strata is not None) == method.draws
