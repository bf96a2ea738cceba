"""Who is served worse: scores by group, gaps and what shows them, answers that flip; of several runs, score by gap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taskloom.record import Record, read_note
from taskloom.reports.facts import RunFacts
from taskloom.reports.section import Chart, Section, render, table_of

TITLE = "Fairness"
PLACE = 66
COMPARES = True
"""Whether runs are also shown together."""

FILE = "fairness.json"
LIMIT_LABELS = 8
"""How many labels' rates are listed: those that lie furthest apart."""

LIMIT_FLIPS = 5
"""How many rows that flipped are shown of each task."""


@dataclass(frozen=True)
class Groups:
    """One comparison of the groups of a task.

    Attributes:
        run: the run's name.
        task: the task.
        entry: of fairness.json.
    """

    run: str
    task: str
    entry: dict[str, Any]

    @property
    def columns(self) -> str:
        """Name the columns that make the groups."""
        return " and ".join(self.entry["columns"])

    @property
    def metrics(self) -> list[str]:
        """List the metrics, the task's own first."""
        return list(self.entry["all"])

    @property
    def labels(self) -> list[tuple[str, dict[str, Any]]]:
        """Give the labels whose rates lie furthest apart, and their gaps."""
        held = self.entry["parity"].items()
        return sorted(held, key=lambda item: -_size(item[1]["equalised_odds"]))[:LIMIT_LABELS]

    @property
    def gap(self) -> tuple[str, dict[str, Any]] | None:
        """Give what a run is placed by, and that gap: equalised odds where there are rates, else the first one."""
        for label, held in self.labels:
            if held["equalised_odds"]:
                return f"equalised odds of {label}", held["equalised_odds"]
        return next(((str(gap["of"]), gap) for gap in self.entry["gaps"]), None)


@dataclass(frozen=True)
class Placed:
    """A run's place between score and gap.

    Attributes:
        name: the run, and what was done after training where something was.
        score: of the task's first metric.
        gap: how large.
        of: what the gap is in.
        shown: whether the data show it.
    """

    name: str
    score: float
    gap: float
    of: str
    shown: bool


def section(runs: Sequence[RunFacts]) -> Section | None:
    """Say what `taskloom fairness` found in runs; None where it was asked of none."""
    noted = {run.name: read_note(Record(run.folder).folder / FILE).get("tasks", {}) for run in runs}
    groups = [
        Groups(name, task, entry)
        for name, tasks in noted.items()
        for task, held in tasks.items()
        for entry in held.get("groups", [])
    ]
    swaps, adjusted = _entries(noted, "swaps"), _entries(noted, "thresholds")
    if not (groups or swaps or adjusted):
        return None
    placed = _placed(groups, adjusted) if len(runs) > 1 or adjusted else {}
    charts = [_by_group(number, each) for number, each in enumerate(groups)]
    charts += [_by_gap(number, key, held) for number, (key, held) in enumerate(placed.items())]
    html = render(
        "fairness.html.jinja",
        groups=groups,
        swaps=swaps,
        adjusted=adjusted,
        placed=placed,
        several=len(runs) > 1,
        limit=LIMIT_FLIPS,
    )
    return Section(html, charts)


def _entries(noted: Mapping[str, Mapping[str, Any]], kind: str) -> list[tuple[str, str, dict[str, Any]]]:
    """List the entries of one kind: run, task, entry."""
    return [(name, task, held[kind]) for name, tasks in noted.items() for task, held in tasks.items() if kind in held]


def _size(gap: dict[str, Any] | None) -> float:
    return float(gap["difference"]["value"] or 0.0) if gap else 0.0


def _placed(
    groups: Sequence[Groups], adjusted: Sequence[tuple[str, str, dict[str, Any]]]
) -> dict[tuple[str, str], list[Placed]]:
    """Put runs side by side that were looked at by the same columns on the same split: (task, columns) -> places."""
    found: dict[tuple[str, str], list[Placed]] = {}
    for each in groups:
        held, score = each.gap, each.entry["all"][each.metrics[0]]["value"]
        if held is not None and score is not None:
            key = (each.task, f"{each.columns}, {each.entry['split']}")
            found.setdefault(key, []).append(Placed(each.run, score, _size(held[1]), held[0], held[1]["shown"]))
    for name, task, entry in adjusted:
        side, key = entry["after"], (task, f"{' and '.join(entry['columns'])}, {entry['split']}")
        gap = side["parity"]["equalised_odds"]
        if key in found and gap:
            title, of = f"{name}, thresholds for {entry['constraint']}", f"equalised odds of {entry['positive']}"
            found[key].append(Placed(title, side["score"]["value"], _size(gap), of, gap["shown"]))
    return {key: held for key, held in found.items() if len(held) > 1}


def _by_group(number: int, each: Groups) -> Chart:
    """Draw the first metric of each group with its interval."""
    metric = each.metrics[0]
    rows = [{"group": held["group"], "rows": held["rows"], **held["scores"][metric]} for held in each.entry["groups"]]
    group = {"field": "group", "type": "nominal", "title": each.columns}
    spec = {
        "data": {"values": rows},
        "layer": [
            {
                "mark": {"type": "rule", "strokeWidth": 3, "opacity": 0.4},
                "encoding": {
                    "y": group,
                    "x": {"field": "low", "type": "quantitative", "title": metric, "scale": {"zero": False}},
                    "x2": {"field": "high"},
                },
            },
            {
                "mark": {"type": "point", "filled": True, "size": 60},
                "encoding": {"y": group, "x": {"field": "value", "type": "quantitative"}},
            },
        ],
    }
    label = f"{each.run}, {metric} of {each.task} by {each.columns} on {each.entry['split']}, with intervals"
    return Chart(f"fairness-groups-{number}", spec, label, table_of(rows))


def _by_gap(number: int, key: tuple[str, str], held: Sequence[Placed]) -> Chart:
    """Draw score against gap, a point for each run."""
    rows = [{"run": each.name, "score": each.score, "gap": each.gap, "shown": each.shown} for each in held]
    spec = {
        "data": {"values": rows},
        "mark": {"type": "point", "filled": True, "size": 90},
        "encoding": {
            "x": {"field": "gap", "type": "quantitative", "title": f"gap in {held[0].of}, less is better"},
            "y": {"field": "score", "type": "quantitative", "title": "score", "scale": {"zero": False}},
            "color": {"field": "run", "type": "nominal"},
            "shape": {"field": "run", "type": "nominal"},
        },
    }
    return Chart(
        f"fairness-gaps-{number}", spec, f"{key[0]} by {key[1]}: score against gap of each run", table_of(rows)
    )
