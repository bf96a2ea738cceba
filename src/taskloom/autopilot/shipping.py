"""What is shipped: copies of the runs that answer for the tasks, and a note that says which answers for which."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from taskloom.record import VERSION, Record, write_json

SHIPPED, SHIP = "shipped", "ship.json"
LEFT_OUT = shutil.ignore_patterns("checkpoints", "transfer", "lock.json")
"""What a run needs to go on, and nobody to predict."""


def ship(folder: Path, sources: Mapping[str, Record], arm: str, unlearnable: Sequence[str]) -> dict[str, str]:
    """Copy the runs that answer for the tasks; what was shipped before is gone.

    Args:
        folder: of the whole procedure; the copies go to `SHIPPED` in it, with `SHIP` beside them: ``version``,
            ``tasks`` (task -> folder of the run that answers for it) and ``unlearnable`` (tasks whose answers are no
            better than a constant one).
        sources: task -> the run that answers for it, in the order of the run file.
        arm: what a run that answers for several tasks is called.
        unlearnable: tasks whose labels cannot be learned.

    Returns:
        task -> folder within `SHIPPED`.
    """
    place = folder / SHIPPED
    if place.exists():
        shutil.rmtree(place)
    names: dict[Path, str] = {}
    shipped = {}
    for task, record in sources.items():
        source = record.folder
        if source not in names:
            alone = sum(each.folder == source for each in sources.values()) == 1
            names[source] = task if alone else arm.replace(" ", "_")
            shutil.copytree(source, place / names[source], ignore=LEFT_OUT)
        shipped[task] = names[source]
    write_json(place / SHIP, {"version": VERSION, "tasks": shipped, "unlearnable": list(unlearnable)})
    return shipped
