"""The command about studies: study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from taskloom.cli.app import Assignments, app


@app.command()
def study(
    file: Annotated[Path, typer.Argument(help="The study's file (YAML).", metavar="STUDY.yaml")],
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="The study's folder; by default runs/ and the file's name."),
    ] = None,
    workers: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="Runs that train side by side; by default what the file says."),
    ] = None,
    assignments: Assignments = None,
) -> None:
    """Train tasks alone, together and in other ways under one budget, and say which tasks it helped or harmed."""
    from taskloom.cli.study import run_study_file

    run_study_file(file, out or Path("runs") / file.stem, workers, assignments or [])
