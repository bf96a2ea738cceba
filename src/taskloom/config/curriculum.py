"""`curriculum:` what its keys say together with the run's tasks, beyond what each may say alone."""

from __future__ import annotations

from collections import Counter
from typing import Any

from pydantic import ValidationError

from taskloom.config.document import Document
from taskloom.config.sections import CurriculumSection, ItemCurriculum, TaskCurriculum
from taskloom.errors import Fault, listed, nearest


def curriculum_faults(values: Any, tasks: Any, document: Document) -> list[Fault]:
    """Hold the section against the run's tasks.

    Args:
        values: what stands there; what is wrong with single keys is told elsewhere.
        tasks: the run's tasks, as they stand in the file.
        document: for places in messages.
    """
    if not isinstance(tasks, dict) or not tasks:
        return []
    try:
        section = CurriculumSection.model_validate(values or {})
    except ValidationError:
        return []
    faults = _of_tasks(section.tasks, list(tasks), document) if section.tasks else []
    return faults + (_of_items(section.items, list(tasks), document) if section.items else [])


def _of_tasks(section: TaskCurriculum, tasks: list[str], document: Document) -> list[Fault]:
    faults = []

    def add(key: str, requirement: str, found: str, fix: str = "") -> None:
        source = document.source(("curriculum", "tasks", key))
        faults.append(Fault(f"curriculum.tasks.{key}", requirement, found, fix, source))

    if section.first >= len(tasks):
        fix = "Leave out `curriculum.tasks` to train all from the start"
        add("first", f"be less than the run's {len(tasks)} tasks", f"`{section.first}`", fix)
    if section.by != "listed":
        if section.order is not None:
            fix = "Write `by: listed` to have this order, or leave `order` out"
            add("order", f"be left out where tasks enter by `{section.by}`", listed(section.order, 10), fix)
        return faults
    if section.direction != "easy_first":
        add("direction", "be left out where `order` lists the tasks", f"`{section.direction}`", "Turn `order` round")
    found, fix = _unlike(section.order or [], tasks)
    if found:
        add("order", "list every task of the run once", found, fix)
    return faults


def _unlike(order: list[str], tasks: list[str]) -> tuple[str, str]:
    """Say how an order is no order of the tasks, and what may have been meant; two empty texts where it is one."""
    strangers = [name for name in dict.fromkeys(order) if name not in tasks]
    missing = [name for name in tasks if name not in order]
    twice = [name for name, count in Counter(order).items() if count > 1]
    parts = [
        f"{listed(names, 10)}{words}"
        for names, words in (
            (strangers, ", which the run does not have" if len(strangers) == 1 else ", which are none of its tasks"),
            (twice, " more than once"),
        )
        if names
    ]
    if missing:
        parts.append(f"no {listed(missing, 10)}")
    fix = nearest(strangers[0], missing or tasks) if strangers else ""
    return " and ".join(parts) if order else "nothing", fix or f"Write all of {listed(tasks, 10)}"


def _of_items(section: ItemCurriculum, tasks: list[str], document: Document) -> list[Fault]:
    faults = []
    for place, name in enumerate(section.tasks or []):
        source = document.source(("curriculum", "items", "tasks", place))
        if name not in tasks:
            fix = nearest(name, tasks)
            faults.append(Fault("curriculum.items.tasks", "name tasks of the run", f"`{name}`", fix, source))
    return faults
