"""The command about layers: layers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from taskloom.cli.app import RunFolder, app


@app.command()
def layers(
    folder: RunFolder,
    other: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Argument(help="Another run with a task of the same name, such as one trained for it alone."),
    ] = None,
    rows: Annotated[int, typer.Option(min=8, help="Validation rows of each task that are read.")] = 128,
) -> None:
    """Show which layers serve which tasks: what training changed, where gradients conflict, which experts are used."""
    from taskloom.cli.layers import run_layers

    run_layers(folder, other, rows)
