"""Precision-recall and ROC curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from taskloom.reports.answers import answers_of
from taskloom.reports.ranking import Ranked, as_points, ranked
from taskloom.reports.section import Chart, Section
from taskloom.reports.writing import number

if TYPE_CHECKING:
    from taskloom.reports.facts import RunFacts

TITLE = "Precision, recall and ROC"
PLACE = 62


def section(runs: Sequence[RunFacts]) -> Section | None:
    """Draw both curves for each task with probabilities by label."""
    made = []
    for number_of, answers in enumerate(answers_of(runs[0])):
        found = ranked(answers)
        if found:
            made += _charts(number_of, answers.task, found)
    if not made:
        return None
    note = "One label against all others, by its probability on test rows; `all labels` counts all such choices alike."
    return Section(Markup('<p class="note">{}</p>').format(note), made)


def _charts(place: int, task: str, found: Sequence[Ranked]) -> list[Chart]:
    rows = [["label", "rows with it", "average precision", "area under ROC"]]
    rows += [[each.label, str(each.positives), number(each.average_precision), number(each.auc)] for each in found]
    recall = _spec(as_points(found, "recall", "precision"), "recall", "precision", [each.label for each in found])
    roc = _spec(
        as_points(found, "false_positives", "true_positives"),
        "false positive rate",
        "true positive rate",
        [each.label for each in found],
    )
    return [
        Chart(f"recall-{place}", recall, f"{task}: precision by recall", rows),
        Chart(f"roc-{place}", roc, f"{task}: true by false positive rate (ROC)", rows),
    ]


def _spec(points: Sequence[Any], x: str, y: str, labels: Sequence[str]) -> dict[str, Any]:
    unit = {"domain": [0, 1]}
    return {
        "data": {"values": list(points)},
        "height": 260,
        "params": [{"name": "picked", "select": {"type": "point", "fields": ["label"]}, "bind": "legend"}],
        "mark": {"type": "line", "interpolate": "step-after" if y == "precision" else "linear"},
        "encoding": {
            "x": {"field": "x", "type": "quantitative", "title": x, "scale": unit},
            "y": {"field": "y", "type": "quantitative", "title": y, "scale": unit},
            "order": {"field": "place"},
            "color": {"field": "label", "type": "nominal", "sort": list(labels),
                      "legend": {"title": None, "orient": "bottom", "labelLimit": 140}},
            "opacity": {"condition": {"param": "picked", "value": 1}, "value": 0.12},
            "tooltip": [{"field": "label"}, {"field": "x", "title": x}, {"field": "y", "title": y}],
        },
    }  # fmt: skip
