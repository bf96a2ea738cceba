"""The runs of a study: each a part of one run's tasks, with something changed, under the same budget."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from taskloom.config import Config, load_config
from taskloom.record import VERSION, Record, read_note, write_json
from taskloom.study.budget import Budget
from taskloom.study.workers import Executor, Job, run_jobs

MERGED_SECTIONS = {"training", "model", "evaluation", "transfer", "batching", "tasks"}
"""Sections of settings that stand each for itself."""

DEPTH_OF_A_TASK = 2
"""Dots of a key of one of a task's settings."""

TIMED = "timed.json"
"""Where a study keeps the steps that runs make in its seconds: they are timed once, or no run would be found again."""

MEMBERS = "members"
"""Where a study keeps its runs, each named by a digest of what it is; equal runs are one."""

KEPT = (MEMBERS, TIMED)
"""What training members leaves in a folder."""


@dataclass(frozen=True)
class Member:
    """One run of a study.

    Attributes:
        name: what it is called, such as "single:intent", "joint" or "upgrad".
        tasks: those that it trains in one model, in the order of the run file.
        overrides: dotted key -> what is put there, such as ``{"balance": {"method": "upgrad"}}``.
        seed: of draws, heads and dropout.
    """

    name: str
    tasks: tuple[str, ...]
    overrides: Mapping[str, Any] = field(default_factory=dict, hash=False)
    seed: int = 0


def flattened(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Give overrides by dotted key, so that a section that is written out changes what it names and no more.

    `balance`, `mixture` and the like are methods with options and stay whole: another method has other options.
    """
    found: dict[str, Any] = {}
    for key, value in overrides.items():
        inner = key in MERGED_SECTIONS or (key.partition(".")[0] == "tasks" and key.count(".") < DEPTH_OF_A_TASK)
        if inner and isinstance(value, dict):
            found |= flattened({f"{key}.{name}": each for name, each in value.items()})
        else:
            found[key] = value
    return found


def member_values(base: Config, member: Member, budget: Budget, timed: dict[str, int] | None = None) -> dict[str, Any]:
    """Give a member's whole run as plain values.

    A member of all tasks is the run itself with its overrides. One of fewer tasks draws as many rows of each as the run
    does, in as many steps, each as much smaller; what there is nothing to adapt to is left out of it: policies and
    curricula, for one task alone also the balance.

    Args:
        base: the run of all tasks.
        member: one of the study.
        budget: of the study.
        timed: run but for its seed -> steps within the budget's seconds; what is not there is found and put in.

    Raises:
        ConfigError: an override is wrong.
    """
    values = deepcopy(base.resolved())
    training = values["training"]
    training |= {"seed": member.seed, "max_steps": budget.steps, "num_train_epochs": 1}
    if set(member.tasks) != set(base.tasks):
        _cut(values, member.tasks, budget)
    for key, value in _fitting(member, len(base.tasks)).items():
        put(values, key.split("."), value)
    if budget.rule == "seconds":
        timed = {} if timed is None else timed
        name = digest_of({**values, "training": {**training, "seed": 0, "max_steps": 0}})
        if name not in timed:
            timed[name] = budget.steps_within(load_config(values))
        training["max_steps"] = timed[name]
    return load_config(values).resolved()


def _cut(values: dict[str, Any], tasks: Sequence[str], budget: Budget) -> None:
    """Leave some tasks in a run, at the rows that the whole run draws of them."""
    values["tasks"] = {name: values["tasks"][name] for name in tasks}
    for task in values["tasks"].values():
        task |= {"per_device_train_batch_size": None, "start_step": 0, "end_step": None, "max_epochs": None}
    rows = {name: budget.rows[name] for name in tasks}
    batch, steps = budget.cut(rows)
    values["training"] |= {
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": 1,  # the batch is that of a whole step
        "max_steps": steps,
    }
    values["mixture"] = {"strategy": "fixed", "ratios": rows}
    values["policies"], values["curriculum"] = [], {}
    balance, sharing = values["balance"], values["model"].get("sharing")
    if len(tasks) == 1:
        values["balance"] = {"method": "equal"}
        values["transfer"] = {"every_steps": 0}
    else:
        values["balance"] = {key: _among(value, tasks) for key, value in balance.items()}
    if sharing:
        if sharing.get("scheme") == "groups":
            groups = {group: [name for name in held if name in tasks] for group, held in sharing["groups"].items()}
            sharing["groups"] = {group: held for group, held in groups.items() if held}
        else:
            values["model"]["sharing"] = {key: _among(value, tasks) for key, value in sharing.items()}


def _fitting(member: Member, count: int) -> dict[str, Any]:
    """Give what of a member's overrides speaks of its tasks; one task alone has nothing to mix or to balance."""
    tasks, found = member.tasks, {}
    for key, value in member.overrides.items():
        section, _, rest = key.partition(".")
        if section == "tasks" and rest.partition(".")[0] not in tasks:
            continue
        if len(tasks) == 1 < count and section in {"mixture", "balance"}:
            continue
        mixed = section in {"mixture", "balance"} and isinstance(value, dict)
        found[key] = {name: _among(each, tasks) for name, each in value.items()} if mixed else value
    return found


def _among(value: Any, tasks: Sequence[str]) -> Any:
    """Leave out what an option that maps tasks says of others."""
    return {key: each for key, each in value.items() if key in tasks} if isinstance(value, dict) else value


def put(values: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    """Put a value at a dotted key; a section with another method takes none of the old one's options."""
    *before, last = keys
    for key in before:
        held = values.get(key)
        values[key] = held if isinstance(held, dict) else {}
        values = values[key]
    values[last] = deepcopy(value)


def digest_of(values: Mapping[str, Any]) -> str:
    """Give the name of a run by what it is."""
    text = json.dumps(values, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def train_members(
    base: Config,
    members: Sequence[Member],
    folder: Path,
    *,
    budget: Budget | None = None,
    workers: int = 1,
    executor: Executor = "processes",
    console: Console | None = None,
) -> dict[tuple[str, int], Record]:
    """Train every member that is not finished yet, and no run twice.

    Called again after it was killed, it goes on where each run stopped.

    Args:
        base: the run of all tasks.
        members: of the study, names unique for each seed.
        folder: the study's; runs lie in `MEMBERS` inside it.
        budget: by default that of `base`: its steps, and the rows that it draws of each task.
        workers: processes that train side by side, 1 for this one alone; with several GPUs each has one of them.
        executor: of this machine, or of a cluster.
        console: where progress is shown.

    Returns:
        (name, seed) -> the record of its run; equal runs share one.

    Raises:
        ConfigError: a member's run is wrong; nothing was trained.
        StudyError: members failed, each with its reason; the others are trained.
    """
    budget = budget or Budget.of(base)
    timed: dict[str, int] = dict(read_note(folder / TIMED).get("steps", {}))
    values = {(each.name, each.seed): member_values(base, each, budget, timed) for each in members}
    if timed:
        write_json(folder / TIMED, {"version": VERSION, "steps": timed})
    folders = {key: folder / MEMBERS / digest_of(held) for key, held in values.items()}
    jobs: dict[Path, Job] = {}
    for (name, seed), held in values.items():
        path = folders[name, seed]
        jobs.setdefault(path, Job(f"{name} (seed {seed})", held, path))
    run_jobs(list(jobs.values()), workers=workers, console=console or Console(quiet=True), executor=executor)
    return {key: Record.open(path) for key, path in folders.items()}
