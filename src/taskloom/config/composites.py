"""`evaluation.composite:` how all tasks' scores become one number."""

from __future__ import annotations

from typing import Any

from taskloom.config.document import Document
from taskloom.config.faults import validated
from taskloom.config.schema import composite_model
from taskloom.errors import ConfigError, Fault, nearest

PATH = ("evaluation", "composite")


def checked_composite(evaluation: Any, tasks: Any, document: Document, faults: list[Fault]) -> dict[str, Any]:
    """Check a name, or a mapping with a `name` and options.

    Args:
        evaluation: what stands under `evaluation:`.
        tasks: the run's tasks, as they stand in the file.
        document: for places in messages.
        faults: what is wrong is added here.

    Returns:
        the name and all options; empty where something is wrong.
    """
    value = evaluation.get("composite") if isinstance(evaluation, dict) else None
    section = value if isinstance(value, dict) else {"name": value or "weighted_mean"}
    path = (*PATH, "name") if isinstance(value, dict) else PATH
    try:
        model = composite_model(str(section.get("name")))
    except ConfigError as error:
        inner = error.faults[0]
        faults.append(Fault(".".join(path), inner.requirement, inner.found, inner.fix, document.source(path)))
        return {}
    checked = validated(model, section, document, PATH, faults)
    if checked is None:
        return {}
    resolved = checked.model_dump()
    for option, held in resolved.items():
        for name in held if isinstance(held, dict) and isinstance(tasks, dict) and tasks else ():
            if name not in tasks:
                where, source = ".".join((*PATH, option, name)), document.source((*PATH, option, name))
                faults.append(Fault(where, "be one of the run's tasks", f"`{name}`", nearest(name, tasks), source))
    return resolved
