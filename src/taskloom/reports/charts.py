"""Vega-Lite charts in the page's own colours, and the script that draws them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

if TYPE_CHECKING:
    from taskloom.reports.facts import RunFacts

LIMIT_POINTS = 200
"""How many points a line keeps; more would only make the page heavy."""

BUNDLED = "window.vegaEmbed = vegaEmbed;"
"""What of the bundle the page's script sees."""

LIMIT_TASKS_TOLD = 8
"""Colours that can be told apart; more tasks share them, and are told by the legend and by pointing at a line."""

Curve = list[tuple[float, float]]
"""Points (step, value), in the order of steps, all finite."""


def available() -> bool:
    """Tell whether charts can be drawn here."""
    try:
        import vl_convert  # noqa: F401
    except ImportError:  # absent, or there and broken: the page has its tables either way
        return False
    return True


@cache
def script() -> Markup:
    """Give the script of Vega and the page's own; "" where the library is not installed."""
    own = resources.files("taskloom.reports").joinpath("page.js").read_text(encoding="utf-8")
    if not available():
        return _inline(own)
    import vl_convert

    return _inline(f"{vl_convert.javascript_bundle(BUNDLED)}\n{own}")


def _inline(code: str) -> Markup:
    # Within a script element nothing but its own end tag and a comment's beginning has to be kept from the parser.
    return Markup(code.replace("</script", "<\\/script").replace("<!--", "<\\!--"))  # noqa: S704 - our own script


def as_json(value: Any) -> Markup:
    """Write a value as JSON that may stand inside a script element, whatever texts are in it."""
    text = json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)  # noqa: S704 - what HTML could take for its own is escaped


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value


# --- curves -----------------------------------------------------------------------------------------------------------


def loss_curve(run: RunFacts, task: str) -> Curve:
    """Give a task's training loss by step; steps in which it was not drawn are left out."""
    return finite((row["step"], row["tasks"].get(task, {}).get("loss")) for row in run.steps)


def score_curve(run: RunFacts, task: str) -> tuple[str, Curve]:
    """Give the name of a task's own metric, and its value by step on the validation split."""
    metric = run.own[task].score.metric if task in run.own else ""
    rows = [(row["step"], row["evaluation"].get("tasks", {}).get(task, {})) for row in run.evaluations]
    if not any(metric in values for _, values in rows):
        metric = next((name for _, values in rows for name in values), "")
    return metric, finite((step, values.get(metric)) for step, values in rows)


def finite(points: Iterable[tuple[float, Any]]) -> Curve:
    """Leave out the points without a number."""
    return [(step, value) for step, value in points if value is not None and math.isfinite(value)]


def smoothed(curve: Curve) -> Curve:
    """Smooth a curve by the mean of the points around each, about a twentieth of all; unlike a running mean, no lag."""
    half = max(2, len(curve) // 40)
    sums = [0.0, *accumulate(value for _, value in curve)]
    out = []
    for place, (step, _) in enumerate(curve):
        first, after = max(0, place - half), min(len(curve), place + half + 1)
        out.append((step, (sums[after] - sums[first]) / (after - first)))
    return out


def thinned(curve: Curve, limit: int = LIMIT_POINTS) -> Curve:
    """Keep evenly spaced points of a long curve, its first and last among them."""
    if len(curve) <= limit:
        return curve
    return [curve[round(index * (len(curve) - 1) / (limit - 1))] for index in range(limit)]


# --- specs ------------------------------------------------------------------------------------------------------------


def lines(curves: Mapping[str, Curve], y: str, *, points: bool = False) -> dict[str, Any]:
    """Draw a line for each task over steps; a click in the legend picks tasks.

    Args:
        curves: task -> its points.
        y: what the values are.
        points: whether each value gets a dot, as few evaluations deserve.
    """
    values = [
        {"task": task, "step": step, "value": float(f"{value:.5g}")}
        for task, curve in curves.items()
        for step, value in thinned(curve)
    ]
    names = list(curves)
    return {
        "data": {"values": values},
        "height": 240,
        "params": [{"name": "picked", "select": {"type": "point", "fields": ["task"]}, "bind": "legend"}],
        "mark": {"type": "line", "point": points, "strokeWidth": 2, "clip": True},
        "encoding": {
            "x": {"field": "step", "type": "quantitative", "title": "step", "axis": {"tickMinStep": 1}},
            "y": {"field": "value", "type": "quantitative", "title": y, "scale": {"zero": False}},
            "color": {"field": "task", "type": "nominal", "sort": names, "legend": _legend(names)},
            "strokeDash": _dashes(names),
            "opacity": {"condition": {"param": "picked", "value": 1}, "value": 0.12},
            "tooltip": [{"field": "task"}, {"field": "step"}, {"field": "value", "format": ".4~g"}],
        },
    }


def _legend(names: Sequence[str]) -> dict[str, Any]:
    return {"title": None, "orient": "bottom", "symbolType": "stroke", "labelLimit": 140, "values": names}


def _dashes(names: Sequence[str]) -> dict[str, Any]:
    """Tell lines apart by more than their colour."""
    patterns = [[1, 0], [6, 3], [2, 2], [8, 3, 2, 3]]
    return {
        "field": "task",
        "type": "nominal",
        "sort": list(names),
        "scale": {"range": [patterns[(place // LIMIT_TASKS_TOLD) % 4] for place in range(len(names))]},
        "legend": None,
    }


def heat(
    cells: Sequence[Mapping[str, Any]], x: str, y: str, *, scheme: str = "blues", middle: float | None = None,
    text: bool = True, sort_x: Sequence[Any] | None = None, sort_y: Sequence[Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Draw a heat map of cells that have the fields `x`, `y` and ``value``, and a ``shown`` text.

    Args:
        cells: one a square.
        x: field of the columns.
        y: field of the rows.
        scheme: of colours.
        middle: the value of the middle colour; None for a scheme that begins at the least.
        text: whether each cell shows its text.
        sort_x: order of the columns.
        sort_y: order of the rows.
    """
    colour: dict[str, Any] = {"field": "value", "type": "quantitative", "scale": {"scheme": scheme}, "title": None}
    ends = [each["value"] for each in cells if each["value"] is not None and math.isfinite(each["value"])]
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    reach = max(abs(low - (middle or 0)), abs(high - (middle or 0))) or 1.0
    if middle is not None:
        colour["scale"]["domain"] = [middle - reach, middle + reach]
    dark = f"abs(datum.value - {middle or 0}) > {0.6 * reach}"
    layers: list[dict[str, Any]] = [{"mark": "rect", "encoding": {"color": colour}}]
    if text:
        layers.append(
            {
                "mark": {"type": "text", "fontSize": 11},
                "encoding": {
                    "text": {"field": "shown"},
                    "color": {"condition": {"test": dark, "value": "#ffffff"}, "value": "#1b2126"},
                },
            }
        )
    rows = len({each[y] for each in cells})
    return {
        "data": {"values": list(cells)},
        "height": max(60, min(28 * rows, 560)),
        "encoding": {
            "x": {"field": x, "type": "nominal", "sort": sort_x, "axis": {"labelAngle": -35, "labelLimit": 110}},
            "y": {"field": y, "type": "nominal", "sort": sort_y, "axis": {"labelLimit": 140}},
            "tooltip": [{"field": y}, {"field": x}, {"field": "shown", "title": "value"}],
        },
        "layer": layers,
    }
