"""The command about model cards: card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from taskloom.cli.app import RunFolder, app


@app.command()
def card(
    folder: RunFolder,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="The card; by default README.md beside the model."),
    ] = None,
    license_name: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--license", help="As the Hub names licenses, such as apache-2.0."),
    ] = None,
) -> None:
    """Write a model card in the Hub's form, from what the run folder says."""
    from taskloom.cli.commands import console
    from taskloom.reports.card import model_card

    console.print(f"wrote {model_card(folder, out, license_name=license_name)}", soft_wrap=True)
