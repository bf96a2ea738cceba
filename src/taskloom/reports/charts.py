"""Small charts as inline SVG, the same bytes from the same numbers, in the page's own colours and letters."""

from __future__ import annotations

import io
import math
import re
from itertools import accumulate
from typing import TYPE_CHECKING, Any
from zlib import crc32

from markupsafe import Markup

if TYPE_CHECKING:
    from collections.abc import Sequence

    from taskloom.reports.facts import RunFacts

LIMIT_POINTS = 400
"""How many points a line keeps; more would only make the page heavy, at a width of 300 pixels."""

WIDTH, HEIGHT = 3.4, 1.9
"""The size of a chart in inches of 72 pixels: near the width of a phone, so that its letters are never scaled down."""

# Matplotlib wants real colours, and the page wants its own, which differ by light and dark. So each part is drawn in a
# colour that nothing else has, and that colour is then replaced by the page's variable.
COLOURS = {
    "#010101": "var(--muted)",
    "#020202": "var(--rule)",
    "#030303": "var(--series)",
    "#040404": "var(--series-faint)",
}
INK, RULE, SERIES, FAINT = COLOURS

Curve = list[tuple[float, float]]
"""Points (step, value), in the order of steps, all finite."""


def available() -> bool:
    """Tell whether charts can be drawn here."""
    try:
        import matplotlib.backends.backend_svg  # noqa: F401
    except ImportError:  # absent, or there and broken: the page has its tables either way
        return False
    return True


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


def draw_loss(curve: Curve, name: str) -> Markup:
    """Draw a training loss: smoothed over faint raw; "" where there is nothing to draw.

    Args:
        curve: the raw loss.
        name: what a screen reader calls the chart; also tells its parts from those of other charts.
    """
    if not curve:
        return Markup("")
    smooth = smoothed(curve)
    label = f"Line chart. {name}, smoothed: {_course(smooth)}"
    return _draw([(thinned(curve), FAINT, 0.9, ""), (thinned(smooth), SERIES, 1.7, "")], label)


def draw_score(curve: Curve, name: str) -> Markup:
    """Draw a validation score, a dot an evaluation; see `draw_loss`."""
    if not curve:
        return Markup("")
    label = f"Line chart. {name}: {_course(curve)}"
    return _draw([(thinned(curve), SERIES, 1.7, "o" if len(curve) <= 40 else "")], label)


def _course(curve: Curve) -> str:
    first, last = (f"{value:.3g} at step {step:g}" for step, value in (curve[0], curve[-1]))
    return f"{first}." if len(curve) == 1 else f"from {first} to {last}."


def finite(points: Any) -> Curve:
    """Leave out the points without a number."""
    return [(step, value) for step, value in points if value is not None and math.isfinite(value)]


def _draw(lines: Sequence[tuple[Curve, str, float, str]], label: str) -> Markup:
    """Draw lines of (curve, colour, width, marker) into one SVG."""
    from matplotlib import style  # an extra: pages without it have their tables
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    # Text stays text: smaller, readable, and in the page's own letters. The salt makes the ids the same every time.
    # It starts from the defaults, so that a reader's own matplotlibrc does not change the page.
    own = {"svg.fonttype": "none", "svg.hashsalt": "taskloom", "font.size": 8.5, "path.simplify": False}
    with style.context(["default", own]):
        figure = Figure(figsize=(WIDTH, HEIGHT), facecolor="none")
        FigureCanvasSVG(figure)
        axes = figure.add_axes((0.115, 0.135, 0.865, 0.82), facecolor="none")
        for curve, colour, width, marker in lines:
            steps, values = zip(*curve, strict=True)
            dot = marker or ("o" if len(curve) == 1 else "")
            axes.plot(steps, values, color=colour, linewidth=width, marker=dot, markersize=3.2)
        axes.grid(visible=True, axis="y", color=RULE, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(color=RULE, labelcolor=INK, length=0, pad=5)
        axes.spines[:].set_visible(False)
        axes.spines["bottom"].set(visible=True, color=RULE)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None}, transparent=True)
    return _inline(stream.getvalue(), label)


def _inline(svg: str, label: str) -> Markup:
    """Make a drawn file a part of a page: no prolog, no addresses, ids of its own, the page's colours."""
    body = svg[svg.index("<svg") :]
    # Matplotlib's style sheet would apply to the whole page, and its letters are not the page's.
    body = re.sub(r"<metadata>.*?</metadata>\s*|<style.*?</style>\s*| font-family: [^;]*;", "", body, flags=re.DOTALL)
    body = re.sub(r"<svg[^>]*?(viewBox=\"[^\"]*\")[^>]*>", r"<svg \1 LABEL>", body, count=1, flags=re.DOTALL)
    body = body.replace("xlink:href", "href")
    # Groups need no ids, and the other ones must not be those of the page's next chart.
    body = re.sub(r"<g id=\"[^\"]*\"", "<g", body)
    mark = format(crc32(label.encode("utf-8", errors="backslashreplace")), "x")
    body = re.sub(r"(?<= id=\")|(?<=url\(#)|(?<= href=\"#)", f"c{mark}-", body)
    # A tenth of a pixel is enough, and halves the page; numbers that are read stay as they are.
    body = re.sub(r"(?<![>\d.\u2212])\d+\.\d{2,}", lambda number: f"{float(number[0]):.1f}", body)
    for drawn, wanted in COLOURS.items():
        body = body.replace(drawn, wanted)
    attributes = Markup('role="img" aria-label="{}"').format(label)
    return Markup(body.strip().replace("LABEL", attributes, 1))  # noqa: S704 - drawn by matplotlib; the label is escaped
