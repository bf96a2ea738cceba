"""What was appended to a file of JSON lines since it was last read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from taskloom.record import whole_line

LIMIT_LAST = 1024
"""Bytes before the place that was read last, by which a file is known again."""


class Tail:
    """Reads a growing file of JSON lines piece by piece.

    A last line without its end is left until the rest has come. A file that became shorter, or that another took the
    place of (as when a run goes on from a checkpoint), is read from its start again.

    Args:
        path: of the file; it need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._begin()

    def read(self) -> tuple[bool, list[dict[str, Any]]]:
        """Give whether earlier lines no longer hold, and the whole lines that are new.

        Raises:
            RunFolderError: a line is no JSON object, or of another version.
        """
        begun = self._place > 0
        try:
            stream = self.path.open("rb")
        except FileNotFoundError:
            self._begin()
            return begun, []
        with stream:
            stream.seek(self._place - len(self._last))
            held = stream.read()
            # Steps hold their seconds, so a file that was cut and has grown again has another last line there.
            anew = not held.startswith(self._last)
            if anew:
                self._begin()
                stream.seek(0)
                held = stream.read()
        return anew, self._lines_of(held[len(self._last) :])

    def _lines_of(self, held: bytes) -> list[dict[str, Any]]:
        lines = held.split(b"\n")[:-1]
        rows = []
        for line in lines:
            self._place += len(line) + 1
            self._lines += 1
            rows.append(whole_line(line, f"{self.path}:{self._lines}"))
        if lines:
            self._last = (lines[-1] + b"\n")[-LIMIT_LAST:]
        return rows

    def _begin(self) -> None:
        self._place, self._lines, self._last = 0, 0, b""
