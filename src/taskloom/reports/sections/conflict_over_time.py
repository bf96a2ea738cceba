"""Conflict by pair, and by layer over the recorded steps, drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from taskloom.gradients.conflict import cosines, pairs
from taskloom.reports import charts
from taskloom.reports.section import Chart, Section, render
from taskloom.reports.writing import number

if TYPE_CHECKING:
    from taskloom.reports.facts import RunFacts

TITLE = "Conflict, drawn"
PLACE = 52
LIMIT_STEPS = 40


def section(runs: Sequence[RunFacts]) -> Section | None:
    """Draw mean cosines of pairs, and of layers over time; None where conflict was not recorded."""
    run = runs[0]
    held = [(row["step"], row["conflict"]) for row in run.steps if row.get("conflict")]
    if not held:
        return None
    made = [_pairs(run, [record for _, record in held])]
    if any(record.get("layers") for _, record in held):
        made.append(_layers(held))
    return Section(render("conflict_over_time.html.jinja"), made)


def _pairs(run: RunFacts, records: Sequence[Mapping[str, Any]]) -> Chart:
    cells, rows = [], [["tasks", "mean cosine", "beyond noise"]]
    for pair in pairs(records, run.tasks):
        one, other = pair.tasks
        shown = f"{pair.cosine.mean:+.2f}{'*' if pair.conflict else ''}"
        rows.append([f"{one} and {other}", number(pair.cosine.mean), "yes" if pair.conflict else "no"])
        for x, y in ((one, other), (other, one)):
            cells.append({"one": x, "other": y, "value": pair.cosine.mean, "shown": shown})
    spec = charts.heat(cells, "one", "other", scheme="blueorange", middle=0.0, text=len(run.tasks) <= 12,
                       sort_x=run.tasks, sort_y=run.tasks)  # fmt: skip
    return Chart("pairs", spec, "Mean cosine of each pair's gradients; a star where it conflicts beyond noise", rows)


def _layers(held: Sequence[tuple[int, Mapping[str, Any]]]) -> Chart:
    every = max(1, -(-len(held) // LIMIT_STEPS))
    cells, rows = [], [["step", "layer", "mean cosine"]]
    names: dict[str, None] = {}
    for step, record in held[::every]:
        for layer, gramian in (record.get("layers") or {}).items():
            found = cosines(gramian)
            above = found[np.triu_indices(len(found), 1)]
            known = above[np.isfinite(above)]
            if len(known):
                value = float(known.mean())
                names.setdefault(layer)
                cells.append({"step": str(step), "layer": layer, "value": value, "shown": f"{value:+.2f}"})
                rows.append([str(step), layer, number(value)])
    steps = [str(step) for step, _ in held[::every]]
    spec = charts.heat(cells, "step", "layer", scheme="blueorange", middle=0.0, text=False, sort_x=steps,
                       sort_y=list(names))  # fmt: skip
    return Chart("layers", spec, "Mean cosine over all pairs, by layer and step", rows)
