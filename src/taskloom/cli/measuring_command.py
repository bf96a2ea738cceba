"""The command that measures transfer: measure-transfer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from taskloom.cli.app import Assignments, RunFile, app


@app.command(name="measure-transfer")
def measure_transfer(
    run: RunFile,
    out: Annotated[Path, typer.Option(help="Where the runs and the outcome go.")],
    kind: Annotated[str, typer.Option(help="pairs, or leave_one_out.")] = "pairs",
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of each run.")] = 3,
    workers: Annotated[int, typer.Option(min=1, help="Runs that train side by side.")] = 1,
    assignments: Assignments = None,
) -> None:
    """Train tasks alone and in pairs, or all but one, and show what each does for each other one."""
    from taskloom.cli.transfer import run_measurement

    run_measurement(run, out, kind, seeds, workers, assignments or [])
