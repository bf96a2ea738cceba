"""What a task's keys say together, beyond what each may say alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from taskloom.config.document import Document
from taskloom.config.schema import TaskSection
from taskloom.errors import ConfigError, Fault


def options_of(section: TaskSection) -> dict[str, Any]:
    """Give the options of a task's type, without the keys that every task has."""
    return {key: value for key, value in section.model_dump().items() if key not in TaskSection.model_fields}


def refused_options(name: str, task_type: type[Any], section: TaskSection, document: Document) -> list[Fault]:
    """Make the task, and take what it says of options that do not go together."""
    try:
        task_type(**options_of(section))
    except ConfigError as error:
        path = ("tasks", name)
        return [
            replace(fault, where=".".join((*path, fault.where)), source=document.source((*path, fault.where)))
            for fault in error.faults
        ]
    return []


def without_gradient(tasks: Any, method: str, document: Document) -> list[Fault]:
    """Refuse a method that compares the tasks' shared gradients where one of them is zero by request.

    The least combination of gradients of which one is zero is zero itself: nothing at all would be trained.
    """
    faults = []
    for name, section in tasks.items() if isinstance(tasks, Mapping) else ():
        if isinstance(section, Mapping) and section.get("shared_update") == 0:
            requirement = f"be more than 0 with `{method}`, which compares the tasks' gradients"
            source = document.source(("tasks", name, "shared_update"))
            fix = "Write a small number such as `0.01`, or another `balance.method`"
            faults.append(Fault(f"tasks.{name}.shared_update", requirement, "`0`", fix, source))
    return faults
