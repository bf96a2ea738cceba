"""What the commands do that make a run of finished ones; imported when they are called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from taskloom.cli import commands
from taskloom.errors import ConfigError, Fault
from taskloom.growth.adding import add_task
from taskloom.growth.forgetting import Forgetting, read_forgetting
from taskloom.growth.merging import Mix, merge
from taskloom.growth.proof import Unchanged, read_proof
from taskloom.growth.relatedness import Related, read_relatedness


def run_add_task(
    folder: Path,
    task: Path,
    out: Path | None,
    init_from: str | None,
    assignments: Sequence[str],
    *,
    prove: bool = True,
) -> None:
    """Add a task to a run, and show its scores and what became of the others."""
    grown = add_task(
        folder, task, out, init_from=init_from, prove=prove, assignments=assignments, console=commands.console
    )
    related = read_relatedness(grown.record)
    if related:
        commands.console.print(
            "\nHow old tasks are related to the new one: cosine of mean gradients on the shared parameters."
        )
        commands.console.print(relatedness_table(related))
    commands.console.print()
    commands._show_scores(grown.scores)
    unchanged, lost = read_proof(grown.record), read_forgetting(grown.record)
    if unchanged:
        commands.console.print("\nOutputs of the other tasks before and after, bit by bit:")
        commands.console.print(proof_table(unchanged))
    if lost:
        commands.console.print("\nWhat the other tasks lost or won:")
        commands.console.print(forgetting_table(lost))
    commands.console.print(f"\nThe run with all tasks: {grown.folder}", soft_wrap=True)


def run_merge(folders: Sequence[Path], out: Path, method: str, weights: str | None, density: float, seed: int) -> None:
    """Merge runs, and say how to find out what that cost."""
    merged = merge(folders, out, Mix(method, _numbers(weights), density, seed))
    commands.console.print(f"wrote {merged.folder}; go on with `taskloom evaluate {merged.folder}`", soft_wrap=True)


def _numbers(text: str | None) -> tuple[float, ...]:
    """Read numbers with commas between them."""
    try:
        return tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError:
        requirement = "be numbers with commas between them, such as `0.5,0.5`"
        raise ConfigError(Fault("--weights", requirement, f"`{text}`")) from None


def proof_table(lines: Sequence[Unchanged]) -> Table:
    """Give a row for each task whose outputs were compared."""
    table = Table("task", "rows", "from", "sha256 before", "after", "same", box=None, pad_edge=False)
    for line in lines:
        same = "yes" if line.before == line.after else "no"
        table.add_row(escape(line.task), str(line.rows), escape(line.source), line.before[:12], line.after[:12], same)
    return table


def relatedness_table(lines: Sequence[Related]) -> Table:
    """Give a row for each old task, the most related first."""
    table = Table("task", "cosine", "95 % interval", "parts that fit", "begins from", box=None, pad_edge=False)
    for line in lines:
        parts = ", ".join(line.parts).replace("_", " ") or "none"
        interval = f"{line.low:.3f} … {line.high:.3f}"
        table.add_row(escape(line.task), f"{line.cosine:.3f}", interval, parts, "yes" if line.chosen else "")
    return table


def forgetting_table(lines: Sequence[Forgetting]) -> Table:
    """Give a row for each score of an old task."""
    headings = ("task", "metric", "before", "after", "difference", "95 % interval", "n")
    table = Table(*headings, box=None, pad_edge=False)
    for line in lines:
        name = line.task if line.split == "test" else f"{line.task} ({line.split})"
        interval = f"{line.low:+.3f} … {line.high:+.3f}"
        scores = (f"{line.before:.3f}", f"{line.after:.3f}", f"{line.difference:+.3f}")
        table.add_row(escape(name), line.metric, *scores, interval, str(line.n))
    return table
