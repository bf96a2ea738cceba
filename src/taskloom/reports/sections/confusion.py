"""What each task takes for what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from taskloom.reports import charts
from taskloom.reports.answers import answers_of
from taskloom.reports.confusion import Confusion, confusion
from taskloom.reports.section import Chart, Section, render

if TYPE_CHECKING:
    from taskloom.reports.facts import RunFacts

TITLE = "What is taken for what"
PLACE = 60


def section(runs: Sequence[RunFacts]) -> Section | None:
    """Draw a matrix for each task that answers with labels, and list what is confused most."""
    found = [made for answers in answers_of(runs[0]) if (made := confusion(answers)) is not None]
    if not found:
        return None
    matrices = [_chart(number, each) for number, each in enumerate(found)]
    return Section(render("confusion.html.jinja", found=found), matrices)


def _chart(number: int, found: Confusion) -> Chart:
    totals = found.counts.sum(axis=1)
    cells = [
        {
            "right": right,
            "said": said,
            "value": float(count / max(totals[row], 1)),
            "shown": str(int(count)) if count else "",
        }
        for row, right in enumerate(found.labels)
        for said, count in zip(found.labels, found.counts[row], strict=True)
    ]
    spec = charts.heat(cells, "said", "right", sort_x=found.labels, sort_y=found.labels)
    label = f"{found.task}: right labels in rows, said ones in columns; colour by share of the row"
    rows = [["right \\ said", *found.labels]]
    rows += [[right, *map(str, found.counts[row].tolist())] for row, right in enumerate(found.labels)]
    return Chart(f"matrix-{number}", spec, label, rows)
