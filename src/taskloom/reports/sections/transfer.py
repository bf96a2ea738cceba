"""What tasks do for each other, as probes foretell it, and the plan that was made of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from taskloom.affinity import Transfer, read_transfers
from taskloom.affinity.reading import DEFAULT
from taskloom.record import Record, read_note
from taskloom.reports import charts
from taskloom.reports.graphs import plan_graph
from taskloom.reports.section import Chart, Section, render

if TYPE_CHECKING:
    from taskloom.reports.facts import RunFacts

TITLE = "Transfer and plan"
PLACE = 55
PLAN = "plan.json"


def section(runs: Sequence[RunFacts]) -> Section | None:
    """Draw the matrix of the first estimator, and list the groups of a plan; None without probes and plan."""
    record = Record(runs[0].folder)
    found = read_transfers(record.folder, [DEFAULT]) if record.transfer.is_dir() else {}
    plan = read_note(record.folder / PLAN)
    if not found and not plan:
        return None
    made = [_chart(next(iter(found.values())))] if found else []
    best = next((each for each in plan.get("plans", []) if each["k"] == plan["chosen"]), None)
    if best and found:
        made.append(_graph(next(iter(found.values())), best["groups"]))
    html = render("transfer.html.jinja", plan=plan, best=best, probes=len(list(record.transfer.glob("*.safetensors"))))
    return Section(html, made)


def _graph(found: Transfer, groups: Sequence[Sequence[str]]) -> Chart:
    rows = [["group", "tasks"], *([str(place), ", ".join(group)] for place, group in enumerate(groups, start=1))]
    label = (
        "The plan: a box for each group. The half of a line that ends at a task tells what the other task does for it; "
        "drawn are effects within a group, and those whose interval leaves out nought"
    )
    return Chart("plan", plan_graph(found, groups), label, rows)


def _chart(found: Transfer) -> Chart:
    cells, rows = [], [["source", *found.tasks]]
    for i, source in enumerate(found.tasks):
        row = [source]
        for j, target in enumerate(found.tasks):
            value = float(found.effect[i, j])
            told = found.low[i, j] > 0 or found.high[i, j] < 0
            shown = "" if math.isnan(value) else f"{value:+.2g}{'*' if told else ''}"
            row.append(shown or "—")
            if not math.isnan(value):
                cells.append({"source": source, "target": target, "value": value, "shown": shown})
        rows.append(row)
    names = list(found.tasks)
    spec = charts.heat(
        cells, "target", "source", scheme="blueorange", middle=0.0, text=len(names) <= 12, sort_x=names, sort_y=names
    )
    label = (
        f"What training the row's task does for the column's, foretold by `{found.estimator}` ({found.unit}); "
        "a star where the interval leaves out nought"
    )
    return Chart("matrix", spec, label, rows)
