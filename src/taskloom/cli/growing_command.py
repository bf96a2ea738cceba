"""Commands that make a run of finished ones: add-task and merge."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from taskloom.cli.app import Assignments, RunFolder, app


@app.command(name="add-task")
def add_task(
    run: RunFolder,
    task: Annotated[Path, typer.Argument(help="The file of one new task (YAML).", metavar="TASK.yaml")],
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="The new run folder; by default beside the run, named after both."),
    ] = None,
    init_from: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--init-from", help="A task whose parts it begins with; auto for the most related one."),
    ] = None,
    proof: Annotated[bool, typer.Option(help="Compare the outputs of the other tasks bit by bit.")] = True,
    assignments: Assignments = None,
) -> None:
    """Train one more task on a finished run, whose other tasks answer as before to the bit."""
    from taskloom.cli.growing import run_add_task

    run_add_task(run, task, out, init_from, assignments or [], prove=proof)


@app.command()
def merge(
    folders: Annotated[list[Path], typer.Argument(help="Folders of finished runs.", metavar="FOLDER...")],
    out: Annotated[Path, typer.Option(help="The merged run's folder.")],
    method: Annotated[
        str, typer.Option(help="linear, ties, dare_linear, dare_ties, task_arithmetic, cat or svd.")
    ] = "linear",
    weights: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="One number for each run, with commas between; by default alike."),
    ] = None,
    density: Annotated[float, typer.Option(help="Share of entries that ties and dare keep.")] = 0.5,
    seed: Annotated[int, typer.Option(help="Of what dare drops.")] = 0,
) -> None:
    """Merge the adapters of runs on one backbone into a run with the tasks of all."""
    from taskloom.cli.growing import run_merge

    run_merge(folders, out, method, weights, density, seed)
