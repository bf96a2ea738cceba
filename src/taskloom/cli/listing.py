"""`taskloom list`: what the rooms hold, read from their files without importing them."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from taskloom.balance import BALANCES
from taskloom.errors import ConfigError, Fault, nearest
from taskloom.room import Room

ROOMS: dict[str, Room[Any]] = {
    "tasks": Room[Any]("taskloom.tasks", "task type"),
    "metrics": Room[Any]("taskloom.metrics", "metric"),
    "mixtures": Room[Any]("taskloom.mixture", "mixture"),
    "balance": BALANCES,
    "policies": Room[Any]("taskloom.policy", "policy"),
    "composites": Room[Any]("taskloom.composite", "composite score"),
    "estimators": Room[Any]("taskloom.affinity.estimators", "estimator of transfer"),
    "sharing": Room[Any]("taskloom.model.sharing", "sharing scheme"),
    "mitigations": Room[Any]("taskloom.mitigation", "mitigation"),
}
"""What `list` calls a room -> the room."""


def run_list(wanted: str | None) -> None:
    """Print each method with the first sentence of its documentation.

    Raises:
        ConfigError: there is no such room.
    """
    if wanted is not None and wanted not in ROOMS:
        raise ConfigError(Fault(wanted, "be a room", f"`{wanted}`", nearest(wanted, ROOMS)))
    console = Console()
    for name, room in ROOMS.items():
        if wanted in {None, name}:
            table = Table(name, "", box=None, pad_edge=False, title_justify="left")
            for method in room.names():
                table.add_row(method, room.summary(method))
            console.print(table, "")
