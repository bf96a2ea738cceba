"""Commands about evaluation over several runs: cross-validate, curve, correlate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from taskloom.cli.app import Assignments, RunFile, app


@app.command(name="cross-validate")
def cross_validate(
    run: RunFile,
    out: Annotated[Path, typer.Option(help="Where the runs and the outcome go.")],
    folds: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=2, help="How many; by default what `evaluation.cross_validation` says."),
    ] = None,
    assignments: Assignments = None,
) -> None:
    """Test every row of every task once, by runs on the other folds."""
    from taskloom.cli.evaluating import run_cross_validation

    run_cross_validation(run, out, folds, assignments or [])


@app.command()
def curve(
    run: RunFile,
    task: Annotated[str, typer.Option(help="The task whose rows are cut.")],
    out: Annotated[Path, typer.Option(help="Where the runs and the outcome go.")],
    shares: Annotated[str, typer.Option(help="Shares of its training rows.")] = "0.1,0.25,0.5,1",
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of each run.")] = 3,
    workers: Annotated[int, typer.Option(min=1, help="Runs that train side by side.")] = 1,
    assignments: Assignments = None,
) -> None:
    """Train a task on more and more of its rows, alone and beside the others: how many labels do they save?"""
    from taskloom.cli.evaluating import run_curve

    run_curve(run, task, out, shares, seeds, workers, assignments or [])


@app.command()
def correlate(
    folders: Annotated[list[Path], typer.Argument(help="Run folders.", metavar="FOLDER...")],
) -> None:
    """Show which tasks rise and fall together, over checkpoints, steps and runs."""
    from taskloom.cli.evaluating import run_correlation

    run_correlation(folders)
