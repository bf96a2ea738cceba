"""Losses, validation scores, weights, shares and learning rates by step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from taskloom.reports import charts
from taskloom.reports.charts import Curve
from taskloom.reports.section import Chart, Section, render
from taskloom.reports.writing import number

if TYPE_CHECKING:
    from taskloom.reports.facts import RunFacts

TITLE = "Training"
PLACE = 40


def section(runs: Sequence[RunFacts]) -> Section | None:
    """Draw every task's curves on shared axes."""
    run = runs[0]
    if not run.steps and not run.evaluations:
        return Section(Markup("<p>No training steps were recorded yet.</p>"))
    losses = {task: curve for task in run.tasks if (curve := charts.loss_curve(run, task))}
    scores = {f"{task} ({metric})": curve for task in run.tasks if (curve := charts.score_curve(run, task)[1])
              for metric in [charts.score_curve(run, task)[0]]}  # fmt: skip
    composite = charts.finite((row["step"], row["evaluation"].get("composite")) for row in run.evaluations)
    if composite and len(scores) > 1:
        scores["composite"] = composite
    made = []
    if losses:
        smooth = {task: charts.smoothed(curve) for task, curve in losses.items()}
        made.append(_chart("loss", smooth, "loss", f"Training loss of {run.name}, smoothed"))
    if scores:
        made.append(_chart("score", scores, "validation score", f"Validation scores of {run.name}", points=True))
    for key, y, words, curves in (
        ("weight", "weight", "What each task's gradient counted", _weights(run)),
        ("share", "share of rows", "Share of each task in the rows drawn, smoothed", _shares(run)),
        ("rate", "learning rate", "Learning rate", _rates(run)),
    ):
        if _moves(curves):
            made.append(_chart(key, curves, y, f"{words} in {run.name}"))
    return Section(render("training.html.jinja", losses=bool(losses), scores=bool(scores)), made)


def _chart(key: str, curves: Mapping[str, Curve], y: str, label: str, *, points: bool = False) -> Chart:
    rows = [["task", "first", "last", "least", "most"]]
    for task, curve in curves.items():
        values = [value for _, value in curve]
        rows.append([task, *map(number, (values[0], values[-1], min(values), max(values)))])
    spec = charts.lines(curves, y, points=points and max(len(curve) for curve in curves.values()) <= 40)
    return Chart(key, spec, label, rows)


def _weights(run: RunFacts) -> dict[str, Curve]:
    return _of_tasks(run, lambda held, _: held.get("weight"))


def _shares(run: RunFacts) -> dict[str, Curve]:
    found = _of_tasks(run, lambda held, whole: (held.get("examples") or 0) / whole if whole else None)
    return {task: charts.smoothed(curve) for task, curve in found.items()}


def _of_tasks(run: RunFacts, read: Callable[[Mapping[str, Any], float], float | None]) -> dict[str, Curve]:
    curves: dict[str, list[tuple[float, float | None]]] = {task: [] for task in run.tasks}
    for row in run.steps:
        whole = sum(held.get("examples") or 0 for held in row["tasks"].values())
        for task, held in row["tasks"].items():
            if task in curves:
                curves[task].append((row["step"], read(held, whole)))
    return {task: curve for task, held in curves.items() if (curve := charts.finite(held))}


def _rates(run: RunFacts) -> dict[str, Curve]:
    curve = charts.finite((row["step"], row.get("learning_rate")) for row in run.steps)
    return {"shared parts": curve} if curve else {}


def _moves(curves: Mapping[str, Curve]) -> bool:
    """Say whether there is anything to see: more than one step, and a line that is not flat."""
    return any(len({round(value, 12) for _, value in curve}) > 1 for curve in curves.values())
