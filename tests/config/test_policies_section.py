"""The list `policies:` of a run file: what it is filled in with, and how each fault of it is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from taskloom.config import load_config, read_config
from taskloom.config.document import dump
from taskloom.errors import ConfigError
from taskloom.policy import POLICIES, Decision, Policies
from taskloom.record import Record

TASK = {"type": "classification", "data": "data/x"}
RUN: dict[str, Any] = {
    "model": {"name_or_path": "some/encoder"},
    "tasks": {name: dict(TASK) for name in ("intent", "slots", "mood")},
}
RESTS = {"patience": 2, "threshold": 0.001, "wake_drop": 0.005, "rest_share": None}


def policies_of(policies: Any, **sections: Any) -> list[dict[str, Any]]:
    return load_config({**RUN, "policies": policies, **sections}).policies


def told(policies: Any, **sections: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        policies_of(policies, **sections)
    return str(caught.value).replace("config: ", "")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    record = Record.create(tmp_path / "first")
    record.append_decision(Decision(10, "rest_converged", "mood", 0.25, "`mood` rests.").as_row())
    return record.folder


def test_a_run_without_the_list_has_no_policies() -> None:
    assert load_config(RUN).policies == policies_of(None) == policies_of([]) == []


def test_an_entry_is_a_name_or_a_mapping_and_is_filled_in() -> None:
    wanted = [{"name": "rest_converged", **RESTS}]
    assert policies_of(["rest_converged"]) == policies_of([{"name": "rest_converged"}]) == wanted
    assert policies_of([{"name": "rest_converged", "patience": 3}]) == [{**wanted[0], "patience": 3}]


def test_every_policy_has_its_options_filled_in_and_reads_the_same_again(log: Path) -> None:
    given: dict[str, Any] = {"raise_behind": {"references": {"mood": 1}}, "replay": {"file": str(log)}}
    config = load_config({**RUN, "policies": [{"name": name, **given.get(name, {})} for name in POLICIES.names()]})
    assert [section["name"] for section in config.policies] == POLICIES.names()
    for section in config.policies:
        options = {name: default for name, (_, default) in POLICIES.options(section["name"]).items()}
        assert section == {"name": section["name"], **options, **given.get(section["name"], {})}
    assert [policy.name for policy in Policies.of(config.policies, list(RUN["tasks"])).policies] == POLICIES.names()
    for again in (load_config(config.as_yaml()), load_config(config.resolved())):
        assert again.policies == config.policies
        assert again.as_yaml() == config.as_yaml()


def test_a_policy_elsewhere_is_named_in_full() -> None:
    name = "taskloom.policy.rest_converged:RestConverged"
    assert policies_of([name]) == [{"name": name, **RESTS}]


def test_the_file_of_a_replay_is_kept_whole_and_a_run_folder_is_read_without_it(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(log.parent)
    config = load_config({**RUN, "policies": [{"name": "replay", "file": "first"}]})
    assert config.policies == [{"name": "replay", "file": str(log)}]
    second = Record.create(log.parent / "second")
    second.run_yaml.write_text(config.as_yaml(), encoding="utf-8")
    (log / "decisions.jsonl").unlink()
    assert read_config(second.run_yaml).policies == config.policies, "the run is over, or begins by reading the file"
    with pytest.raises(ConfigError, match="should be a log of decisions"):
        Policies.of(config.policies, list(RUN["tasks"]))
    assert told(config.policies) == (
        "`policies.0.file` should be a log of decisions, or a run folder that holds one. Found no file "
        f"`{log / 'decisions.jsonl'}`. A run with `policies` writes one as decisions.jsonl into its folder."
    )


@pytest.mark.parametrize(
    ("policies", "message"),
    [
        ("rest_converged", "`policies` should be a list. Found `rest_converged`. Write `policies: [rest_converged]`."),
        (["rest_convergd"], "`policies.0` should be a policy that Taskloom has. Found `rest_convergd`. "
         "Did you mean `rest_converged`?"),
        ([{"name": "rest_convergd"}], "`policies.0.name` should be a policy that Taskloom has. "
         "Found `rest_convergd`. Did you mean `rest_converged`?"),
        (["nosuch:Policy"], "`policies.0` should be a policy that can be imported as `package.module:ClassName`. "
         "Found `nosuch:Policy` (No module named 'nosuch'). Install its package, or put its folder on PYTHONPATH."),
        ([{"patience": 1}], "`policies.0.name` should be a policy that Taskloom has. Found nothing. Add `name:` with "
         "one of `drop_harmful`, `lower_overfitting`, `raise_behind`, `replay`, `rest_converged`."),
        ([{"name": "rest_converged", "patiance": 1}], "`policies.0.patiance` should be a key that Taskloom knows. "
         "Found `patiance`. Did you mean `patience`?"),
        ([{"name": "rest_converged", "patience": "long"}], "`policies.0.patience` should be a whole number. "
         "Found the text `long`."),
        ([{"name": "lower_overfitting", "shrink": 1}], "`policies.0.shrink` should be less than 1. Found `1`."),
        (["raise_behind"], "`policies.0.references` should be given. Found nothing. Add `references:`."),
        ([{"name": "raise_behind", "references": {"mod": 1}}], "`policies.0.references.mod` should be one of the run's "
         "tasks. Found `mod`. Did you mean `mood`?"),
        ([{"name": "raise_behind", "references": {"mood": "good"}}], "`policies.0.references.mood` should be a number. "
         "Found the text `good`."),
        ([{"name": "drop_harmful", "constants": {"mod": 1}}], "`policies.0.constants.mod` should be one of the run's "
         "tasks. Found `mod`. Did you mean `mood`?"),
        (["rest_converged", {"name": "rest_converged", "patience": 3}], "`policies.1` should be listed once. "
         "Found `rest_converged` again."),
    ],
)  # fmt: skip
def test_a_fault_is_told_in_one_sentence(policies: Any, message: str) -> None:
    assert told(policies) == message


def test_a_replay_of_tasks_that_the_run_does_not_have_is_refused(log: Path) -> None:
    Record(log).append_decision(Decision(20, "x", "mod", 0.0, "`mod` is dropped.").as_row())
    assert told([{"name": "replay", "file": str(log)}]) == (
        f"`policies.0.file` should hold decisions for the run's tasks alone. Found `mod` in `{log}`. "
        "Did you mean `mood`?"
    )


def test_a_run_without_evaluations_or_without_records_of_conflict_is_refused() -> None:
    assert told(["rest_converged"], training={"eval_strategy": "no"}) == (
        "`policies` should have evaluations at which to decide. Found `training.eval_strategy: no`. "
        "Write `training.eval_strategy: steps`, or leave out `policies`."
    )
    assert told(["drop_harmful"], balance={"record_steps": 0}) == (
        "`balance.record_steps` should be more than 0 for the policy `drop_harmful`, which reads recorded conflict. "
        "Found `0`. Write `record_steps: 10`."
    )
    assert policies_of(["rest_converged"], balance={"record_steps": 0})
    assert load_config({**RUN, "training": {"eval_strategy": "no"}}).policies == []


def test_all_faults_are_told_together_with_their_lines(tmp_path: Path) -> None:
    policies = [{"name": "rest_converged", "patience": 0, "threshold": -1}, "raise_behnd"]
    (tmp_path / "run.yaml").write_text(dump({**RUN, "policies": policies, "evaluation": {"resamples": 10}}))
    lines = (tmp_path / "run.yaml").read_text().splitlines()

    def line(text: str) -> int:
        return next(number for number, each in enumerate(lines, 1) if each.strip().removeprefix("- ") == text)

    with pytest.raises(ConfigError) as caught:
        read_config(tmp_path / "run.yaml")
    assert str(caught.value).splitlines() == [
        f"run.yaml:{line('patience: 0')}: `policies.0.patience` should be at least 1. Found `0`.",
        f"run.yaml:{line('threshold: -1')}: `policies.0.threshold` should be at least 0. Found `-1`.",
        f"run.yaml:{line('raise_behnd')}: `policies.1` should be a policy that Taskloom has. Found `raise_behnd`. "
        "Did you mean `raise_behind`?",
        f"run.yaml:{line('resamples: 10')}: `evaluation.resamples` should be at least 100. Found `10`.",
    ]


def test_set_chooses_policies(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(dump(RUN), encoding="utf-8")
    config = read_config(tmp_path / "run.yaml", ["policies=[{name: rest_converged, rest_share: 0.5}]"])
    assert config.policies == [{"name": "rest_converged", **RESTS, "rest_share": 0.5}]
