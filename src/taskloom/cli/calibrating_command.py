"""The command about probabilities: calibrate."""

from __future__ import annotations

from typing import Annotated

import typer

from taskloom.cli.app import RunFolder, app


@app.command()
def calibrate(
    folder: RunFolder,
    remove: Annotated[
        bool, typer.Option("--remove", help="Take the calibration back: probabilities are as trained again.")
    ] = False,
) -> None:
    """Make probabilities mean what they say: one temperature for each task, by its validation rows."""
    from taskloom.cli.calibrating import run_calibrate

    run_calibrate(folder, remove=remove)
