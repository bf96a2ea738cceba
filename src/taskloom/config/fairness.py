"""`fairness:` of a task, checked by the method that it names, and beside what else the run file says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from taskloom.config.document import Document
from taskloom.config.faults import validated
from taskloom.config.schema import MITIGATION_ROOM, TaskSection, mitigation_model
from taskloom.errors import ConfigError, DataError, Fault, listed


def checked_fairness(
    name: str, values: Any, task_type: type[Any], document: Document, faults: list[Fault]
) -> dict[str, Any] | None:
    """Check a task's `fairness:`, at last by making the method and showing it the task's type.

    Args:
        name: the task's.
        values: what stands there.
        task_type: the class of the task.
        document: for places in messages.
        faults: what is wrong is added here.

    Returns:
        The method and all its options; None for none, or where something is wrong.
    """
    path = ("tasks", name, "fairness")
    where, source = ".".join(path), document.source(path)
    if values is None:
        return None
    section = values if isinstance(values, dict) else {"method": values}
    if section.get("method") is None:
        fix = f"Add `method:` with one of {listed(MITIGATION_ROOM.names())}"
        requirement = f"be a {MITIGATION_ROOM.noun} that Taskloom has"
        faults.append(Fault(f"{where}.method", requirement, "nothing", fix, source))
        return None
    method = str(section["method"])
    try:
        model = mitigation_model(method)
    except ConfigError as error:
        source = document.source((*path, "method"))
        faults += [replace(each, where=f"{where}.method", source=source) for each in error.faults]
        return None
    checked = validated(model, section, document, path, faults)
    try:
        return _settled(checked.model_dump(), task_type) if checked else None
    except (ConfigError, DataError) as error:
        faults += [replace(each, where=f"{where}.{each.where}", source=source) for each in error.faults]
    return None


def _settled(resolved: dict[str, Any], task_type: type[Any]) -> dict[str, Any]:
    """Make a method and show it the task's type; gives its options as run.yaml keeps them."""
    method = resolved["method"]
    kind = MITIGATION_ROOM.load(method)
    if kind.needs_group and resolved["group"] is None:
        requirement, fix = f"name the data's column of groups for `{method}`", "Add `group: COLUMN`"
        raise ConfigError(Fault("group", requirement, "nothing", fix))
    made = kind(**{key: value for key, value in resolved.items() if key in MITIGATION_ROOM.options(method)})
    made.check(task_type)
    return {**resolved, **made.kept()}


def paced_faults(tasks: Mapping[str, TaskSection], curriculum: Any, document: Document) -> list[Fault]:
    """Refuse strata that are drawn alike in a task whose items open one after the other: both say what is drawn.

    Args:
        tasks: task name -> its section, checked.
        curriculum: the section as it stands in the file.
        document: for places in messages.
    """
    items = curriculum.get("items") if isinstance(curriculum, Mapping) else None
    if not isinstance(items, Mapping):
        return []
    paced = items.get("tasks") or list(tasks)
    faults = []
    for name, section in tasks.items():
        if section.fairness and name in paced and MITIGATION_ROOM.load(section.fairness["method"]).draws:
            method, source = section.fairness["method"], document.source(("tasks", name, "fairness"))
            fix = "Leave the task out of `curriculum.items.tasks`, or choose `reweighing` or `group_dro`"
            requirement = "leave to `curriculum.items` which rows are drawn"
            faults.append(Fault(f"tasks.{name}.fairness.method", requirement, f"`{method}`", fix, source))
    return faults
