"""The application that every command joins, and the arguments that several have."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Optional

import typer

from taskloom import __version__
from taskloom.room import TRUST

app = typer.Typer(
    name="taskloom",
    help="Fine-tune one language model on many tasks at once.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

RunFile = Annotated[Path, typer.Argument(help="The run file (YAML).", metavar="RUN.yaml")]
RunFolder = Annotated[Path, typer.Argument(help="The run folder.", metavar="FOLDER")]
TaskName = Annotated[str, typer.Argument(help="The task's name.")]
Source = Annotated[
    str, typer.Argument(help="A .jsonl, .csv or .parquet file, - for JSON lines on standard input, or a text.")
]
Assignments = Annotated[
    Optional[list[str]],  # noqa: UP045 - typer reads this form
    typer.Option("--set", metavar="A.B=VALUE", help="Override a key of the file; may be repeated."),
]


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    trust_code: Annotated[
        bool, typer.Option("--trust-code", help="Run the code that comes with run folders; read it first.")
    ] = False,
) -> None:
    if trust_code:
        os.environ[TRUST] = "1"
    if debug:
        os.environ["TASKLOOM_DEBUG"] = "1"
    if version:
        typer.echo(f"taskloom {__version__}")
        raise typer.Exit
