"""Each policy on curves that are known: what it must do, what it must leave alone, and what noise may do to it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from taskloom.errors import ConfigError
from taskloom.gradients.conflict import interval
from taskloom.policy import Decision, Policies, Policy, Watched
from taskloom.policy._curves import mean, noise, since
from taskloom.policy.drop_harmful import DropHarmful, cosine_with_others
from taskloom.policy.lower_overfitting import LowerOverfitting
from taskloom.policy.raise_behind import RaiseBehind
from taskloom.policy.replay import Replay
from taskloom.policy.rest_converged import RestConverged
from taskloom.record import Record

Values = Sequence[float]


def run(
    policy: Policy | Policies,
    scores: Mapping[str, Values],
    *,
    losses: Mapping[str, Values] | None = None,
    held: Mapping[str, Values] | None = None,
    conflicts: Callable[[int], list[dict[str, Any]]] = lambda count: [],
    baselines: Mapping[str, float] | None = None,
    factors: dict[str, float] | None = None,
    steps: int | None = None,
) -> list[Decision]:
    """Run a policy over curves with an evaluation every ten steps."""

    def shown(curves: Mapping[str, Values] | None, count: int) -> dict[str, list[tuple[int, float]]]:
        return {
            task: [(10 * at, value) for at, value in enumerate(values[:count], start=1)]
            for task, values in (curves or {}).items()
        }

    factors = dict.fromkeys(scores, 1.0) if factors is None else factors
    length = max(len(values) for values in scores.values())
    decisions = []
    for count in range(1, length + 1):
        seen = Watched(
            10 * count,
            steps or 10 * length,
            shown(scores, count),
            shown(losses, count),
            shown(held, count),
            dict(factors),
            0.25,
            conflicts(count),
            baselines or {},
        )
        for decision in policy.decide(seen):
            factors[decision.task] = decision.factor
            decisions.append(decision)
    return decisions


def told(decisions: list[Decision]) -> list[tuple[int, str, float]]:
    return [(each.step, each.task, each.factor) for each in decisions]


def drawn(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=count)


# Curves.


def test_values_since_a_step_leave_out_what_is_not_finite() -> None:
    curve: list[Any] = [(10, 1.0), (20, math.nan), (30, None), (40, 2.0), (50, math.inf), (60, 3.0)]
    assert since(curve, -1) == [1.0, 2.0, 3.0]
    assert since(curve, 40) == [3.0]
    assert mean(since(curve, -1)) == 2.0


def test_noise_is_the_standard_deviation_around_a_straight_line_and_zero_without_any() -> None:
    line = 0.3 + 0.05 * np.arange(2000)
    assert noise((line + 0.02 * drawn(0, 2000)).tolist()) == pytest.approx(0.02, rel=0.08)
    assert noise(line.tolist()) == 0.0
    assert noise([1.0, 5.0]) == 0.0
    jump = np.where(np.arange(2000) < 1000, 0.0, 5.0)
    assert noise((jump + 0.02 * drawn(1, 2000)).tolist()) == pytest.approx(0.02, rel=0.08)


# rest_converged.


def useless(seed: int, count: int) -> list[float]:
    """Scores of a task with labels at random: chance and the noise of its validation rows."""
    values: list[float] = (0.5 + 0.02 * drawn(seed, count)).tolist()
    return values


def test_a_flat_score_rests_and_a_fall_wakes_with_the_numbers_that_decided() -> None:
    scores = [0.5, 0.7, 0.8, 0.8, 0.8, 0.8, 0.8, 0.5]
    decisions = run(RestConverged(), {"mood": scores})
    assert told(decisions) == [(60, "mood", 0.25), (80, "mood", 1.0)]
    assert decisions[0].reason == (
        "`mood` rests: in its last 2 evaluations its best score was 0.8, not more than 0.001 (relative) above the 0.8 "
        "it had before, and its mean went from 0.8 to 0.8."
    )
    assert decisions[1].reason.startswith("`mood` wakes: its score fell from 0.8, where it went to rest, to 0.65 over")


def test_a_resting_task_gets_the_share_of_the_run_unless_it_has_one_of_its_own() -> None:
    flat = {"mood": [0.8] * 6}
    assert told(run(RestConverged(), flat)) == [(40, "mood", 0.25)]
    assert told(run(RestConverged(rest_share=0.1), flat)) == [(40, "mood", 0.1)]
    assert told(run(RestConverged(patience=3), flat)) == [(60, "mood", 0.25)]


def test_a_task_without_use_comes_to_rest_and_stays_there() -> None:
    logs = [run(RestConverged(), {"random": useless(seed, 20)}) for seed in range(200)]
    assert all(log and log[0].factor == 0.25 for log in logs), "labels at random are never learned"
    assert np.mean([log[0].step for log in logs]) < 80
    assert np.mean([any(each.factor == 1.0 for each in log) for log in logs]) < 0.1
    assert max(len(log) for log in logs) <= 3


def test_a_task_that_improves_steadily_does_not_rest() -> None:
    curves = [(0.2 + 0.02 * np.arange(20) + 0.01 * drawn(seed, 20)).tolist() for seed in range(200)]
    assert [log for log in (run(RestConverged(), {"slow": curve}) for curve in curves) if log] == []


def test_a_lucky_score_does_not_send_an_improving_task_to_rest() -> None:
    scores = [0.20, 0.24, 0.40, 0.32, 0.36, 0.40, 0.44, 0.48, 0.52]
    assert max(scores[3:5]) < scores[2], "no better score at two evaluations, which is enough for the paper's rule"
    assert run(RestConverged(), {"slow": scores}) == []


def test_a_task_that_converged_rests_and_does_not_flap() -> None:
    curves = [(0.9 - 0.6 * np.exp(-np.arange(40) / 3) + 0.01 * drawn(seed, 40)).tolist() for seed in range(200)]
    logs = [run(RestConverged(), {"task": curve}) for curve in curves]
    assert all(log and log[0].factor == 0.25 for log in logs)
    assert np.mean([log[0].step for log in logs]) > 100, "not while it still learns"
    assert np.mean([len(log) > 1 for log in logs]) < 0.05


def test_a_fall_beyond_noise_wakes_soon_after_it() -> None:
    after = np.where(np.arange(30) >= 20, -0.1, 0.0)
    logs = [run(RestConverged(), {"task": (0.8 + 0.01 * drawn(seed, 30) + after).tolist()}) for seed in range(200)]
    awake = [[each.step for each in log if each.factor == 1.0 and each.step > 200] for log in logs]
    assert np.mean([bool(steps) and steps[0] <= 230 for steps in awake]) > 0.95


def test_evaluations_in_which_a_task_was_not_trained_do_not_send_it_to_rest() -> None:
    policy = RestConverged()
    curve = [(10 * at, 0.5) for at in range(1, 20)]
    for at in range(1, 8):
        seen = Watched(10 * at, 200, {"late": curve[:at]}, {}, {}, {"late": 0.0}, 0.25, [])
        assert policy.decide(seen) == []
    found = [
        at
        for at in range(8, 14)
        if policy.decide(Watched(10 * at, 200, {"late": curve[:at]}, {}, {}, {"late": 1.0}, 0.25, []))
    ]
    assert found == [11]


# lower_overfitting.

FALLING = [1.0 / (1 + at) for at in range(20)]


def test_a_task_is_lowered_while_its_training_loss_falls_and_its_validation_loss_rises() -> None:
    held = [1.0, 0.8, 0.7, 0.7, 0.9, 1.1, 1.3, 1.5, 1.7, 1.9, 2.1, 2.3, 2.5, 2.7, 2.9, 3.1, 3.3, 3.5, 3.7, 3.9]
    decisions = run(LowerOverfitting(), {"a": [0.8] * 20}, losses={"a": FALLING}, held={"a": held})
    assert [each.factor for each in decisions] == [0.5, 0.25, 0.125, 0.1]
    assert decisions[0].step in {50, 60}
    assert "its validation loss went from" in decisions[0].reason


def test_a_task_comes_back_by_the_same_steps_when_it_recovers() -> None:
    held = [0.7, 0.7, 0.9, 1.1, 1.3, 1.5, 1.7, 1.9, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7]
    decisions = run(LowerOverfitting(), {"a": [0.8] * 20}, losses={"a": FALLING}, held={"a": held})
    assert [each.factor for each in decisions] == [0.5, 0.25, 0.5, 1.0]
    assert "back at the 0.7 it had before it overfitted" in decisions[-1].reason


@pytest.mark.parametrize("seed", range(20))
def test_noise_alone_is_hardly_ever_taken_for_overfitting(seed: int) -> None:
    logs = []
    for draw in range(10):
        held = (0.7 + 0.02 * drawn(1000 * seed + draw, 12)).tolist()
        logs.append(run(LowerOverfitting(), {"a": [0.8] * 12}, losses={"a": FALLING[:12]}, held={"a": held}))
    assert sum(bool(log) for log in logs) <= 3


def test_a_task_that_forgets_does_not_overfit() -> None:
    rising = FALLING[::-1]
    assert run(LowerOverfitting(), {"a": [0.8] * 20}, losses={"a": rising}, held={"a": rising}) == []


def test_a_validation_loss_that_rises_beside_a_score_that_rises_is_no_overfitting() -> None:
    held = [0.7 + 0.1 * at for at in range(20)]
    better = [0.5 + 0.02 * at for at in range(20)]
    assert run(LowerOverfitting(), {"a": better}, losses={"a": FALLING}, held={"a": held}) == []


def test_without_validation_losses_a_falling_score_shows_overfitting() -> None:
    scores = [0.6, 0.7, 0.8, 0.8, 0.7, 0.6, 0.5]
    decisions = run(LowerOverfitting(), {"a": scores}, losses={"a": FALLING[:7]})
    assert [each.factor for each in decisions] == [0.5]
    assert "its score went from 0.8 to" in decisions[0].reason
    assert run(LowerOverfitting(), {"a": scores}, losses={"a": FALLING[::-1][:7]}) == []


# raise_behind.


def test_a_task_behind_its_reference_is_raised_by_its_gap_and_let_go_when_it_has_caught_up() -> None:
    policy = RaiseBehind(references={"a": 0.8})
    scores = [0.4, 0.4, 0.6, 0.6, 0.68, 0.76, 0.8, 0.8, 0.79, 0.8, 0.8, 0.8]
    decisions = run(policy, {"a": scores, "b": [0.1] * 12})
    assert [(each.step, each.task, round(each.factor, 3)) for each in decisions] == [
        (30, "a", 2.25), (60, "a", 1.25), (70, "a", 1.0),
    ], "from 2.25 to 1.75 is less than a quarter"  # fmt: skip
    assert decisions[0].reason.startswith("`a` is behind: its score 0.6 lies 25 % below its reference 0.8, where")
    assert decisions[-1].reason == "`a` has caught up: its score 0.8 reaches its reference 0.8."


def test_no_task_is_raised_beyond_the_limit_or_before_its_time() -> None:
    scores = {"a": [0.01] * 8}
    assert told(run(RaiseBehind(references={"a": 0.8}, limit=2.5), scores)) == [(20, "a", 2.5)]
    assert told(run(RaiseBehind(references={"a": 0.8}, after=0.5), scores)) == [(40, "a", 3.0)]
    assert run(RaiseBehind(references={"b": 0.8}), scores) == []


def test_a_task_at_its_reference_is_seldom_raised_by_noise() -> None:
    curves = [(0.8 + 0.02 * drawn(seed, 20)).tolist() for seed in range(100)]
    logs = [run(RaiseBehind(references={"a": 0.8}), {"a": curve}) for curve in curves]
    assert np.mean([len(log) for log in logs]) < 2
    assert max(each.factor for log in logs for each in log) < 1.5


def test_a_reference_of_zero_or_less_has_a_gap_as_well() -> None:
    negative = run(RaiseBehind(references={"a": -0.4}, after=0), {"a": [-0.5]})
    zero = run(RaiseBehind(references={"a": 0.0}, after=0), {"a": [-0.2]})
    assert [each.factor for each in negative + zero] == pytest.approx([2.25, 2.0])


# drop_harmful.

FOUR = ("a", "b", "c", "d")


def records(directions: Mapping[str, float], count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Give conflict records of gradients with a common part times each task's direction, and noise."""
    found = []
    for at in range(count):
        generator = np.random.default_rng([seed, at])
        common = np.ones(40) / math.sqrt(40)
        rows = np.stack([way * common + 0.15 * generator.normal(size=40) for way in directions.values()])
        found.append({"tasks": list(directions), "gramian": (rows @ rows.T).tolist()})
    return found


def against(task: str) -> dict[str, float]:
    return {name: -1.0 if name == task else 1.0 for name in FOUR}


def test_the_cosine_with_the_others_is_that_of_the_gradients() -> None:
    rows = np.random.default_rng(0).normal(size=(4, 9))
    record = {"tasks": list(FOUR), "gramian": (rows @ rows.T).tolist()}
    others = rows[[0, 1, 3]].sum(axis=0)
    wanted = rows[2] @ others / np.linalg.norm(rows[2]) / np.linalg.norm(others)
    assert cosine_with_others(record, "c") == pytest.approx(wanted)
    assert math.isnan(cosine_with_others(record, "z"))
    assert math.isnan(cosine_with_others({"tasks": ["a", "b"], "gramian": [[1.0, None], [None, 1.0]]}, "a"))
    assert math.isnan(cosine_with_others({"tasks": ["a"], "gramian": [[1.0]]}, "a"))


def learning(*stuck: str, count: int = 12) -> dict[str, list[float]]:
    return {
        task: useless(place, count) if task in stuck else [0.5 + 0.03 * at for at in range(count)]
        for place, task in enumerate(FOUR)
    }


CHANCE = dict.fromkeys(FOUR, 0.52)


def test_a_useless_task_against_all_others_is_dropped_for_good_with_its_numbers() -> None:
    policy = DropHarmful()
    decisions = run(policy, learning("c"), conflicts=lambda n: records(against("c"), 5 * n), baselines=CHANCE)
    assert [(each.task, each.factor) for each in decisions] == [("c", 0.0)]
    assert decisions[0].step >= 50, "three evaluations in a row after a quarter of the run"
    count = min(20, decisions[0].step // 2)
    found = interval(
        cosine_with_others(record, "c") for record in records(against("c"), decisions[0].step // 2)[-count:]
    )
    assert f"over {count} conflict records" in decisions[0].reason
    assert f"{found.mean:.4g}, in 95 % between {found.low:.4g} and {found.high:.4g}" in decisions[0].reason


def test_conflict_alone_or_a_poor_score_alone_drops_nothing() -> None:
    def conflict(count: int) -> list[dict[str, Any]]:
        return records(against("c"), 5 * count)

    def harmony(count: int) -> list[dict[str, Any]]:
        return records(dict.fromkeys(FOUR, 1.0), 5 * count)

    assert run(DropHarmful(), learning(), conflicts=conflict, baselines=CHANCE) == []
    assert run(DropHarmful(), learning("c"), conflicts=harmony, baselines=CHANCE) == []
    assert run(DropHarmful(), learning("c"), baselines=CHANCE) == [], "no records"
    assert run(DropHarmful(), learning("c"), conflicts=conflict) == [], "no constant answer is known"
    assert told(run(DropHarmful(constants={"c": 0.52}), learning("c"), conflicts=conflict))[0][1:] == ("c", 0.0)


def test_gradients_that_are_only_noise_to_each_other_drop_hardly_anything() -> None:
    unrelated = dict.fromkeys(FOUR, 0.0)
    logs = [
        run(DropHarmful(), learning(*FOUR), conflicts=lambda n, s=seed: records(unrelated, 5 * n, s), baselines=CHANCE)
        for seed in range(30)
    ]
    assert np.mean([bool(log) for log in logs]) < 0.25


def test_the_last_two_tasks_are_never_dropped_and_one_at_most_at_an_evaluation() -> None:
    ways = {"a": 1.0, "b": -0.8, "c": 1.0, "d": -0.9}
    policy = DropHarmful(patience=1, after=0)

    def conflicts(count: int) -> list[dict[str, Any]]:
        return records(ways, 5 * count)

    decisions = run(policy, learning(*FOUR), conflicts=conflicts, baselines=dict.fromkeys(FOUR, 0.9))
    steps = [each.step for each in decisions]
    assert len(steps) == len(set(steps)) == 2
    two = {"a": 1.0, "b": 1.0}
    opposed = [{"tasks": ["a", "b"], "gramian": [[1.0, -0.9], [-0.9, 1.0]]}] * 10
    scores = {task: useless(0, 12) for task in two}
    assert run(DropHarmful(patience=1), scores, conflicts=lambda n: opposed, baselines=dict.fromkeys(two, 0.9)) == []


# Several at once.


class Says(Policy):
    """Decides what it is told to, at given steps."""

    def __init__(self, *, plan: Mapping[int, tuple[str, float]]) -> None:
        self.plan = plan

    def decide(self, watched: Watched) -> list[Decision]:
        if watched.step not in self.plan:
            return []
        task, factor = self.plan[watched.step]
        return [Decision(watched.step, "says", task, factor, f"`{task}` gets {factor:g}.")]


FLAT = {"a": [0.5] * 6, "b": [0.5] * 6}


def test_factors_of_several_policies_multiply_and_each_keeps_its_own() -> None:
    one, other = Says(plan={10: ("a", 0.25), 40: ("a", 1.0)}), Says(plan={20: ("a", 2.0), 40: ("b", 3.0)})
    decisions = run(Policies([one, other]), FLAT)
    assert told(decisions) == [(10, "a", 0.25), (20, "a", 0.5), (40, "a", 2.0), (40, "b", 3.0)]
    assert decisions[0].reason == "`a` gets 0.25."
    assert decisions[1].reason == "`a` gets 2. With what every policy says of it, its factor is 0.5."


def test_what_several_say_of_a_task_at_once_is_one_decision() -> None:
    decisions = run(Policies([RestConverged(), Says(plan={40: ("a", 2.0)})]), {"a": [0.5] * 5})
    assert told(decisions) == [(40, "a", 0.5)]
    assert decisions[0].policy == "rest_converged + says"
    assert "`a` rests: " in decisions[0].reason
    assert "`a` gets 2." in decisions[0].reason


def test_a_dropped_task_stays_dropped_whatever_the_others_say() -> None:
    drop, lift = Says(plan={20: ("a", 0.0)}), Says(plan={10: ("a", 2.0), 30: ("a", 4.0)})
    for order in ([drop, lift], [lift, drop]):
        assert told(run(Policies(order), FLAT)) == [(10, "a", 2.0), (20, "a", 0.0)]


def test_the_product_of_all_stays_at_ten_at_most() -> None:
    high = [Says(plan={10: ("a", 6.0)}), Says(plan={20: ("a", 6.0)})]
    assert told(run(Policies(high), FLAT)) == [(10, "a", 6.0), (20, "a", 10.0)]


def test_policies_are_made_from_the_entries_of_a_run_file() -> None:
    sections = [{"name": "rest_converged", "patience": 3}, {"name": "taskloom.policy.drop_harmful:DropHarmful"}]
    made = Policies.of(sections, ["a", "b"])
    assert [policy.name for policy in made.policies] == ["rest_converged", "drop_harmful"]
    assert made.needs == {"conflicts", "baselines"}
    assert Policies.of([], ["a"]).decide(Watched(10, 20, {}, {}, {}, {"a": 1.0}, 0.25, [])) == []
    assert Says(plan={}).name == f"{__name__}:Says"


# replay.


def recorded(folder: Path, decisions: Sequence[Decision]) -> Record:
    record = Record.create(folder)
    for decision in decisions:
        record.append_decision(decision.as_row())
    return record


def test_a_replay_makes_the_same_decisions_at_the_same_steps_without_what_led_to_them(tmp_path: Path) -> None:
    scores = {"a": [0.5, 0.7, *[0.8] * 5, 0.4, 0.4, 0.95], "b": [0.1 * at for at in range(10)]}
    made: dict[str, float] = dict.fromkeys(scores, 1.0)
    first = run(Policies([RestConverged(), RaiseBehind(references={"a": 0.9})]), scores, factors=made)
    assert len(first) > 2
    record = recorded(tmp_path / "first", first)
    for file in (record.folder, record.decisions_jsonl):
        factors: dict[str, float] = dict.fromkeys(scores, 1.0)
        policies = Policies.of([{"name": "replay", "file": str(file)}], ["a", "b"])
        again = run(policies, {task: [0.0] * 10 for task in scores}, factors=factors)
        assert told(again) == told(first)
        assert factors == made
        assert all(each.policy == "replay" for each in again)
        assert again[0].reason == f"As in step {first[0].step} of `{file}`: {first[0].reason}"


def test_a_decision_between_two_evaluations_waits_for_the_next_and_the_latest_counts(tmp_path: Path) -> None:
    log = [Decision(step, "x", "a", factor, "So.") for step, factor in [(12, 0.5), (17, 0.25), (25, 0.25), (31, 1.0)]]
    record = recorded(tmp_path / "first", log)
    assert told(run(Replay(file=str(record.folder)), FLAT)) == [(20, "a", 0.25), (40, "a", 1.0)]


def refused(file: Path, tasks: Sequence[str] = ("a", "mood")) -> str:
    with pytest.raises(ConfigError) as caught:
        Replay(file=str(file)).begin(tasks)
    assert len(caught.value.faults) == 1
    return str(caught.value).replace(str(file), "FILE")


def test_a_missing_file_is_one_fault(tmp_path: Path) -> None:
    wanted = "`file` should be a log of decisions, or a run folder that holds one. Found no file "
    hint = "A run with `policies` writes one as decisions.jsonl into its folder."
    assert refused(tmp_path / "none.jsonl") == f"{wanted}`FILE`. {hint}"
    assert refused(tmp_path) == f"{wanted}`FILE/decisions.jsonl`. {hint}"


def test_unknown_tasks_are_one_fault_with_the_nearest_name(tmp_path: Path) -> None:
    log = [Decision(10, "x", task, 0.5, "So.") for task in ("mod", "a", "zzz", "mod")]
    record = recorded(tmp_path / "first", log)
    assert refused(record.decisions_jsonl) == (
        "`file` should hold decisions for the run's tasks alone. Found `mod`, `zzz` in `FILE`. Did you mean `mood`?"
    )
    with pytest.raises(ConfigError, match="Found `mod`, `zzz`"):
        Replay(file=str(record.folder)).decide(Watched(10, 20, {}, {}, {}, {"a": 1.0}, 0.25, []))


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ('{"version": 1, "step": 10}', "a line without a sound step, task, factor and reason in `FILE`"),
        ('{"version": 1, "step": 1, "policy": "x", "task": "a", "factor": 11, "reason": "."}', "a line without"),
        ('{"version": 1, "step": 1, "policy": "x", "task": "a", "factor": null, "reason": "."}', "a line without"),
        ('{"version": 1, "step": "1", "policy": "x", "task": "a", "factor": 1, "reason": "."}', "a line without"),
        ('{"version": 2, "step": 10}', "`version`: `2` in `FILE`"),
        ("[]", "`record`: something else in `FILE`"),
    ],
)
def test_a_file_that_is_no_log_is_one_fault(tmp_path: Path, line: str, found: str) -> None:
    (tmp_path / "log.jsonl").write_text(line + "\n")
    wanted = "`file` should be a log of decisions, or a run folder that holds one. Found "
    assert refused(tmp_path / "log.jsonl").startswith(wanted + found)


def test_going_on_with_a_file_that_changed_is_refused(tmp_path: Path) -> None:
    record = recorded(tmp_path / "first", [Decision(10, "x", "a", 0.5, "So.")])
    state = json.loads(json.dumps(Replay(file=str(record.folder)).state()))
    Replay(file=str(record.folder)).restore(state)
    record.append_decision(Decision(20, "x", "a", 1.0, "So.").as_row())
    with pytest.raises(ConfigError, match="should hold the decisions that it held when the run began"):
        Replay(file=str(record.folder)).restore(state)
