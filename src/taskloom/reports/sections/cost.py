"""What a run cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from taskloom.record import Record, read_note
from taskloom.reports.section import Section, render
from taskloom.reports.writing import number

if TYPE_CHECKING:
    from taskloom.reports.facts import RunFacts

TITLE = "Cost"
PLACE = 80


def section(runs: Sequence[RunFacts]) -> Section | None:
    """List time, rows and tokens, in all and by task; None before the first step."""
    run = runs[0]
    if not run.steps:
        return None
    seconds = sum(row.get("seconds") or 0.0 for row in run.steps)
    totals: dict[str, dict[str, int]] = {task: {"rows": 0, "tokens": 0} for task in run.tasks}
    for row in run.steps:
        for task, held in row["tasks"].items():
            if task in totals:
                totals[task]["rows"] += held.get("examples") or 0
                totals[task]["tokens"] += held.get("tokens") or 0
    tokens = sum(each["tokens"] for each in totals.values())
    figures = [("Training", f"{seconds / 60:.1f} minutes"), ("Useful tokens", number(tokens))]
    figures += _more(read_note(Record(run.folder).cost_json))
    padded = sum(row.get("padded_tokens") or 0 for row in run.steps)
    if padded:
        figures.append(("Padding", f"{100 * (1 - tokens / padded):.1f} %"))
    if seconds:
        figures.append(("Tokens per second", number(round(tokens / seconds))))
    return Section(render("cost.html.jinja", figures=figures, totals=totals, whole=max(tokens, 1)))


def _more(cost: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Give what the process that finished the run measured: memory and energy."""
    found = []
    if cost.get("peak_memory_bytes"):
        found.append(("Peak memory", f"{cost['peak_memory_bytes'] / 2**30:.2f} GiB"))
    if "energy_joules" in cost:
        joules = cost["energy_joules"]
        found.append(("Energy", "not measurable here" if joules is None else f"{joules / 3600:.1f} Wh"))
    return found
