"""A plan as a graph: groups as boxes, tasks as dots, and lines for what tasks do for each other."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from taskloom.affinity import Transfer

LIMIT_LINES = 80
"""Halves of lines that are drawn, the strongest; more would only be a tangle."""

GAP, MIDDLE, LINE_WIDTHS = 0.35, 0.5, (1.0, 6.0)
ENDS: dict[str, Any] = {"x2": {"field": "x2"}, "y2": {"field": "y2"}}
DOTS: dict[str, Any] = {"tooltip": [{"field": "task"}]}
Places = dict[str, tuple[float, float]]
Boxes = list[dict[str, Any]]


def plan_graph(transfer: Transfer, groups: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Draw a plan's groups and the effects among tasks.

    The half of a line that ends at a task tells what the other one does for it. Drawn are effects within a group, and
    those whose interval leaves out 0.

    Args:
        transfer: predicted or measured.
        groups: tasks by name, each once.
    """
    boxes, places = _laid_out(groups)
    lines = _lines(transfer, groups, places)
    dots = [{"task": name, "x": x, "y": y, "below": -y % (1 + GAP) > MIDDLE} for name, (x, y) in places.items()]
    return {
        "height": 90 + 130 * (1 + max(box["row"] for box in boxes)),
        "encoding": {axis: {"field": axis, "type": "quantitative", "axis": None} for axis in ("x", "y")},
        "layer": [
            _layer(boxes, {"type": "rect", "cornerRadius": 10, "color": "#8c8c8c", "opacity": 0.14}, ENDS),
            _layer(_threads(lines, places), {"type": "rule", "color": "#8c8c8c", "opacity": 0.5}, ENDS),
            _layer(lines, {"type": "rule", "strokeCap": "round"}, _strokes(lines)),
            _layer(dots, {"type": "point", "filled": True, "size": 90, "color": "#0072b2", "opacity": 1}, DOTS),
            *(
                _layer(
                    [dot for dot in dots if dot["below"] is below],
                    {"type": "text", "dy": 15 if below else -12, "fontSize": 12, "limit": 120},
                    {"text": {"field": "task"}},
                )
                for below in (False, True)
            ),
        ],
    }


def _layer(values: Sequence[Mapping[str, Any]], mark: Mapping[str, Any], encoding: Mapping[str, Any]) -> dict[str, Any]:
    return {"data": {"values": list(values)}, "mark": mark, "encoding": encoding}


def _strokes(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Give colour by what an effect is, and width by how strong."""
    reach = max((line["strength"] for line in lines), default=1.0) or 1.0
    colours = {"scheme": "blueorange", "domain": [-reach, reach]}
    widths = {"domain": [0, reach], "range": list(LINE_WIDTHS)}
    told = (("source", "what"), ("target", "does for"), ("shown", "effect"))
    return ENDS | {
        "color": {"field": "value", "type": "quantitative", "title": None, "scale": colours},
        "strokeWidth": {"field": "strength", "type": "quantitative", "legend": None, "scale": widths},
        "tooltip": [{"field": key, "title": title} for key, title in told],
    }


def _laid_out(groups: Sequence[Sequence[str]]) -> tuple[Boxes, Places]:
    """Give each group a box, in rows of like width, and each task a place in its group's."""
    held = sorted(groups, key=len, reverse=True)
    sides = [1 + math.sqrt(len(group) - 1) for group in held]
    limit = max(*sides, math.sqrt(2.5) * math.sqrt(sum(side * side for side in sides)))
    boxes: Boxes = []
    places: Places = {}
    left, row = 0.0, 0
    for group, side in zip(held, sides, strict=True):
        if left and left + side > limit:
            left, row = 0.0, row + 1
        top = -row * (1 + GAP)
        boxes.append({"x": left, "x2": left + side, "y": top, "y2": top - 1, "row": row})
        for place, name in enumerate(group):
            angle = math.pi / 2 + 2 * math.pi * place / len(group)
            reach = 0.0 if len(group) == 1 else 0.34
            places[name] = (
                left + side / 2 + reach * side * math.cos(angle),
                top - MIDDLE + 0.85 * reach * math.sin(angle),
            )
        left += side + GAP
    return boxes, places


def _threads(lines: Sequence[dict[str, Any]], places: Places) -> list[dict[str, Any]]:
    """Give a thin line for each pair of tasks with an effect, so that both its ends are seen."""
    pairs = {tuple(sorted((line["source"], line["target"]))) for line in lines}
    ends = [(places[one], places[other]) for one, other in sorted(pairs)]
    return [{"x": x, "y": y, "x2": x2, "y2": y2} for (x, y), (x2, y2) in ends]


def _lines(transfer: Transfer, groups: Sequence[Sequence[str]], places: Places) -> list[dict[str, Any]]:
    """Give the halves of lines that are drawn, the weakest first, so that the strongest lie on top."""
    group_of = {name: place for place, group in enumerate(groups) for name in group}
    found: list[dict[str, Any]] = []
    for i, j in itertools.permutations(range(len(transfer.tasks)), 2):
        source, target = transfer.tasks[i], transfer.tasks[j]
        value = float(transfer.effect[i, j])
        if {source, target} - places.keys() or not np.isfinite(value):
            continue
        is_told = bool(transfer.low[i, j] > 0 or transfer.high[i, j] < 0)
        if is_told or group_of[source] == group_of[target]:
            (x, y), (x2, y2) = places[target], places[source]
            shown = f"{value:+.2g}{'*' if is_told else ''}"
            line = {"source": source, "target": target, "value": value, "strength": abs(value), "shown": shown}
            found.append(line | {"x": x, "y": y, "x2": (x + x2) / 2, "y2": (y + y2) / 2})
    return sorted(found, key=lambda line: line["strength"])[-LIMIT_LINES:]
