"""From a plan to run files that `taskloom train` takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from taskloom.config import Config, load_config
from taskloom.config.document import dump
from taskloom.errors import ConfigError, Fault
from taskloom.planning.plan import Grouping
from taskloom.record import write_text
from taskloom.study.budget import Budget
from taskloom.study.members import Member, member_values

Form = Literal["models", "adapters"]
LORA = ("r", "lora_alpha", "lora_dropout", "target_modules")


def run_files(base: Config, grouping: Grouping, form: Form, folder: Path) -> list[Path]:
    """Write a grouping as run files.

    Args:
        base: the run of all tasks.
        grouping: of the plan.
        form: "models": a run for each group, each at the rows that the joint run draws of its tasks. "adapters": one
            run in which each group has an adapter of its own on one backbone.
        folder: where they go.

    Returns:
        their paths.

    Raises:
        ConfigError: adapters are asked for and the run has no LoRA.
    """
    held = _adapters(base, grouping) if form == "adapters" else _models(base, grouping)
    paths = []
    for name, values in held:
        path = folder / f"{name}.yaml"
        write_text(path, dump(load_config(values).resolved()))
        paths.append(path)
    return paths


def _models(base: Config, grouping: Grouping) -> list[tuple[str, dict[str, Any]]]:
    budget, seed = Budget.of(base), base.training["seed"]
    found = []
    for place, group in enumerate(grouping.groups, start=1):
        tasks = tuple(name for name in base.tasks if name in group)
        name = f"plan-{place}" if len(grouping.groups) > 1 else "plan"
        found.append((name, member_values(base, Member(name, tasks, {}, seed), budget)))
    return found


def _adapters(base: Config, grouping: Grouping) -> list[tuple[str, dict[str, Any]]]:
    adapter = base.model.adapter or {}
    if adapter.get("type") != "lora":
        found = f"`{adapter['type']}`" if adapter else "none"
        fix = "Leave out `--adapters`: each group then has a model of its own"
        raise ConfigError(Fault("model.adapter", "be a LoRA where groups share a backbone", found, fix))
    values = base.resolved()
    options = {key: adapter[key] for key in LORA if adapter.get(key) is not None}
    names = names_of(grouping.groups)
    values["model"]["adapter"] = None
    values["model"]["sharing"] = {"scheme": "groups", "groups": names, **options}
    return [("plan", values)]


def names_of(groups: Sequence[Sequence[str]]) -> dict[str, list[str]]:
    """Name groups by their first task."""
    return {f"with_{group[0]}": list(group) for group in groups}
