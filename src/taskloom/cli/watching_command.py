"""The command that shows a run as it goes: watch."""

from __future__ import annotations

from typing import Annotated

import typer

from taskloom.cli.app import RunFolder, app


@app.command()
def watch(
    folder: RunFolder,
    once: Annotated[bool, typer.Option("--once", help="Draw once and end, as where the output is a pipe.")] = False,
    seconds: Annotated[float, typer.Option(min=0.1, help="Between two looks.")] = 1.0,
) -> None:
    """Show how a run stands, live until it ends: losses, weights, shares, scores, conflict, decisions."""
    from taskloom.cli.watching import run_watch

    run_watch(folder, once=once, seconds=seconds)
