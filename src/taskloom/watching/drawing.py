"""A run that is being watched, as a drawing for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from taskloom.room import shown
from taskloom.watching.curve import sparkline
from taskloom.watching.progress import Progress, TaskProgress

STYLES = {"running": "bold cyan", "scoring": "bold cyan", "finished": "bold green", "interrupted": "bold yellow"}
"""How the words of a run's status are coloured; those of a failed and of a killed run are red."""

ABSENT = "…"


def draw(progress: Progress) -> Group:
    """Draw how a run stands: the whole, a bar, a row for each task, conflict and decisions."""
    parts: list[RenderableType] = [_head(progress)]
    if progress.steps:
        parts.append(ProgressBar(total=progress.steps, completed=progress.step, width=60))
    if progress.tasks:
        parts += [Text(), _table(progress)]
    lines = _lines(progress)
    return Group(*parts, *([Text(), *lines] if lines else []))


def _head(progress: Progress) -> Group:
    head = Text(str(progress.record.folder), style="bold")
    head.append("  ")
    head.append(progress.phase, style=STYLES.get(progress.phase, "bold red"))
    of = "" if progress.steps is None else f" of {progress.steps}"
    words = [f"step {progress.step}{of}"]
    left, speed = progress.seconds_left, progress.tokens_per_second
    if left is not None:
        words.append(f"about {duration(left)} left")
    if speed is not None:
        words.append(f"{speed:,.0f} tokens/s")
    if progress.learning_rate is not None:
        words.append(f"learning rate {progress.learning_rate:.2g}")
    return Group(head, Text("  ".join(words)))


def _table(progress: Progress) -> Table:
    headings = ("task", "loss", "over the run", "weight", "share", "rate", "score", "change", "metric")
    table = Table(*headings, box=None, pad_edge=False)
    for place in (1, 3, 4, 5, 6, 7):
        table.columns[place].justify = "right"
    for name, task in progress.tasks.items():
        table.add_row(
            escape(name),
            _number(task.loss, ".3f"),
            sparkline(task.curve.points()),
            _number(task.weight, ".2f"),
            _number(progress.share(name), ".0%"),
            _number(task.learning_rate, ".2g"),
            _number(task.score, ".3f"),
            _change(task),
            escape(shown(task.metric)),
        )
    return table


def _lines(progress: Progress) -> list[Text]:
    lines = []
    composite, before = progress.composite
    if composite is not None:
        change = "" if before is None else f" ({composite - before:+.3f})"
        lines.append(Text(f"composite {composite:.3f}{change}"))
    if progress.conflict is not None:
        cosine, count = progress.conflict
        steps = f"the last {count} recorded steps" if count > 1 else "the last recorded step"
        lines.append(Text(f"mean cosine of the tasks' gradients over {steps}: {cosine:+.3f}"))
    if progress.skipped:
        lines.append(Text(f"steps left out for gradients that were not finite: {progress.skipped}", style="yellow"))
    return [*lines, *map(_decision, progress.decisions)]


def _decision(row: Mapping[str, Any]) -> Text:
    return Text(f"step {row['step']}  {row.get('policy')}  {row.get('task')}: {row.get('reason')}")


def _number(value: float | None, form: str) -> str:
    return ABSENT if value is None else format(value, form)


def _change(task: TaskProgress) -> str:
    # Whether more is better is the metric's to say, and a folder's metric may be anyone's code; so it has no colour.
    return "" if task.score is None or task.before is None else f"{task.score - task.before:+.3f}"


def duration(seconds: float) -> str:
    """Write a time in the unit that fits it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
