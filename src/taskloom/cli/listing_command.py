"""Commands that show what there is: list, doctor and schema."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from taskloom.cli.app import app


@app.command(name="list")
def list_(
    room: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(help="A room, such as tasks, metrics, mixtures or balance; by default all."),
    ] = None,
) -> None:
    """List task types, metrics, mixtures and balancing methods, each in one sentence."""
    from taskloom.cli.listing import run_list

    run_list(room)


@app.command()
def doctor() -> None:
    """Show versions, devices, and which extras are missing and what they would give."""
    from taskloom.cli.commands import run_doctor

    run_doctor()


@app.command()
def schema() -> None:
    """Print the JSON Schema of a run file, for editors that complete and check YAML."""
    import json

    from taskloom.config import json_schema

    typer.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
