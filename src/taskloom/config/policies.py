"""`policies:` the list of what watches the tasks during training, checked entry by entry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from taskloom.config.document import Document
from taskloom.config.faults import validated
from taskloom.config.schema import POLICY_ROOM, policy_model
from taskloom.errors import ConfigError, Fault, listed, nearest


def checked_policies(
    values: Any,
    tasks: Any,
    balance: Mapping[str, Any],
    training: Mapping[str, Any],
    document: Document,
    faults: list[Fault],
) -> list[dict[str, Any]]:
    """Check `policies:`, at last by making each policy and letting it meet the tasks.

    Args:
        values: what stands there: nothing, or a list of names and of mappings with a `name` and options.
        tasks: the run's tasks, as they stand in the file.
        balance: the section as resolved; empty where it has faults.
        training: the section as resolved; empty where it has faults.
        document: for places in messages.
        faults: what is wrong is added here.

    Returns:
        for each policy its name and all its options; empty where something is wrong.
    """
    before = len(faults)
    if values is None or values == {}:
        return []
    if not isinstance(values, list):
        fix = f"Write `policies: [{values}]`" if isinstance(values, str) else "Write `- name: NAME` under it"
        faults.append(Fault("policies", "be a list", f"`{values}`", fix, document.source(("policies",))))
        return []
    resolved = [_entry(value, place, tasks, document, faults) for place, value in enumerate(values)]
    names = [section["name"] if section else None for section in resolved]
    for place, section in enumerate(resolved):
        if section and section["name"] in names[:place]:
            source = document.source(("policies", place))
            faults.append(Fault(f"policies.{place}", "be listed once", f"`{section['name']}` again", source=source))
    if values and training and training.get("eval_strategy") == "no":
        fix = "Write `training.eval_strategy: steps`, or leave out `policies`"
        found, source = "`training.eval_strategy: no`", document.source(("policies",))
        faults.append(Fault("policies", "have evaluations at which to decide", found, fix, source))
    for name in filter(None, names):
        if "conflicts" in POLICY_ROOM.load(name).needs and balance.get("record_steps") == 0:
            requirement = f"be more than 0 for the policy `{name}`, which reads recorded conflict"
            source = document.source(("balance", "record_steps"))
            faults.append(Fault("balance.record_steps", requirement, "`0`", "Write `record_steps: 10`", source))
    return [section for section in resolved if section] if len(faults) == before else []


def _entry(value: Any, place: int, tasks: Any, document: Document, faults: list[Fault]) -> dict[str, Any] | None:
    """Check one entry; gives its name and all its options, None where something is wrong."""
    section = value if isinstance(value, dict) else {"name": value}
    path = ("policies", place, "name") if isinstance(value, dict) else ("policies", place)
    where, source = ".".join(map(str, path)), document.source(path)
    name = section.get("name")
    if name is None:
        fix = f"Add `name:` with one of {listed(POLICY_ROOM.names())}"
        faults.append(Fault(where, f"be a {POLICY_ROOM.noun} that Taskloom has", "nothing", fix, source))
        return None
    try:
        model = policy_model(str(name))
    except ConfigError as error:
        inner = error.faults[0]
        faults.append(Fault(where, inner.requirement, inner.found, inner.fix, source))
        return None
    checked = validated(model, section, document, ("policies", place), faults)
    if checked is None:
        return None
    resolved = checked.model_dump()
    found = [*_strangers(resolved, place, tasks, document), *_made(resolved, place, tasks, document)]
    faults += found
    return None if found else resolved


def _strangers(resolved: Mapping[str, Any], place: int, tasks: Any, document: Document) -> list[Fault]:
    """Find options that name tasks which the run does not have."""
    faults = []
    for option, value in resolved.items():
        for name in value if isinstance(value, dict) and isinstance(tasks, dict) and tasks else ():
            if name not in tasks:
                source = document.source(("policies", place, option, name))
                where = f"policies.{place}.{option}.{name}"
                faults.append(Fault(where, "be one of the run's tasks", f"`{name}`", nearest(name, tasks), source))
    return faults


def _made(resolved: Mapping[str, Any], place: int, tasks: Any, document: Document) -> list[Fault]:
    """Make the policy and let it meet the tasks, and take what it says of its options."""
    options = {key: value for key, value in resolved.items() if key != "name"}
    try:
        policy = POLICY_ROOM.load(resolved["name"])(**options)
        # A finished run is read again without the files that its policies read at the start.
        if isinstance(tasks, dict) and tasks and not document.recorded:
            policy.begin(list(tasks))
    except ConfigError as error:
        path = ("policies", place)
        return [
            replace(
                fault,
                where=".".join(map(str, (*path, fault.where))),
                source=document.source((*path, *fault.where.split("."))),
            )
            for fault in error.faults
        ]
    return []
