"""What the command about layers does; imported when it is called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from taskloom.cli import commands
from taskloom.representation.layers import BEFORE, FILE, RUNS, TASKS, Alike, LayerConflict, compare_layers

LIMIT_PAIRS = 6
"""Pairs of tasks that a table shows: those that are least alike, or whose gradients lie furthest apart."""

HEADINGS = {
    BEFORE: "How alike each task's rows are to what they were before training (linear CKA, 1 is the same):",
    RUNS: "How alike each task's rows are in the two runs (linear CKA):",
    TASKS: "How alike the same rows are as one task's and as another's (linear CKA):",
}


def run_layers(folder: Path, other: Path | None, rows: int) -> None:
    """Look at the layers of a run, and show what was found."""
    found = compare_layers(folder, other, rows=rows)
    for kind, heading in HEADINGS.items():
        part = [each for each in found.alike if each.kind == kind]
        if part:
            commands.console.print(heading)
            commands.console.print(alike_table(part))
            commands.console.print()
    if not found.parted:
        commands.console.print(
            "All tasks read with the same parts of the backbone: their rows are the same in each layer."
        )
        commands.console.print()
    if found.conflict:
        commands.console.print("Mean cosine of gradients by layer, over the recorded steps:")
        commands.console.print(conflict_table(found.conflict))
        commands.console.print()
    if found.experts:
        commands.console.print("Mean gate of each expert, by task:")
        commands.console.print(expert_table(found.experts))
        commands.console.print()
    commands.console.print(f"wrote {folder / FILE}", soft_wrap=True)


def alike_table(part: Sequence[Alike]) -> Table:
    """Give a row for each layer and a column for each task, or for the pairs that are least alike."""
    least: dict[str, float] = {}
    for each in part:
        name = f"{each.task}, {each.other}" if each.other else each.task
        least[name] = min(least.get(name, 1.0), each.value)
    shown = list(least) if part[0].kind != TASKS else sorted(least, key=lambda name: least[name])[:LIMIT_PAIRS]
    cells = {(each.layer, f"{each.task}, {each.other}" if each.other else each.task): each for each in part}
    table = Table("layer", *map(escape, shown), box=None, pad_edge=False)
    for layer in sorted({each.layer for each in part}):
        held = [cells[layer, name] for name in shown]
        table.add_row(_named(layer), *(f"{each.value:.2f} ({each.low:.2f} … {each.high:.2f})" for each in held))
    return table


def _named(layer: int) -> str:
    return str(layer) if layer else "words"


def conflict_table(found: Sequence[LayerConflict]) -> Table:
    """Give a row for each layer and a column for the pairs with the lowest mean cosine over layers."""
    sums: dict[tuple[str, str], float] = {}
    for each in found:
        sums[each.tasks] = sums.get(each.tasks, 0.0) + each.cosine
    shown = sorted(sums, key=lambda pair: sums[pair])[:LIMIT_PAIRS]
    cells = {(each.layer, each.tasks): each for each in found}
    table = Table("layer", *(escape(", ".join(pair)) for pair in shown), box=None, pad_edge=False)
    for layer in dict.fromkeys(each.layer for each in found):
        held = [cells.get((layer, pair)) for pair in shown]
        words = ["" if each is None else f"{each.cosine:+.2f} ({each.low:+.2f} … {each.high:+.2f})" for each in held]
        table.add_row(escape(layer), *words)
    return table


def expert_table(found: dict[str, list[float]]) -> Table:
    """Give a row for each task and a column for each expert."""
    count = max(map(len, found.values()))
    table = Table("task", *(f"expert {number}" for number in range(1, count + 1)), box=None, pad_edge=False)
    for task, load in found.items():
        table.add_row(escape(task), *(f"{share:.2f}" for share in load))
    return table
