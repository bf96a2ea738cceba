"""What the commands do that say why an answer is what it is; imported when they are called."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from taskloom.attribution.explaining import METHODS, TOLERANCE, Explanation, explain
from taskloom.attribution.influence import Influenced, influence, influence_path
from taskloom.attribution.lines import explanations_path, line_of, write_explanations
from taskloom.cli import commands
from taskloom.errors import ConfigError, Fault, nearest
from taskloom.record import VERSION
from taskloom.run import Run

LIMIT_SHOWN = 12
"""Words of an explanation whose weights are shown as numbers."""

LIMIT_SAID = 60
"""Characters of an answer that are shown."""


def run_explain(
    folder: Path,
    task: str,
    source: str,
    method: str,
    rows: int,
    words: Sequence[int] | None,
    out: Path | None,
    *,
    sanity: bool = False,
) -> None:
    """Explain answers, show them and write them down."""
    chosen = next((each for each in METHODS if each == method), None)
    if chosen is None:
        raise ConfigError(Fault("--method", "be a method of attribution", f"`{method}`", nearest(method, METHODS)))
    run = Run(folder)
    held = commands.rows_of(run, task, source)[:rows]
    found = explain(run, task, held, method=chosen, words=words or None, sanity=sanity)
    asked = [run.loaded()[1][task].asked(row) for row in held]
    for each in found:
        _show(each)
    path = out or explanations_path(run.record, task)
    write_explanations(path, [line_of(each, source, asked[each.row]) for each in found])
    for line in summary(found):
        commands.console.print(line, soft_wrap=True)
    commands.console.print(f"wrote {path}", soft_wrap=True)


def _show(found: Explanation) -> None:
    said = escape(textwrap.shorten(str(found.answer), LIMIT_SAID, placeholder=" …"))
    numbers = f"{found.baseline:.3f} without the words, {found.value:.3f} with them"
    heading = f"[bold]row {found.row}[/bold]  {said}  [bold]{escape(found.target)}[/bold]: {numbers}"
    commands.console.print(heading, soft_wrap=True)
    commands.console.print(coloured(found), soft_wrap=True)
    strongest = sorted(found.words, key=lambda word: -abs(word.weight))[:LIMIT_SHOWN]
    shown = "  ".join(f"{word.word} {word.weight:+.3f}" for word in strongest)
    commands.console.print(f"  {escape(shown)}", style="dim", soft_wrap=True)
    commands.console.print()


def coloured(found: Explanation) -> Text:
    """Give the text with each word the stronger coloured the more it adds (green) or takes away (red)."""
    text = Text("  " + found.text.replace("\n", "\n  "))
    most = max((abs(word.weight) for word in found.words), default=0.0)
    for word in found.words:
        share = abs(word.weight) / most if most else 0.0
        if share < 0.1:
            continue
        hue = "green" if word.weight > 0 else "red"
        shift = 2 + 2 * found.text.count("\n", 0, word.start)
        text.stylize(f"bold {hue}" if share > 0.5 else hue, word.start + shift, word.end + shift)
    return text


def summary(found: Sequence[Explanation]) -> list[str]:
    """Say how far the weights are from adding up, and how much of them random weights would give."""
    errors = np.array([each.completeness_error for each in found])
    if not len(errors):
        return ["nothing to explain"]
    words = f"weights add up to the difference within {np.median(errors):.1%} in the median, {errors.max():.1%} at most"
    lines = [words]
    over = int((errors >= TOLERANCE).sum())
    if over and found[0].method == "integrated_gradients":
        lines.append(
            f"warning: {over} of {len(errors)} are off by {TOLERANCE:.0%} or more; do not read much into these"
        )
    parts = dict.fromkeys(part for each in found for part in each.sanity)
    for part in parts:
        known = [each.sanity[part] for each in found if math.isfinite(each.sanity.get(part, math.nan))]
        if known:
            named = part.replace("_", " ")
            lines.append(f"with random weights ({named}): correlation of ranks {np.mean(known):+.2f} over {len(known)}")
    return lines


def run_influence(folder: Path, task: str, source: str, rows: int, out: Path | None) -> None:
    """Show and write which task's training moves answers."""
    run = Run(folder)
    held = commands.rows_of(run, task, source)[:rows]
    found = influence(run, task, held)
    tasks = run.loaded()[1]
    for each in found:
        asked = "  ".join(str(value) for value in tasks[task].asked(held[each.row]).values())
        of = "its loss" if each.of == "loss" else f"the answer {each.target}"
        commands.console.print(f"[bold]row {each.row}[/bold]  {escape(asked[:100])}  ({escape(of)})", soft_wrap=True)
        commands.console.print(influence_table(each))
        commands.console.print()
    path = out or influence_path(run, task)
    lines = [
        {"version": VERSION, **asdict(each), "source": source, "input": tasks[task].asked(held[each.row])}
        for each in found
    ]
    write_explanations(path, lines)
    commands.console.print(f"wrote {path}", soft_wrap=True)


def influence_table(found: Influenced) -> Table:
    """Give a row for each task, the most helpful first."""
    table = Table("training on", "cosine", "product", "95 % interval", "", box=None, pad_edge=False)
    for each in found.tasks:
        word = "helps" if each.low > 0 else "harms" if each.high < 0 else ""
        interval = f"{each.low:+.3g} … {each.high:+.3g}"
        table.add_row(escape(each.task), f"{each.cosine:+.3f}", f"{each.product:+.3g}", interval, word)
    return table
