"""What `taskloom transfer` shows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast, get_args

from rich.table import Table

from taskloom.affinity import Transfer, read_probes, read_transfers
from taskloom.affinity.reading import DEFAULT, LEAST_PROBES
from taskloom.cli.commands import console
from taskloom.config import read_config
from taskloom.errors import ConfigError, Fault, RunFolderError, listed, nearest
from taskloom.record import Record

NAMED = 3
"""How many of the strongest effects are named on each side."""


def run_transfer(folder: Path, estimators: Sequence[str]) -> None:
    """Show predicted transfer by some estimators."""
    found = predicted(folder)
    unknown = [name for name in estimators if name not in found]
    if unknown:
        fix = nearest(unknown[0], found)
        raise ConfigError(Fault("--estimator", "be one that this run's probes serve", f"`{unknown[0]}`", fix))
    for name in estimators or [DEFAULT]:
        console.print(matrix_table(found[name]))
        for line in effect_lines(found[name]):
            console.print(line, soft_wrap=True)
    console.print(cost_line(Record.open(folder)), soft_wrap=True)


def run_measurement(run: Path, out: Path, kind: str, seeds: int, workers: int, assignments: Sequence[str]) -> None:
    """Measure transfer, and show it."""
    from taskloom.study.ground_truth import FILE, Kind, measure_transfer

    kinds = get_args(Kind)
    if kind not in kinds:
        raise ConfigError(Fault("--kind", f"be one of {listed(kinds)}", f"`{kind}`", nearest(kind, kinds)))
    base = read_config(run, assignments)
    found = measure_transfer(base, out, cast("Kind", kind), seeds=range(seeds), workers=workers, console=console)
    for transfer in found.values():
        console.print(matrix_table(transfer))
        for line in effect_lines(transfer):
            console.print(line, soft_wrap=True)
    console.print(f"\nFigures: {out / FILE}", soft_wrap=True)


def predicted(folder: Path) -> dict[str, Transfer]:
    """Give what a run's probes predict, by each estimator.

    Raises:
        RunFolderError: the run has no probes.
    """
    found = read_transfers(folder)
    if not found:
        fix = "Train two tasks or more with validation rows, and for more steps than `transfer.every_steps`, above 0"
        raise RunFolderError(Fault(str(folder), "hold probes of transfer", "none", fix))
    return found


def matrix_table(transfer: Transfer) -> Table:
    """Lay effects out, a row for each source; `*` stands where the interval leaves out nought."""
    table = Table(title=f"{transfer.estimator}: what training the row's task does for the column's ({transfer.unit})")
    table.add_column("source")
    for name in transfer.tasks:
        table.add_column(name, justify="right")
    for source, name in enumerate(transfer.tasks):
        cells = [_cell(transfer, source, target) for target in range(len(transfer.tasks))]
        table.add_row(name, *cells)
    return table


def _cell(transfer: Transfer, source: int, target: int) -> str:
    value = float(transfer.effect[source, target])
    if math.isnan(value):
        return ""
    return f"{value:+.3g}{'*' if told(transfer, source, target) else ''}"


def told(transfer: Transfer, source: int, target: int) -> bool:
    """Say whether an effect's interval lies on one side of nought."""
    low, high = float(transfer.low[source, target]), float(transfer.high[source, target])
    return low > 0 or high < 0


def effect_lines(transfer: Transfer) -> Iterator[str]:
    """Name the strongest effects that are told from nought, and say how many are not."""
    tasks = range(len(transfer.tasks))
    pairs = [(source, target) for source in tasks for target in tasks if source != target]
    known = sorted((pair for pair in pairs if told(transfer, *pair)), key=lambda pair: -transfer.effect[pair])
    for word, chosen in (
        ("helps", [pair for pair in known if transfer.effect[pair] > 0][:NAMED]),
        ("hurts", [pair for pair in reversed(known) if transfer.effect[pair] < 0][:NAMED]),
    ):
        for source, target in chosen:
            low, high = transfer.low[source, target], transfer.high[source, target]
            yield f"{transfer.tasks[source]} {word} {transfer.tasks[target]} ({low:+.3g} … {high:+.3g})"
    by = "by these seeds" if transfer.measured else "by these probes"
    yield f"{len(pairs) - len(known)} of {len(pairs)} effects cannot be told from nought {by}."


def cost_line(record: Record) -> str:
    """Say how many probes there were, and their share of the time."""
    probes = read_probes(record.transfer)
    spent = sum(probe.seconds + probe.ahead_seconds for probe in probes)
    # A step's seconds hold the probe before it; one after the last step stands in none.
    whole = max(spent, sum(row.get("seconds", 0.0) for row in record.steps()))
    few = "" if len(probes) >= LEAST_PROBES else f"; fewer than {LEAST_PROBES} give no interval"
    share = f"{100 * spent / whole:.1f} % of the training time"
    return f"{len(probes)} probes{few}, {share}. A prediction, not a measurement."
