"""How far probabilities can be believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from taskloom.record import Record, read_note
from taskloom.reports.section import Chart, Section, render
from taskloom.reports.writing import number

if TYPE_CHECKING:
    from taskloom.reports.facts import RunFacts

TITLE = "Calibration"
PLACE = 64
FILE = "calibration.json"


def section(runs: Sequence[RunFacts]) -> Section | None:
    """Show errors and reliability before and after temperatures; None where a run was not calibrated."""
    tasks: Mapping[str, Any] = read_note(Record(runs[0].folder).folder / FILE).get("tasks", {})
    if not tasks:
        return None
    charts = [_chart(place, name, held) for place, (name, held) in enumerate(tasks.items())]
    return Section(render("calibration.html.jinja", tasks=tasks), charts)


def _chart(place: int, name: str, held: Mapping[str, Any]) -> Chart:
    points, rows = [], [["", "confidence", "right", "choices"]]
    for when in ("before", "after"):
        for bar in held["reliability"][when]:
            if bar["n"]:
                points.append({"when": when, **{key: bar[key] for key in ("confidence", "right", "n")}})
                rows.append([when, number(bar["confidence"]), number(bar["right"]), str(bar["n"])])
    unit = {"domain": [0, 1]}
    curve = {
        "x": {"field": "confidence", "type": "quantitative", "scale": unit, "title": "confidence"},
        "y": {"field": "right", "type": "quantitative", "scale": unit, "title": "share that is right"},
    }
    spec = {
        "data": {"values": points},
        "height": 260,
        "layer": [
            {
                "data": {"values": [{"confidence": 0, "right": 0}, {"confidence": 1, "right": 1}]},
                "mark": {"type": "line", "strokeDash": [4, 4], "opacity": 0.5},
                "encoding": curve,
            },
            {
                "mark": {"type": "line", "point": True},
                "encoding": {
                    **curve,
                    "color": {"field": "when", "type": "nominal", "sort": ["before", "after"],
                              "legend": {"title": None, "orient": "bottom"}},
                    "tooltip": [{"field": "when"}, {"field": "confidence"}, {"field": "right"}, {"field": "n"}],
                },
            },
        ],
    }  # fmt: skip
    return Chart(f"reliability-{place}", spec, f"{name}: share of right answers by confidence", rows)
