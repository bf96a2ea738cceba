"""What the command about groups does; imported when it is called."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from taskloom.cli import commands
from taskloom.config import read_config
from taskloom.data.swaps import read_swaps
from taskloom.errors import DataError, Fault, nearest
from taskloom.fairness.auditing import Audit, audit
from taskloom.fairness.comparing import Gap, Value
from taskloom.fairness.note import FILE
from taskloom.fairness.rates import Parity
from taskloom.fairness.swapping import Swapped, swap
from taskloom.fairness.thresholds import FILE as THRESHOLDS_FILE
from taskloom.fairness.thresholds import Adjusted, fit_thresholds
from taskloom.record import Record

SPLITS = ("train", "validation", "test")
LIMIT_LABELS = 6
"""How many labels a table shows: those whose rates lie furthest apart."""

LIMIT_FLIPS = 3
"""How many rows that flipped are shown."""


@dataclass(frozen=True)
class Asked:
    """What the command is asked for; see its options."""

    task: str
    columns: list[str]
    split: str
    positive: str | None
    swaps: Path | None
    thresholds: str | None


def run_fairness(folder: Path, asked: Asked) -> None:
    """Compare the groups of a task, swap words in its rows, fit thresholds: whatever is asked for."""
    if asked.split not in SPLITS:
        found = f"`{asked.split}`"
        raise DataError(Fault("--split", "be train, validation or test", found, nearest(asked.split, SPLITS)))
    columns = asked.columns or _own_column(folder, asked.task)
    if not columns and (asked.swaps is None or asked.thresholds):
        fix = "Write `--group COLUMN` with a column of the data, or `--swaps FILE`"
        raise DataError(Fault("--group", "name a column", "nothing", fix))
    if columns:
        _show_audit(audit(folder, asked.task, columns, split=asked.split, positive=asked.positive))
    if asked.swaps is not None:
        _show_swapped(swap(folder, asked.task, read_swaps(asked.swaps), split=asked.split))
    if asked.thresholds:
        options = {"positive": asked.positive, "split": asked.split}
        _show_adjusted(fit_thresholds(folder, asked.task, columns, asked.thresholds, **options))  # type: ignore[arg-type]
        _say(f"wrote {folder / THRESHOLDS_FILE}; `taskloom predict … --thresholds` answers by it")
    _say(f"wrote {folder / FILE}")


def _own_column(folder: Path, task: str) -> list[str]:
    """Give the column that the task's training was given, where it was."""
    section = read_config(Record.open(folder).run_yaml).tasks.get(task)
    column = (section.fairness or {}).get("group") if section else None
    return [column] if column else []


def _say(*lines: str) -> None:
    for line in lines:
        commands.console.print(escape(line), soft_wrap=True)


def _show_audit(found: Audit) -> None:
    commands.console.print(group_table(found))
    _say("", *(gap_line(gap) for gap in found.gaps))
    if found.parity:
        _say("")
        commands.console.print(parity_table(found.parity))
        _say(*_shown_rates(found))
    _say(*(["", *found.warnings] if found.warnings else []), "")


def group_table(found: Audit) -> Table:
    """Give a row for each group and one for all, with every metric."""
    table = Table(" and ".join(found.columns), "n", *(each.name for each in found.scores), box=None, pad_edge=False)
    for group, held in found.scores[0].groups.items():
        table.add_row(escape(group), str(held.n), *(_cell(each.groups[group]) for each in found.scores))
    table.add_row("all", str(found.scores[0].whole.n), *(_cell(each.whole) for each in found.scores))
    return table


def gap_line(gap: Gap) -> str:
    """Say a gap in a sentence: how large, between whom, and whether the data show it."""
    if gap.difference.value == 0:
        return f"{gap.quantity}: no gap."
    of = gap.quantity if gap.label is None else f"{gap.quantity} of `{gap.label}`"
    size, between = _cell(gap.difference, signed=True), _between(gap)
    if gap.shown:
        return f"{of}: a gap of {size}, {between}; ratio {gap.ratio.value:.3f}, {_p(gap)}."
    also = "".join(f" Shown is one of {each.difference.value:.3f}, {_between(each)}." for each in gap.also[:1])
    told = f"{of}: {size}, {between}, may be chance ({_p(gap)})"
    return f"{told}; such groups show gaps of {gap.detectable:.2f} and more.{also}"


def _p(gap: Gap) -> str:
    return "p < 0.001" if gap.p < 0.001 else f"p = {gap.p:.3f}"


def _between(gap: Gap) -> str:
    return f"`{gap.high_group}` over `{gap.low_group}`"


def parity_table(parity: Sequence[Parity]) -> Table:
    """Give a row for each label, those whose rates lie furthest apart first."""
    headings = ("label", "demographic parity", "ratio", "equal opportunity", "equalised odds")
    table = Table(*headings, box=None, pad_edge=False)
    for each in sorted(parity, key=lambda held: -_size(held.equalised_odds))[:LIMIT_LABELS]:
        parts = (each.demographic_parity, each.equal_opportunity, each.equalised_odds)
        first, *others = ("" if gap is None else _cell(gap.difference, signed=True) for gap in parts)
        ratio = each.demographic_parity.ratio.value
        table.add_row(escape(each.label), first, "" if math.isnan(ratio) else f"{ratio:.3f}", *others)
    return table


def _size(gap: Gap | None) -> float:
    return 0.0 if gap is None else gap.difference.value


def _shown_rates(found: Audit) -> Iterator[str]:
    """Say which gaps of rates the data show; each is a difference of the two groups furthest apart."""
    held = [gap for each in found.parity for gap in (each.demographic_parity, each.equalised_odds) if gap and gap.shown]
    yield from (gap_line(gap) for gap in held[:LIMIT_LABELS])
    if not held:
        yield "No gap in rates is shown."


def _cell(value: Value, *, signed: bool = False) -> str:
    if math.isnan(value.value):
        return ""
    sign = "+" if signed else ""
    ends = "" if math.isnan(value.low) else f" ({value.low:{sign}.3f} … {value.high:{sign}.3f})"
    return f"{value.value:.3f}{ends}"


def _show_swapped(found: Swapped) -> None:
    _say(f"{found.touched} of {found.rows} rows have words to swap.")
    for name, value in (
        ("answers that flip", found.flipped),
        ("tags that change", found.words),
        ("mean change", found.change),
    ):
        if value is not None:
            _say(f"{name}: {_cell(value)}")
    _say(*(f"  {before} became {after}: {rows} rows" for before, after, rows in found.moves[:LIMIT_LABELS]))
    for flip in found.examples[:LIMIT_FLIPS]:
        _say(f"  {flip.place}: {_text(flip.input)}", f"    {flip.before}; with {_text(flip.swapped)}: {flip.after}")
    _say("")


def _text(row: dict[str, object]) -> str:
    text = " | ".join(str(value) for value in row.values())
    return text if len(text) <= 160 else f"{text[:160]} …"


def _show_adjusted(found: Adjusted) -> None:
    table = Table(f"thresholds for {found.thresholds.constraint}", "without", "with", box=None, pad_edge=False)
    sides = (found.before, found.after)
    table.add_row(found.metric, *(_cell(side.scores.whole) for side in sides))
    parts: dict[str, list[Gap | None]] = {
        f"gap in {found.metric}": [side.gap for side in sides],
        "demographic parity": [side.parity.demographic_parity for side in sides],
        "equal opportunity": [side.parity.equal_opportunity for side in sides],
        "equalised odds": [side.parity.equalised_odds for side in sides],
    }
    for name, held in parts.items():
        table.add_row(name, *("" if gap is None else _cell(gap.difference, signed=True) for gap in held))
    commands.console.print(table)
