"""Members of a study: the same budget for all, no run twice, and what is left when one is killed or fails."""

from __future__ import annotations

import multiprocessing
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import TrainingArguments

from resume_tools import At, die
from study_tools import study_values
from taskloom.config import Config, load_config
from taskloom.errors import ConfigError, StudyError
from taskloom.record import Record
from taskloom.run import train
from taskloom.study import Member, train_members
from taskloom.study.budget import Budget
from taskloom.study.members import MEMBERS, digest_of, flattened, member_values
from two_processes import ended


@pytest.fixture
def base(run_values: dict[str, Any]) -> Config:
    values = study_values(run_values)["run"]
    values["mixture"] = {"strategy": "fixed", "ratios": {"intent": 5, "topics": 3}}
    return load_config(values)


def drawn(record: Record) -> dict[str, int]:
    rows: dict[str, int] = {}
    for line in record.steps():
        for name, task in line.get("tasks", {}).items():
            rows[name] = rows.get(name, 0) + task["examples"]
    return rows


def test_a_task_alone_draws_as_many_of_its_rows_as_all_together_draw(base: Config, tmp_path: Path) -> None:
    members = [Member("joint", ("intent", "topics")), Member("single:intent", ("intent",)),
               Member("single:topics", ("topics",))]  # fmt: skip
    records = train_members(base, members, tmp_path)
    joint = drawn(records["joint", 0])
    assert joint == {"intent": 30, "topics": 18}
    for name in joint:
        alone = records[f"single:{name}", 0]
        assert drawn(alone) == {name: joint[name]}
        assert len([line for line in alone.steps() if "loss" in line]) == 6


@given(rows=st.dictionaries(st.text("abc", min_size=1, max_size=3), st.floats(20, 5000), min_size=1, max_size=5),
       steps=st.integers(10, 500))  # fmt: skip
def test_steps_make_up_for_rows_that_are_no_whole_number(rows: dict[str, float], steps: int) -> None:
    batch, made = Budget("steps", steps, rows, 1).cut(rows)
    whole = sum(rows.values())
    assert abs(batch * made - whole) <= max(0.5 * batch, 0.01 * whole)


def test_equal_members_are_one_run_and_another_seed_is_another(base: Config) -> None:
    budget = Budget.of(base)
    one = member_values(base, Member("a", ("intent",), seed=1), budget)
    assert digest_of(one) == digest_of(member_values(base, Member("b", ("intent",), seed=1), budget))
    assert digest_of(one) != digest_of(member_values(base, Member("a", ("intent",), seed=2), budget))


def test_what_names_other_tasks_is_left_out_of_a_part(run_values: dict[str, Any]) -> None:
    values = study_values(run_values)["run"]
    values["balance"] = {"method": "static", "weights": {"intent": 2.0, "topics": 1.0}}
    values["policies"] = [{"name": "rest_converged"}]
    values["model"] |= {"adapter": None, "sharing": {"scheme": "groups", "groups": {"a": ["intent"], "b": ["topics"]}}}
    base = load_config(values)
    found = member_values(base, Member("single:intent", ("intent",)), Budget.of(base))
    assert found["balance"]["method"] == "equal"
    assert found["policies"] == []
    assert found["model"]["sharing"]["groups"] == {"a": ["intent"]}


def test_a_section_that_is_put_takes_nothing_of_the_old_one(base: Config) -> None:
    member = Member("x", ("intent", "topics"), {"balance": {"method": "upgrad"}, "training.learning_rate": 0.5})
    found = member_values(base, member, Budget.of(base))
    assert found["balance"]["method"] == "upgrad"
    assert found["training"]["learning_rate"] == 0.5
    with pytest.raises(ConfigError, match=r"be a balancing method that Taskloom has"):
        member_values(base, Member("x", ("intent", "topics"), {"balance": {"method": "upgrat"}}), Budget.of(base))


def test_a_section_that_is_written_out_changes_what_it_names_and_no_more(base: Config) -> None:
    budget = Budget.of(base)
    written = flattened({"training": {"learning_rate": 0.5}, "tasks": {"intent": {"weight": 3.0}}, "balance": {"a": 1}})
    assert written == {"training.learning_rate": 0.5, "tasks.intent.weight": 3.0, "balance": {"a": 1}}
    del written["balance"]
    one, other = (member_values(base, Member("x", ("intent", "topics"), written, seed), budget) for seed in (0, 1))
    plain = member_values(base, Member("joint", ("intent", "topics"), seed=1), budget)
    assert one["training"] == {**other["training"], "seed": 0}
    assert other["training"] == {**plain["training"], "learning_rate": 0.5}
    assert other["tasks"]["intent"] == {**plain["tasks"]["intent"], "weight": 3.0}


def test_a_task_alone_draws_as_much_where_gradients_are_accumulated(base: Config, tmp_path: Path) -> None:
    values = base.resolved()
    values["training"] |= {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 4, "max_steps": 3}
    base = load_config(values)
    records = train_members(base, [Member("joint", ("intent", "topics")), Member("alone", ("intent",))], tmp_path)
    assert drawn(records["alone", 0])["intent"] == drawn(records["joint", 0])["intent"]


def test_seconds_are_timed_once_for_all_seeds_and_calls(
    base: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = iter([3, 50, 70])
    monkeypatch.setattr(Budget, "steps_within", lambda self, config: next(steps))
    budget = Budget.of(base, "seconds", 1.0)
    members = [Member("joint", ("intent", "topics"), seed=seed) for seed in (0, 1)]
    folders = [
        {record.folder for record in train_members(base, held, tmp_path, budget=budget).values()}
        for held in (members[:1], members)
    ]
    assert folders[0] < folders[1]
    assert next(steps) == 50


def test_tokens_and_seconds_set_the_steps(base: Config) -> None:
    steps = Budget.of(base)
    tokens = Budget.of(base, "tokens", 2000)
    assert tokens.steps > 0
    assert sum(tokens.rows.values()) / tokens.steps == pytest.approx(sum(steps.rows.values()) / steps.steps)
    doubled = Budget.of(base, "tokens", 4000)
    assert doubled.steps == pytest.approx(2 * tokens.steps, abs=1)
    seconds = Budget.of(base, "seconds", 1.0)
    assert member_values(base, Member("joint", ("intent", "topics")), seconds)["training"]["max_steps"] >= 1
    with pytest.raises(ConfigError) as caught:
        Budget.of(base, "tokens")
    assert str(caught.value) == "`budget.limit` should be how many tokens a run may use. Found nothing."


def test_a_second_call_trains_nothing_again_and_a_killed_one_goes_on(base: Config, tmp_path: Path) -> None:
    members = [Member("joint", ("intent", "topics")), Member("single:intent", ("intent",))]

    def killed_in_the_second() -> None:
        train_members(base, members[:1], tmp_path)
        values = member_values(base, members[1], Budget.of(base))
        train(values, tmp_path / MEMBERS / digest_of(values), callbacks=[At(5, die)])

    process = multiprocessing.get_context("fork").Process(target=killed_in_the_second)
    with ended(process, daemon=False):
        assert process.exitcode == -signal.SIGKILL
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("scores.jsonl")}
    assert len(before) == 1
    records = train_members(base, members, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    whole = train_members(base, members[1:], tmp_path / "whole")
    one, other = (each["single:intent", 0].model / "heads.safetensors" for each in (records, whole))
    assert one.read_bytes() == other.read_bytes()


def test_runs_beside_each_other_are_the_same_and_one_that_fails_is_named(base: Config, tmp_path: Path) -> None:
    wrong = Member("wrong", ("topics",), {"training.learning_rate": 1e30})
    right = Member("single:intent", ("intent",))
    with pytest.raises(StudyError) as caught:
        train_members(base, [wrong, right], tmp_path, workers=2)
    assert [fault.where for fault in caught.value.faults] == ["wrong (seed 0)"]
    assert "finite" in str(caught.value)
    beside = train_members(base, [right], tmp_path)["single:intent", 0]
    here = train_members(base, [right], tmp_path / "here")["single:intent", 0]
    assert beside.scores() == here.scores()


def test_many_devices_stop_a_run_and_not_the_study_that_parts_them(
    base: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrainingArguments, "n_gpu", property(lambda self: 2))
    assert Budget.of(base).steps == 6
    with pytest.raises(ConfigError, match=r"run one process on each device.*torchrun --nproc_per_node 2"):
        train(base.resolved(), tmp_path / "run")
