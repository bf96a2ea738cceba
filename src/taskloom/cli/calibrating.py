"""What the command about probabilities does; imported when it is called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from taskloom.calibration.measuring import Error
from taskloom.calibration.run import FILE, Calibrated, calibrate, forget
from taskloom.cli import commands


def run_calibrate(folder: Path, *, remove: bool = False) -> None:
    """Calibrate a run and show what that changed, or take it back."""
    if remove:
        words = "took the calibration back" if forget(folder) else "there was no calibration"
        commands.console.print(f"{words}; probabilities of {folder} are as trained", soft_wrap=True)
        return
    found = calibrate(folder)
    commands.console.print(calibration_table(found))
    for line in _notes(found):
        commands.console.print(escape(line), soft_wrap=True)
    commands.console.print(f"\nwrote {folder / FILE}; `taskloom predict` tells these probabilities", soft_wrap=True)


def calibration_table(found: Sequence[Calibrated]) -> Table:
    """Give a row for each task."""
    headings = ("task", "temperature", "error before", "error after", "by chance", "answers", "of")
    table = Table(*headings, box=None, pad_edge=False)
    for each in found:
        chance = f"{each.after.chance:.3f}"
        errors = (_cell(each.before), _cell(each.after), chance)
        table.add_row(escape(each.task), f"{each.temperature:.3f}", *errors, str(each.choices), each.measured_on)
    return table


def _cell(error: Error) -> str:
    return f"{error.value:.3f} ({error.low:.3f} … {error.high:.3f})"


def _notes(found: Sequence[Calibrated]) -> list[str]:
    lines = []
    for each in found:
        if each.at_limit:
            reason = "its validation answers are all right, or no better than chance"
            lines.append(f"{each.task}: the temperature ran to its limit; {reason}.")
        if each.measured_on == "validation":
            lines.append(f"{each.task}: without test rows, the errors are those of the rows it was fitted on.")
    return lines
