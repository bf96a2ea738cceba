"""Plans: what is chosen, what is advised, what is written, and what `taskloom plan` says."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from taskloom.affinity import Transfer
from taskloom.cli import commands, planning
from taskloom.config import load_config, read_config
from taskloom.errors import ConfigError, RunFolderError
from taskloom.planning import make_plan, read_plan, write_plan
from taskloom.planning.adapter_similarity import adapter_similarity
from taskloom.planning.files import run_files
from taskloom.planning.size_rule import size_lines, size_rule
from taskloom.run import train

NAMES = ("intent", "slots", "topics", "noise")


def transfer(width: float = 0.05, *, measured: bool = False) -> Transfer:
    """Three tasks that help each other, and one that hurts them all."""
    effect = np.full((4, 4), 0.2)
    effect[3, :3], effect[:3, 3] = -0.3, 0.0
    np.fill_diagonal(effect, np.nan)
    return Transfer(NAMES, effect, effect - width, effect + width, "adam", measured=measured, unit="relative loss")


def test_a_task_that_hurts_is_left_alone_and_the_others_train_together() -> None:
    plan = make_plan(transfer())
    assert plan.chosen == 2
    assert plan.best.groups == [["intent", "slots", "topics"], ["noise"]]
    expected = 0.75 * 0.2 * 2**0.5  # two companions each, by the root of their number
    assert plan.best.composite == pytest.approx(expected, abs=0.01)
    assert plan.best.low < expected < plan.best.high
    assert plan.best.above_joint == 1.0
    assert [each.action for each in plan.advice] == ["train together"] * 3 + ["train alone"]
    assert plan.advice[0].reason == "`slots`, `topics` do +0.283 for it"
    assert plan.advice[3].reason == "it does -0.3 for intent"


def test_without_intervals_one_group_is_advised_and_no_interval_is_told() -> None:
    plan = make_plan(transfer(math.nan))
    assert plan.chosen == 1
    assert all(math.isnan(each.low) and math.isnan(each.above_joint) for each in plan.plans)
    assert plan.plans[1].composite == pytest.approx(0.75 * 0.2 * 2**0.5)
    assert make_plan(transfer(math.nan), k=2).chosen == 2


def test_a_task_that_does_not_count_and_hurts_is_dropped() -> None:
    plan = make_plan(transfer(), weights={"intent": 1, "slots": 1, "topics": 1, "noise": 0})
    assert plan.advice[3].action == "drop"
    reason = "its own score does not count, and to the others it does -0.3 on average"
    assert plan.advice[3].reason == reason


def test_a_small_task_that_nothing_helps_is_to_get_more_rows() -> None:
    effect = np.full((3, 3), 0.2)
    effect[:, 2] = effect[2, :] = -0.1
    np.fill_diagonal(effect, np.nan)
    given = Transfer(("a", "b", "few"), effect, effect - 0.01, effect + 0.01, "adam", measured=False, unit="loss")
    plan = make_plan(given, rows={"a": 9000, "b": 9000, "few": 60})
    assert plan.advice[2].action == "gather rows"
    assert plan.advice[2].reason == "it has 60 training rows, and no task helps it: the best one does -0.1"


def test_one_group_is_chosen_where_effects_are_all_noise() -> None:
    assert make_plan(transfer(width=5.0)).chosen == 1


def test_what_is_not_known_counts_as_none_and_is_said() -> None:
    given = transfer()
    given.effect[0, 1] = np.nan
    assert make_plan(given).unknown == 1


def test_measured_gains_stand_beside_what_was_foretold() -> None:
    plan = make_plan(transfer(), truth=transfer(measured=True).among(("noise", "topics", "slots", "intent")))
    assert plan.best.measured == pytest.approx(plan.best.gains)


def test_cost_grows_with_models_and_heads_are_counted_once() -> None:
    parameters = {"shared": 1000, "intent": 10, "slots": 20, "topics": 5, "noise": 1}
    plan = make_plan(transfer(), parameters=parameters)
    assert [each.parameters for each in plan.plans] == [1036, 2036, 3036, 4036]


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    plan = make_plan(transfer())
    write_plan(plan, tmp_path / "plan.json")
    found = read_plan(tmp_path / "plan.json")
    assert found is not None
    assert (found.chosen, found.best.groups, found.advice) == (plan.chosen, plan.best.groups, list(plan.advice))
    assert read_plan(tmp_path / "nothing.json") is None


def test_one_task_and_too_many_groups_are_no_plan() -> None:
    with pytest.raises(ValueError, match="two tasks at least"):
        make_plan(transfer().among(("intent",)))
    with pytest.raises(ValueError, match="from 1 to 4"):
        make_plan(transfer(), k=5)


@pytest.fixture
def probed(run_values: dict[str, Any], tmp_path: Path) -> Path:
    run_values["tasks"] = {name: run_values["tasks"][name] for name in ("intent", "slots", "topics")}
    run_values["transfer"] = {"every_steps": 1, "rows": 2, "sketch_size": 64}
    train(run_values, tmp_path / "run")
    return tmp_path / "run"


def said(monkeypatch: pytest.MonkeyPatch, *arguments: Any, **options: Any) -> str:
    out = io.StringIO()
    for module in (commands, planning):
        monkeypatch.setattr(module, "console", Console(file=out, width=200))
    settings = {"groups": None, "adapters": False, "estimator": None, "measured": None, "singles": [], **options}
    planning.run_plan(*arguments, **settings)
    return out.getvalue()


def test_run_files_of_a_plan_are_runs_at_the_rows_of_the_joint_one(
    probed: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = said(monkeypatch, probed, groups=2, out=tmp_path / "plan")
    assert "Plans by predicted transfer (pair_progress, relative progress)" in text
    assert "taskloom train" in text
    paths = sorted((tmp_path / "plan").glob("plan-*.yaml"))
    held = [read_config(path) for path in paths]
    assert sorted(name for config in held for name in config.tasks) == ["intent", "slots", "topics"]
    joint = read_config(probed / "run.yaml")
    for config in held:
        drawn = config.training["max_steps"] * config.training["per_device_train_batch_size"]
        share = joint.training["max_steps"] * joint.training["per_device_train_batch_size"] / 3
        assert drawn == pytest.approx(len(config.tasks) * share, rel=0.15)
    train(paths[0], tmp_path / "first")


def test_groups_as_adapters_are_one_run(probed: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said(monkeypatch, probed, groups=2, adapters=True, out=tmp_path / "plan")
    config = read_config(tmp_path / "plan" / "plan.yaml")
    assert config.model.sharing is not None
    assert config.model.sharing["scheme"] == "groups"
    assert sorted(name for group in config.model.sharing["groups"].values() for name in group) == sorted(config.tasks)
    assert config.model.sharing["r"] == 4


def test_what_cannot_be_planned_is_told(
    probed: Path, tiny_run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(RunFolderError) as caught:
        said(monkeypatch, tiny_run, out=tmp_path)
    assert str(caught.value) == (
        f"`{tiny_run}` should hold probes of transfer. Found none. "
        "Train two tasks or more with validation rows, and for more steps than `transfer.every_steps`, above 0."
    )
    with pytest.raises(ConfigError, match=r"be one that this run's probes serve. Found `adm`. Did you mean `adam`\?"):
        said(monkeypatch, probed, estimator="adm", out=tmp_path)
    with pytest.raises(ConfigError, match=r"be at most the 3 tasks of the run. Found `4`"):
        said(monkeypatch, probed, groups=4, out=tmp_path)
    with pytest.raises(RunFolderError, match=r"hold measured transfer. Found none"):
        said(monkeypatch, probed, measured=tmp_path, out=tmp_path)


def test_adapters_are_refused_where_the_run_has_none(run_values: dict[str, Any], tmp_path: Path) -> None:
    run_values["model"]["adapter"] = None
    plan = make_plan(transfer())
    with pytest.raises(ConfigError) as caught:
        run_files(load_config(run_values), plan.best, "adapters", tmp_path)
    assert str(caught.value) == (
        "`model.adapter` should be a LoRA where groups share a backbone. Found none. "
        "Leave out `--adapters`: each group then has a model of its own."
    )


def test_adapters_of_single_tasks_are_compared_as_their_whole_updates(
    run_values: dict[str, Any], tmp_path: Path
) -> None:
    import torch

    from taskloom.model import load_model

    folders, updates = [], []
    for name in ("intent", "topics"):
        values = {**run_values, "tasks": {name: run_values["tasks"][name]}}
        run = train(values, tmp_path / name)
        folders.append(run.folder)
        model, _, _ = load_model(run.record.model)
        layers = [module for module in model.backbone.modules() if hasattr(module, "get_delta_weight")]
        updates.append(torch.cat([each.get_delta_weight("default").detach().flatten() for each in layers]))
    found = adapter_similarity(folders)
    wanted = torch.cosine_similarity(updates[0], updates[1], dim=0)
    assert found.effect[0, 1] == pytest.approx(float(wanted), abs=1e-5)
    assert (found.tasks, found.measured) == (("intent", "topics"), False)


def test_the_size_rule_asks_which_of_two_is_the_smaller() -> None:
    assert size_rule(target=100, source=1000) == "together"
    assert size_rule(target=1000, source=100) == "one after the other"
    assert size_rule(target=100, source=150) is None
    (line,) = size_lines({"big": 9000, "small": 300, "middle": 8000})
    assert line.startswith("By size alone (a hypothesis): small should gain beside big")
    assert not list(size_lines({"one": 5}))
