"""Watching a run until it ends."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from taskloom.record import Record
from taskloom.watching.drawing import draw
from taskloom.watching.progress import KILLED, Progress


def watch(folder: Path | str, console: Console, *, once: bool = False, seconds: float = 1.0) -> None:
    """Draw how a run stands, again and again until it ends, and leave the last drawing.

    Where the console is no terminal it draws once.

    Args:
        folder: the run folder; on a terminal it need not be there yet.
        console: where to.
        once: draw once.
        seconds: between two looks.

    Raises:
        RunFolderError: the folder is no run folder, or of another version; where it draws once, also that there is
            none.
    """
    progress = Progress(folder)
    if once or not console.is_terminal:
        progress.update()
        console.print(draw(progress), soft_wrap=not console.is_terminal)
        return
    waiting = Text(f"Waiting for {folder} to begin; Ctrl-C ends the watch.")
    with Live(waiting, console=console, auto_refresh=False) as live:
        while not _begun(progress.record):
            time.sleep(seconds)
        killed = False
        while True:
            progress.update()
            live.update(draw(progress), refresh=True)
            # A run that has just made its folder has no lock yet for a moment, and looks like a killed one.
            if progress.ended and (killed or progress.status != KILLED):
                return
            killed = progress.status == KILLED
            time.sleep(seconds)


def _begun(record: Record) -> bool:
    """Tell whether there is a run to watch; a folder of other things is left to be refused."""
    return record.state_json.is_file() or (record.folder.exists() and any(record.folder.glob("[!.]*")))
