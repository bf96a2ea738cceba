"""Causes: each named where its figures say so, and none named where they do not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from taskloom.autopilot.diagnosis import Evidence, colliding_prompts, diagnose, judge_poison

MARGIN = 0.01
WELL = Evidence(
    task="intent", rows=400, median_rows=400, drawn=1200, alone=0.8, alone_low=0.75, alone_high=0.85, floor=0.1,
    together=0.8, low=-0.03, high=0.03, curve=(0.5, 0.7, 0.8), loss=(2.4, 0.4), entropy=2.48,
)  # fmt: skip
LOSING = replace(WELL, together=0.7, low=-0.15, high=-0.05)
RANDOM = replace(
    WELL, task="coins", alone=0.52, alone_low=0.46, alone_high=0.58, floor=0.53, together=0.5, loss=(0.69, 0.69),
    entropy=0.693, curve=(0.5, 0.52, 0.5),
)  # fmt: skip


def cause(evidence: Evidence) -> str | None:
    found = diagnose(evidence, MARGIN)
    return found.cause if found else None


def test_a_task_that_neither_loses_nor_lacks_rows_has_no_cause() -> None:
    assert diagnose(WELL, MARGIN) is None
    assert diagnose(replace(WELL, together=0.795), MARGIN) is None  # within the margin


def test_random_labels_are_told_from_a_hard_task() -> None:
    found = diagnose(RANDOM, MARGIN)
    assert found is not None
    assert found.cause == "unlearnable"
    assert found.reason == (
        "alone it scores 0.520 (0.460 … 0.580) where a constant answer gets 0.530, after 3.0 epochs of 400 rows; its "
        "training loss went from 0.690 to 0.690, where how frequent each label is gives 0.693: its labels can't be "
        "learned from its texts: they are random or wrong, or too hard for this backbone"
    )
    hard = replace(RANDOM, alone=0.6, alone_low=0.54, alone_high=0.66, together=0.6)
    assert diagnose(hard, MARGIN) is None


def test_labels_learned_by_heart_are_called_wrong() -> None:
    found = diagnose(replace(RANDOM, loss=(0.69, 0.2)), MARGIN)
    assert found is not None
    assert found.cause == "unlearnable"
    assert found.reason.endswith(
        "it learns its rows by heart, and nothing of them carries over: its labels are random or wrong"
    )


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"drawn": 100}, "but it has been through 0.25 of its rows: that is too little"),
        ({"alone_high": 0.8}, "but that interval reaches up to 0.800: that is too little"),
    ],
)
def test_too_little_training_or_too_few_rows_blame_no_labels(changes: dict[str, float], told: str) -> None:
    found = diagnose(replace(RANDOM, **changes), MARGIN)
    assert found is not None
    assert found.cause == "unclear"
    assert told in found.reason


@pytest.mark.parametrize(
    ("rows", "median", "starved"), [(60, 400, True), (300, 2000, True), (60, 80, False), (300, 400, False)]
)
def test_a_starved_task_is_short_of_rows_beside_the_others(rows: int, median: float, starved: bool) -> None:
    found = cause(replace(WELL, rows=rows, median_rows=median, drawn=3 * rows))
    assert found == ("starved" if starved else None)


def test_few_rows_come_before_labels_that_seem_unlearnable() -> None:
    assert cause(replace(RANDOM, rows=60, drawn=180)) == "starved"


def test_a_losing_task_that_still_rises_in_its_first_epoch_is_starved_of_draws() -> None:
    rising = replace(LOSING, drawn=200, curve=(0.3, 0.5, 0.7))
    assert cause(rising) == "starved"
    assert cause(replace(rising, curve=(0.5, 0.7, 0.7))) == "capacity"
    assert cause(replace(rising, drawn=800)) == "capacity"


def test_causes_of_a_losing_task_come_in_their_order() -> None:
    everything = replace(LOSING, drawn=4000, curve=(0.5, 0.8, 0.7), same_prompts=("topics",), conflicts=("topics",))
    assert cause(everything) == "over-repeated"
    assert cause(replace(everything, curve=(0.5, 0.7, 0.7))) == "format"
    assert cause(replace(everything, curve=(), same_prompts=())) == "conflict"
    assert cause(LOSING) == "capacity"
    assert cause(replace(everything, together=0.8)) is None  # conflict alone is no cause


def test_a_loss_whose_interval_holds_nought_is_said_to_be_perhaps_chance() -> None:
    sure, unsure = diagnose(LOSING, MARGIN), diagnose(replace(LOSING, high=0.02), MARGIN)
    assert sure is not None
    assert unsure is not None
    assert "which may be chance" in unsure.reason
    assert "which may be chance" not in sure.reason


def test_poison_is_what_the_others_do_better_without() -> None:
    found = diagnose(RANDOM, MARGIN)
    assert found is not None
    assert [judge_poison(found, gain, MARGIN).poison for gain in (0.05, 0.005, -0.05, None)] == [
        True,
        False,
        False,
        None,
    ]
    assert judge_poison(found, 0.05, MARGIN).reason.endswith("; the others score +0.050 without: it is poison")


def test_only_tasks_that_say_the_same_words_collide() -> None:
    options = {
        "intent": {"prefix": "Classify: "},
        "topics": {"prefix": "Classify: "},
        "reply": {"prefix": "Answer: "},
        "answer": {},
        "slots": {},
    }
    found = colliding_prompts(options, ["prefix", "instruction"])
    assert found == {"intent": ["topics"], "topics": ["intent"], "reply": [], "answer": [], "slots": []}
