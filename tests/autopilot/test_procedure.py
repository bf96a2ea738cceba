"""The parts of the autopilot that train nothing: causes, remedies, the ledger and the decision."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from taskloom.autopilot.decision import Candidate, decide
from taskloom.autopilot.diagnosis import Diagnosis, Evidence, colliding_prompts, diagnose
from taskloom.autopilot.ledger import Ledger, cost_of
from taskloom.autopilot.remedies import TOGETHER, WIDER, remedies, shortened
from taskloom.config import Config, load_config
from taskloom.study.budget import Budget
from taskloom.study.description import Arm
from taskloom.study.members import Member, member_values

HEALTHY = Evidence("intent", rows=4000, median_rows=4000, drawn=8000, alone=0.80, alone_low=0.77, floor=0.2,
                   together=0.81, low=-0.01, high=0.03)  # fmt: skip
LOSER = replace(HEALTHY, together=0.74, low=-0.09, high=-0.03)


def cause(evidence: Evidence) -> str | None:
    found = diagnose(evidence, 0.01)
    return None if found is None else found.cause


def test_a_task_that_loses_nothing_and_lacks_nothing_is_left_alone() -> None:
    assert cause(HEALTHY) is None
    assert cause(replace(HEALTHY, together=0.795)) is None


@pytest.mark.parametrize(
    ("evidence", "wanted"),
    [
        (replace(LOSER, alone=0.51, alone_low=0.45, floor=0.5), "unlearnable"),
        (replace(HEALTHY, alone=0.51, alone_low=0.45, floor=0.5), "unlearnable"),
        (replace(HEALTHY, rows=60, alone=0.51, alone_low=0.45, floor=0.5), "starved"),
        (replace(HEALTHY, rows=900, median_rows=4000), "starved"),
        (replace(LOSER, drawn=1000), "starved"),
        (replace(LOSER, drawn=40_000, curve=[0.6, 0.79, 0.74]), "over-repeated"),
        (replace(LOSER, same_prompts=["slots"], conflicts=["slots"]), "format"),
        (replace(LOSER, conflicts=["slots"]), "conflict"),
        (LOSER, "capacity"),
    ],
)
def test_the_first_cause_that_fits_is_named(evidence: Evidence, wanted: str) -> None:
    assert cause(evidence) == wanted


def test_a_task_that_was_never_read_through_is_not_called_unlearnable() -> None:
    assert cause(replace(HEALTHY, drawn=100, alone=0.2, alone_low=0.1)) == "unclear"


def test_a_reason_tells_the_figures() -> None:
    found = diagnose(replace(HEALTHY, rows=60, drawn=90, together=0.83), 0.01)
    assert found is not None
    assert found.reason == (
        "it has 60 training rows where the median task has 4000, and was drawn 90 times; "
        "with all others it scores +0.030"
    )
    assert not found.loses


def test_prompts_collide_where_their_words_are_the_same() -> None:
    options = {"a": {"prefix": "answer:"}, "b": {"prefix": "answer:"}, "c": {"prefix": "sum up:"}, "d": {}, "e": {}}
    assert colliding_prompts(options, ["prefix"]) == {"a": ["b"], "b": ["a"], "c": [], "d": [], "e": []}


@pytest.fixture
def base(run_values: dict[str, Any]) -> Config:
    run_values["tasks"] = {name: run_values["tasks"][name] for name in ("intent", "topics", "urgency")}
    return load_config(run_values)


def test_every_remedy_is_a_run_and_all_of_them_together_too(base: Config) -> None:
    budget = Budget.of(base)
    causes = {"intent": "unlearnable", "topics": "starved", "urgency": "over-repeated"}
    found = [Diagnosis(name, each, "", loses=True, epochs=8.0) for name, each in causes.items()]  # type: ignore[arg-type]
    tried = {each.arm.name: each.arm for each in remedies(found, base, budget)}
    assert list(tried) == ["without intent", "more topics", "fewer epochs of urgency", TOGETHER]
    assert tried["without intent"].groups == (("topics", "urgency"), ("intent",))
    ratios = tried["more topics"].overrides["mixture"]["ratios"]
    assert ratios["topics"] == pytest.approx(3 * ratios["intent"], rel=0.3)
    assert tried["fewer epochs of urgency"].overrides == {"tasks.urgency.max_epochs": 4.0}
    assert tried[TOGETHER].groups == (("topics", "urgency"), ("intent",))
    assert "intent" not in tried[TOGETHER].overrides["mixture"]["ratios"]
    for arm in tried.values():
        for group in arm.groups:
            values = member_values(base, Member(arm.name, group, arm.overrides), budget)
            assert list(values["tasks"]) == list(group)


@pytest.mark.parametrize("order", [("conflict", "capacity"), ("capacity", "conflict")])
def test_a_wider_rank_goes_to_the_scheme_that_stands_in_an_adapters_place(base: Config, order: tuple[str, str]) -> None:
    budget = Budget.of(base)
    found = [Diagnosis(name, each, "", loses=True) for name, each in zip(("intent", "topics"), order, strict=True)]  # type: ignore[arg-type]
    arm = next(each.arm for each in remedies(found, base, budget) if each.arm.name == TOGETHER)
    rank = (base.model.adapter or {})["r"]
    assert arm.overrides["model.sharing"]["r"] == WIDER * rank
    assert member_values(base, Member(arm.name, arm.groups[0], arm.overrides), budget)["model"]["adapter"] is None


def test_limits_of_epochs_are_reached_in_a_part_of_the_steps_too() -> None:
    arm = Arm("x", (("a",),), {"tasks.a.max_epochs": 4.0, "training.learning_rate": 1.0})
    assert shortened(arm, 0.25).overrides == {"tasks.a.max_epochs": 1.0, "training.learning_rate": 1.0}


def test_tasks_with_the_same_cause_share_a_remedy(base: Config) -> None:
    found = [Diagnosis(name, "starved", "", loses=True) for name in ("intent", "topics")]
    budget = Budget.of(base)
    (remedy,) = remedies(found, base, budget)
    assert remedy.arm.name == "more intent and topics"
    ratios = remedy.arm.overrides["mixture"]["ratios"]
    assert {name: ratios[name] / budget.rows[name] for name in ratios} == pytest.approx(
        {"intent": 3.0, "topics": 3.0, "urgency": 1.0}, abs=0.01
    )
    poisoned = [Diagnosis(name, "unlearnable", "", loses=False) for name in ("intent", "topics")]
    assert [each.task for each in remedies(poisoned, base, budget)] == ["intent", "topics", ""]


def test_a_cause_without_a_remedy_gives_none(base: Config) -> None:
    assert remedies([Diagnosis("intent", "unclear", "", loses=False)], base, Budget.of(base)) == []


@pytest.mark.parametrize("cause", ["capacity", "conflict", "format"])
def test_remedies_of_losers_change_the_model(base: Config, cause: Any) -> None:
    (remedy,) = remedies([Diagnosis("intent", cause, "", loses=True)], base, Budget.of(base))
    values = member_values(base, Member("x", tuple(base.tasks), remedy.arm.overrides), Budget.of(base))
    if cause == "capacity":
        assert values["model"]["adapter"]["r"] == 4 * base.model.adapter["r"]  # type: ignore[index]
    else:
        assert values["model"]["sharing"]["scheme"] == "shared_and_task"


def test_a_ledger_spends_no_more_than_it_has() -> None:
    ledger = Ledger(2.0)
    rows = {"a": 100.0, "b": 300.0}
    assert cost_of([["a"], ["b"]], rows, 1.0, set()) == 1.0
    assert cost_of([["a", "b"]], rows, 0.25, set()) == 0.25
    assert cost_of([["b"], ["a"]], rows, 1.0, {"a"}) == 0.75
    ledger.note("alone", "single", 0, 1.0)
    assert ledger.affords(1.0)
    ledger.note("joint", "joint", 0, 1.0)
    assert not ledger.affords(0.01)
    assert [row["cost"] for row in ledger.as_rows()] == [1.0, 1.0]


def candidate(name: str, models: int = 1, **differences: float) -> Candidate:
    return Candidate(name, {task: np.array([value, value]) for task, value in differences.items()}, models)


WEIGHTS = {"a": 1.0, "b": 1.0}


def test_no_harm_comes_before_the_composite() -> None:
    found = decide([candidate("joint", a=0.3, b=-0.05), candidate("split", 2, a=0.02, b=0.01)], "ab", WEIGHTS, 0.01)
    assert (found.arm, list(found.single)) == ("split", [])


def test_of_arms_that_do_not_differ_the_simplest_is_taken() -> None:
    arms = [candidate("split", 2, a=0.105, b=0.1), candidate("joint", a=0.1, b=0.1)]
    assert decide(arms, "ab", WEIGHTS, 0.01).arm == "joint"


def test_where_all_harm_the_losers_keep_models_of_their_own() -> None:
    arms = [candidate("joint", a=0.2, b=-0.1), candidate("other", a=0.05, b=-0.02)]
    found = decide(arms, "ab", WEIGHTS, 0.01)
    assert (found.arm, list(found.single)) == ("joint", ["b"])
    assert found.composite == pytest.approx(0.1)
    assert found.reason.startswith("`b` would be harmed and keeps a model of its own")


def test_a_task_that_cannot_be_learned_blocks_nothing() -> None:
    found = decide([candidate("joint", a=0.2, b=-0.4)], "a", {"a": 1.0, "b": 0.0}, 0.01)
    assert (list(found.single), found.composite) == ([], pytest.approx(0.2))
    with pytest.raises(ValueError, match="one at least"):
        decide([], "a", WEIGHTS, 0.01)
