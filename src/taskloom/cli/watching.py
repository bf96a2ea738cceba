"""What the command that shows a run does; imported when it is called, without torch."""

from __future__ import annotations

import os
from pathlib import Path

import typer
from rich.console import Console

from taskloom.watching.following import watch

WIDTH_OF_PIPES = 120
"""Characters of a line where nobody says how wide the place is."""


def run_watch(folder: Path, *, once: bool, seconds: float) -> None:
    """Watch a run; Ctrl-C ends the watch and nothing else, with 130."""
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = WIDTH_OF_PIPES
    try:
        watch(folder, console, once=once, seconds=seconds)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
