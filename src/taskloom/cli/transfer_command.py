"""The command about transfer: transfer."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from taskloom.cli.app import RunFolder, app


@app.command()
def transfer(
    folder: RunFolder,
    estimator: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="An estimator of `taskloom list estimators`; may be repeated. By default the first."),
    ] = None,
) -> None:
    """Predict what training each task does for each other one, from gradients that a joint run's probes saw."""
    from taskloom.cli.transfer import run_transfer

    run_transfer(folder, estimator or [])
