"""What `cross-validate`, `curve` and `correlate` show."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from taskloom.cli.commands import console
from taskloom.config import read_config
from taskloom.correlation import Correlation, correlate
from taskloom.correlation.measuring import LEAST
from taskloom.errors import ConfigError, Fault, listed
from taskloom.room import shown
from taskloom.study import cross_validation, curves

TITLES = {
    "checkpoints": "Changes of validation scores from one evaluation to the next",
    "steps": "Changes of training losses from one step to the next",
    "runs": "Test scores over runs",
}


def run_cross_validation(run: Path, out: Path, folds: int | None, assignments: Sequence[str]) -> None:
    """Cross-validate, and show means and deviations."""
    outcome = cross_validation.cross_validate(run, out, count=folds, assignments=assignments, console=console)
    console.print(fold_table(outcome))
    kept = {name: count for name, count in outcome["kept"].items() if count}
    for name, count in kept.items():
        console.print(f"{name}: {count} rows are never tested, since their label stands in no other text.")
    console.print(f"\nFigures: {out / cross_validation.FILE}", soft_wrap=True)


def fold_table(outcome: Mapping[str, Any]) -> Table:
    """Give a row for each task and metric: mean and deviation over folds, and each fold."""
    table = Table("task", "metric", box=None, pad_edge=False)
    for heading in ("mean", "deviation", *(f"fold {fold + 1}" for fold in range(outcome["folds"]))):
        table.add_column(heading, justify="right")
    for task, metrics in outcome["tasks"].items():
        for metric, held in metrics.items():
            values = [f"{value:.3f}" for value in held["values"]]
            table.add_row(task, shown(metric), f"{held['mean']:.3f}", f"{held['deviation']:.3f}", *values)
    return table


def run_curve(
    run: Path, task: str, out: Path, shares: str, seeds: int, workers: int, assignments: Sequence[str]
) -> None:
    """Make a learning curve, and show it."""
    try:
        wanted = [float(share) for share in shares.split(",")]
    except ValueError as error:
        raise ConfigError(Fault("--shares", "be numbers", f"`{shares}`", "Write `0.1,0.5,1`")) from error
    points = curves.learning_curve(
        read_config(run, assignments),
        task,
        out,
        shares=wanted,
        seeds=range(seeds),
        workers=workers,
        console=console,
    )
    console.print(f"{task}: normalised test score, mean over {seeds} seed{'s' * (seeds > 1)}", soft_wrap=True)
    table = Table("share", "rows", "alone", "together", "rows saved", box=None, pad_edge=False)
    for line in curves.as_lines(points):
        table.add_row(*line.values())
    console.print(table)
    console.print(f"\nFigures: {out / curves.FILE}", soft_wrap=True)


def run_correlation(folders: Sequence[Path]) -> None:
    """Correlate tasks, and show how."""
    found = correlate(folders)
    for each in found:
        points = int(each.points.max()) if each.points.size else 0
        console.print(f"{TITLES[each.over]} ({points} points)", soft_wrap=True)
        console.print(correlation_table(each))
        together = [group for group in each.clusters if len(group) > 1]
        words = "; ".join(listed(group) for group in together)
        console.print(f"Together: {words}.\n" if words else "No tasks go together by more than half.\n", soft_wrap=True)
    if not any(each.over == "runs" for each in found):
        console.print(f"Scores of runs are correlated from {LEAST} runs on.")


def correlation_table(found: Correlation) -> Table:
    """Give Pearson's correlations with their intervals, a row for each task."""
    table = Table("", box=None, pad_edge=False)
    for name in found.tasks:
        table.add_column(name, justify="right")
    for row, name in enumerate(found.tasks):
        table.add_row(name, *(_cell(found, row, column) for column in range(row)))
    return table


def _cell(found: Correlation, row: int, column: int) -> str:
    value = float(found.pearson[row, column])
    if math.isnan(value):
        return f"({found.points[row, column]} points)"
    return f"{value:+.2f} ({found.low[row, column]:+.2f} … {found.high[row, column]:+.2f})"
