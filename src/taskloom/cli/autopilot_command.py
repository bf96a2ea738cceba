"""The command that does it all: auto."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from taskloom.cli.app import Assignments, RunFile, app


@app.command()
def auto(
    run: RunFile,
    out: Annotated[Path, typer.Option(help="Where everything goes.")],
    budget: Annotated[str, typer.Option(help="In units of training every task alone once, such as 3x.")] = "3x",
    margin: Annotated[float, typer.Option(min=0.0, help="A difference of scores that does not matter.")] = 0.01,
    workers: Annotated[int, typer.Option(min=1, help="Runs that train side by side.")] = 1,
    assignments: Assignments = None,
) -> None:
    """Train tasks alone and together, find out which ail and why, try what helps, and ship what harms none."""
    from taskloom.cli.autopilot import run_auto

    run_auto(run, out, budget, margin, workers, assignments or [])
