"""What `taskloom check` shows beside its table of tasks: rare labels, texts that tasks share, the first batches."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from taskloom.data.shared_texts import HELD_OUT, SharedTexts
from taskloom.errors import listed
from taskloom.first_steps import FirstRows, FirstStep
from taskloom.inspection import RunFacts, TaskFacts
from taskloom.tasks import TASKS

LEAST_SHARE = 0.01
"""A label with fewer of a task's labels is called rare."""

LIMIT_RATIO = 20
"""How many times the rarest label the most frequent one may be before that is said."""

LIMIT_PAIRS = 10
LIMIT_TOKENS, LAST_TOKENS = 32, 4
"""Tokens of a text that are shown, and how many of them are its last."""

LIMIT_TRAINED = 60

SHARED = "warning: rows that one task is scored on, and whose text another task is trained on:"

ESTIMATE = (
    "time and memory: add `--rehearse`, which runs the longest step, a usual one, an evaluation and a save, and keeps "
    "nothing"
)


def label_hints(facts: RunFacts) -> list[str]:
    """Say of which tasks some labels are rare beside others."""
    return [hint for fact in facts.tasks if (hint := _label_hint(fact))]


def _label_hint(fact: TaskFacts) -> str:
    if len(fact.labels) < 2:
        return ""
    rare = [label for label, share in fact.labels.items() if share < LEAST_SHARE]
    most, least = max(fact.labels.values()), min(fact.labels.values())
    said = []
    if rare:
        said.append(f"{len(rare)} of {len(fact.labels)} labels are under {LEAST_SHARE:.0%} ({listed(rare, 5)})")
    if most > LIMIT_RATIO * least:
        said.append(f"the most frequent is {most / least:.0f} times the rarest")
    if not said:
        return ""
    weights = "`class_weights: balanced`, or " if "class_weights" in TASKS.options(fact.type) else ""
    return f"hint: labels of {fact.name}: {'; '.join(said)}; consider {weights}more rows of them"


def shared_table(shared: Sequence[SharedTexts]) -> Table:
    """Give a row for each pair of tasks of which one is scored on texts that the other is trained on."""
    table = Table("scored", "trained", *HELD_OUT, box=None, pad_edge=False)
    for column in table.columns[2:]:
        column.justify = "right"
    for each in shared[:LIMIT_PAIRS]:
        counts = [str(each.rows.get(split, 0)) for split in HELD_OUT]
        table.add_row(escape(each.task), escape(each.trained), *counts)
    if len(shared) > LIMIT_PAIRS:
        table.add_row("…", f"{len(shared) - LIMIT_PAIRS} more with fewer")
    return table


def batch_line(step: FirstStep) -> str:
    """Say what a micro-batch is as a whole."""
    rows, useful = sum(each.rows for each in step.tasks), sum(each.tokens for each in step.tasks)
    filled = sum(sequences * tokens for sequences, tokens in step.rectangles)
    return (
        f"batch {step.index + 1}: {rows} rows, {useful:,} tokens in {filled:,} places; "
        f"sequences x tokens: {_shapes(step.rectangles)}"
    )


def batch_table(step: FirstStep) -> Table:
    """Give a row for each task of a micro-batch."""
    table = Table("task", "rows", "tokens", "in rectangles of", "first row", box=None, pad_edge=False)
    for column in table.columns[1:3]:
        column.justify = "right"
    for each in step.tasks:
        place = each.place.rpartition("/")[2]
        table.add_row(escape(each.task), str(each.rows), f"{each.tokens:,}", _shapes(each.rectangles), escape(place))
    return table


def row_lines(step: FirstStep) -> list[str]:
    """Give each task's first row of a micro-batch as the model sees it, with what is trained on in it."""
    width = max((len(each.task) for each in step.tasks), default=0)
    return [f"  {each.task:{width}}  {_read(each)}  →  {_trained(each)}" for each in step.tasks]


def _read(rows: FirstRows) -> str:
    """Write a row's sequences; each gets its part of the tokens that are shown."""
    limit = max(LIMIT_TOKENS // len(rows.sequences), 2 * LAST_TOKENS)
    shown = []
    for tokens in rows.sequences:
        hidden = len(tokens) - limit
        kept = tokens if hidden <= 0 else [*tokens[: limit - LAST_TOKENS], f"… {hidden} more …", *tokens[-LAST_TOKENS:]]
        shown.append(_printable(" ".join(kept)))
    return "  |  ".join(shown)


def _trained(rows: FirstRows) -> str:
    text = ", ".join(f"{name}: {value}" for name, value in rows.trained)
    return _printable(text if len(text) <= LIMIT_TRAINED else f"{text[:LIMIT_TRAINED]}…")


def _printable(text: str) -> str:
    """Keep what would move the terminal's cursor off the terminal."""
    return "".join(sign if sign.isprintable() else "�" for sign in text)


def _shapes(shapes: Sequence[tuple[int, int]]) -> str:
    return ", ".join(f"{sequences} x {tokens}" for sequences, tokens in shapes)
