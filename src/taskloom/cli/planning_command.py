"""The command about plans: plan."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from taskloom.cli.app import RunFolder, app


@app.command()
def plan(
    folder: RunFolder,
    groups: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="How many groups; by default the fewest that are not told from the best."),
    ] = None,
    adapters: Annotated[
        bool, typer.Option("--adapters", help="Write one run with an adapter for each group, and not a run for each.")
    ] = False,
    estimator: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="An estimator of `taskloom list estimators`; by default the first."),
    ] = None,
    measured: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="A folder of `measure-transfer`: plan by it, and show what was foretold beside it."),
    ] = None,
    single: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option(help="Runs of one task each: plan by how alike their adapters are, a hypothesis."),
    ] = None,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Where the plan and its run files go; by default the run folder."),
    ] = None,
) -> None:
    """Say which tasks to train together, from what a joint run's probes saw, and write the run files for it."""
    from taskloom.cli.planning import run_plan

    run_plan(folder, groups, adapters, estimator, measured, single or [], out or folder)
