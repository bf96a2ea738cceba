"""The command line: `taskloom COMMAND`. Commands import what they need when they run, so that help is instant.

Every file of this folder whose name ends in `_command` declares commands on `taskloom.cli.app.app`, and is found here.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from pathlib import Path

import typer

from taskloom.cli.app import app
from taskloom.errors import TaskloomError

FIRST = "running_command"
"""The file whose commands stand at the top of the help."""

_found = sorted(path.stem for path in Path(__file__).parent.glob("*_command.py"))
for _name in sorted(_found, key=lambda each: each != FIRST):
    importlib.import_module(f"taskloom.cli.{_name}")


def main() -> None:
    """Run the command line; the user's faults end with 2, our own with 1, an interruption with 130, by typer."""
    # So that `my_tasks:Triage` finds my_tasks.py here; last, so that nothing here hides an installed package.
    sys.path.append(str(Path.cwd()))
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # where it is installed, it warns at every command
    try:
        app()
    except TaskloomError as error:
        if os.environ.get("TASKLOOM_DEBUG"):
            raise
        typer.echo(str(error), err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(1)
    except Exception as error:
        if os.environ.get("TASKLOOM_DEBUG"):
            raise
        text = f"Taskloom met a fault of its own: {type(error).__name__}: {error}"
        typer.echo(f"{text}\nCall again as `taskloom --debug …` for the traceback.", err=True)
        sys.exit(1)
