"""What `taskloom auto` shows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from taskloom.autopilot import auto
from taskloom.autopilot.pilot import FILE
from taskloom.autopilot.shipping import SHIPPED
from taskloom.cli.commands import console
from taskloom.errors import ConfigError, Fault

UNITS = re.compile(r"(\d+(?:\.\d+)?)x?")


def run_auto(run: Path, out: Path, budget: str, margin: float, workers: int, assignments: Sequence[str]) -> None:
    """Go through the procedure, and show what was tried and what is shipped."""
    found = UNITS.fullmatch(budget)
    if not found:
        raise ConfigError(Fault("--budget", "be a number of units", f"`{budget}`", "Write `3x`"))
    outcome = auto(
        run,
        out,
        budget=float(found.group(1)),
        margin=margin,
        assignments=assignments,
        workers=workers,
        console=console,
    )
    console.print()
    console.print(ledger_table(outcome))
    console.print(shipped_table(outcome))
    console.print(f"\nModels: {out / SHIPPED}. Everything that was tried: {out / FILE}", soft_wrap=True)


def ledger_table(outcome: Mapping[str, Any]) -> Table:
    """Give a row for everything that was tried, with its cost."""
    title = f"{outcome['spent']:.2f} of {outcome['units']:g} units spent"
    table = Table("step", "arm", "seed", "units", "result", box=None, pad_edge=False, title=title, title_justify="left")
    for row in outcome["ledger"]:
        table.add_row(row["step"], row["arm"], str(row["seed"]), f"{row['cost']:.2f}", row["result"])
    return table


def shipped_table(outcome: Mapping[str, Any]) -> Table:
    """Give a row for each task: the model that answers for it, and its test score against that alone."""
    table = Table("task", "answered by", "against alone", "interval", "verdict", box=None, pad_edge=False,
                  title="\nTest rows, looked at once", title_justify="left")  # fmt: skip
    for row in outcome["test"]:
        known = row["low"] is not None and row["high"] is not None
        ends = f"{row['low']:+.3f} … {row['high']:+.3f}" if known else ""
        answered = outcome["shipped"][row["task"]]
        table.add_row(row["task"], answered, f"{row['difference']:+.3f}", ends, row["word"])
    return table
