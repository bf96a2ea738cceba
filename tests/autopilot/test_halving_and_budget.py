"""Screening, the ledger and the data's profile: what is affordable, what goes on, and what could be told."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from taskloom.autopilot.halving import KEPT, QUARTER, Rung, cost_of_rungs, finalists, rungs, survivors
from taskloom.autopilot.ledger import Ledger, cost_of
from taskloom.autopilot.profile import entropy, seeds_for_a_claim
from taskloom.statistics import verdicts

ROWS = {"intent": 400.0, "topics": 400.0, "urgency": 200.0}


@pytest.mark.parametrize("steps", [20, 160, 1000])
@pytest.mark.parametrize("arms", [1, 2, 3, 4, 5, 9, 40])
def test_a_screening_ends_at_a_quarter_and_never_costs_more_than_all_arms_there(arms: int, steps: int) -> None:
    found = rungs(arms, steps)
    assert found[-1].share == QUARTER
    assert found[-1].kept <= KEPT
    assert all(one.share < other.share and one.kept >= other.kept for one, other in pairwise(found))
    assert cost_of_rungs(found, arms) <= QUARTER * (arms + 1)


def test_many_arms_are_halved_and_few_steps_are_not() -> None:
    assert rungs(9, 320) == [Rung(0.0625, 3), Rung(0.25, 2)]
    assert rungs(9, 300) == [Rung(0.25, 2)]
    assert cost_of_rungs(rungs(9, 320), 9) == pytest.approx(10 / 16 + 4 / 4)


def test_only_arms_that_beat_the_joint_run_go_on_the_best_first() -> None:
    reached = {"joint": 0.5, "a": 0.6, "b": 0.7, "c": 0.5, "d": 0.4}
    assert survivors(reached, "joint", 3) == ["b", "a"]
    assert survivors(reached, "joint", 1) == ["b"]


def test_a_second_finalist_gives_way_to_a_second_seed() -> None:
    assert finalists([1.0, 1.0], 2.0, left=6.0) == 2  # both, and a seed of all
    assert finalists([1.0, 1.0], 2.0, left=4.0) == 1  # the best, and a seed of it
    assert finalists([1.0, 1.0], 2.0, left=3.0) == 2  # no seed either way
    assert finalists([], 2.0, left=9.0) == 0


def test_a_ledger_lets_nothing_pass_its_units() -> None:
    ledger = Ledger(2.0)
    ledger.note("alone", "single", 0, 1.0)
    assert ledger.affords(1.0)
    assert not ledger.affords(1.01)
    ledger.note("joint", "joint", 0, 1.0)
    ledger.annotate("worst task against itself alone: topics -0.020")
    assert ledger.spent == 2.0
    assert [row["result"] for row in ledger.as_rows()] == ["", "worst task against itself alone: topics -0.020"]


def test_an_arm_costs_the_rows_it_draws_less_what_is_trained() -> None:
    tasks = tuple(ROWS)
    alone = tuple((name,) for name in tasks)
    assert cost_of(alone, ROWS, 1.0, set()) == 1.0
    assert cost_of((tasks,), ROWS, 0.25, set()) == 0.25
    assert cost_of((tasks[:2], tasks[2:]), ROWS, 1.0, {"urgency"}) == pytest.approx(0.8)
    assert cost_of(alone, ROWS, 1.0, set(tasks)) == 0.0


def test_entropy_is_the_loss_of_a_model_that_knows_frequencies_alone() -> None:
    shares = np.array([0.5, 0.3, 0.2])
    best = min(-(shares * np.log([p, q, 1 - p - q])).sum() for p in np.linspace(0.01, 0.9, 90)
               for q in np.linspace(0.01, 0.99 - p, 90) if 1 - p - q > 1e-3)  # fmt: skip
    assert entropy(shares) == pytest.approx(best, abs=1e-3)
    assert entropy([0.25] * 4) == pytest.approx(math.log(4))
    assert entropy([1.0, 0.0]) == 0.0


@pytest.mark.parametrize("tasks", [1, 2, 4, 6, 9])
def test_a_claim_takes_as_many_seeds_as_verdicts_need(tasks: int) -> None:
    def sure(seeds: int) -> bool:
        gains = {f"t{place}": [0.1] * seeds for place in range(tasks)}
        return verdicts(gains)[0].word == "helped"

    needed = seeds_for_a_claim(tasks)
    assert sure(needed)
    assert not sure(needed - 1)
