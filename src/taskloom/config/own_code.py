"""Methods in files of the user's own, `file.py:Name`: found beside the run file, and kept by their content."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from taskloom.config.document import Document, KeyPath
from taskloom.errors import ConfigError, Fault, nearest
from taskloom.room import FILE, GIVEN, keep, keep_copy

CODE = "code"
"""The folder of a run folder that has copies of its code, as `taskloom.record` lists it."""

PLACES = (
    ("mixture", "strategy"),
    ("balance", "method"),
    ("model", "sharing", "scheme"),
    ("evaluation", "composite", "name"),
)
"""Where one method is named: under the last key, or in its section's place. Tasks and policies have several."""


def name_files(document: Document) -> list[Fault]:
    """Give methods in files their names by content, in place.

    Files that a run file names are kept. Those that the run.yaml of a run folder names are kept already, or the user
    has to say that the folder's copies may be.

    Returns:
        what is wrong: files that are not there, or that may not be run.
    """
    faults = []
    best = _best_metric(document.values)
    for holder, key, path in _named(document.values):
        name = holder[key]
        source, where = document.source(path), ".".join(str(part) for part in path if not isinstance(part, int))
        if FILE.fullmatch(name):
            try:
                keep_copy(name, document.folder / CODE)
            except ConfigError as error:
                faults += [replace(fault, where=where, source=source) for fault in error.faults]
        elif GIVEN.fullmatch(name):
            found = _kept(name, where, source, document)
            if isinstance(found, Fault):
                faults.append(found)
            else:
                holder[key] = found
                if best is not None and (path[:2], name) == (("tasks", best[0]), best[1]):
                    document.values["training"]["metric_for_best_model"] = f"{best[0]}/{found}"
    return faults


def without_echoes(faults: Sequence[Fault], files: Sequence[Fault]) -> list[Fault]:
    """Leave out what is said of a method whose file has a fault: that it cannot be loaded is no news."""
    named = [((fault.where, fault.source), fault.found.split("`")[1]) for fault in files]
    return [
        fault
        for fault in faults
        if not any((fault.where, fault.source) == place and name in fault.found for place, name in named)
    ]


def _best_metric(values: dict[str, Any]) -> tuple[str, str] | None:
    """Give the task and the metric by which the best checkpoint is chosen, where a metric of a task is named."""
    training = values.get("training")
    named = training.get("metric_for_best_model") if isinstance(training, dict) else None
    task, slash, metric = named.partition("/") if isinstance(named, str) else ("", "", "")
    return (task, metric) if slash else None


def _kept(name: str, where: str, source: str, document: Document) -> str | Fault:
    """Keep one file; gives the method's name by content, or what is wrong."""
    if document.recorded:
        requirement = "name a file by its content, as run folders do"
        return Fault(where, requirement, f"`{name}`", "Train again by the run file", source)
    try:
        return keep(name, document.folder)
    except OSError as error:
        path = document.folder / name.rpartition(":")[0]
        there = [each.name for each in path.parent.glob("*.py")] if path.parent.is_dir() else []
        found = "no such file" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
        fix = nearest(path.name, there) if there else ""
        return Fault(where, "name a file that can be read, beside the run file", f"`{name}` ({found})", fix, source)


def _named(values: dict[str, Any]) -> Iterator[tuple[Any, Any, KeyPath]]:
    """Give each place of a method's name: what holds it, under which key, and its path."""
    for path in PLACES:
        yield from _of_section(values, path, ())
    tasks = values.get("tasks")
    for task, section in tasks.items() if isinstance(tasks, dict) else ():
        if isinstance(section, dict):
            yield from _of_section(section, ("type",), ("tasks", task))
            yield from _of_section(section, ("fairness", "method"), ("tasks", task))
            metrics = section.get("metrics")
            for place, metric in enumerate(metrics if isinstance(metrics, list) else ()):
                if isinstance(metric, str):
                    yield metrics, place, ("tasks", task, "metrics", place)
    policies = values.get("policies")
    for place, policy in enumerate(policies if isinstance(policies, list) else ()):
        if isinstance(policy, str):
            yield policies, place, ("policies", place)
        elif isinstance(policy, dict):
            yield from _of_section(policy, ("name",), ("policies", place))


def _of_section(values: dict[str, Any], path: tuple[str, ...], before: KeyPath) -> Iterator[tuple[Any, Any, KeyPath]]:
    held: Any = values
    for depth, key in enumerate(path, start=1):
        if not isinstance(held, dict):
            return
        if isinstance(held.get(key), str) and depth >= len(path) - 1:
            yield held, key, (*before, *path[:depth])
            return
        held = held.get(key)
