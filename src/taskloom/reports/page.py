"""One self-contained page of one or several runs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined

from taskloom.errors import Fault, RunFolderError
from taskloom.record import Record, write_text
from taskloom.reports import charts
from taskloom.reports.conflict import ConflictFacts, conflict_facts
from taskloom.reports.decisions import DecisionFacts, decision_facts
from taskloom.reports.facts import COMPOSITE, RunFacts, ScoreLine, read_run
from taskloom.reports.section import Placed, sections_of, sections_together
from taskloom.reports.studies import is_study, study_section
from taskloom.reports.writing import FILTERS, number

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class RunPage:
    """A run with all that the page draws of it."""

    facts: RunFacts
    verdict: str
    figures: list[tuple[str, str]]
    sections: list[Placed]
    conflict: ConflictFacts | None
    decisions: DecisionFacts | None


@dataclass(frozen=True)
class Comparison:
    """One row of the table that compares runs.

    Attributes:
        task: the task, or "composite".
        metric: its own metric.
        lines: [run] its score in each run, None where that run has none of this metric.
        best: the places in `lines` of the best value; empty where there are not two to compare.
    """

    task: str
    metric: str
    lines: list[ScoreLine | None]
    best: set[int]


def report(folders: Sequence[Path], out: Path | None = None) -> Path:
    """Write one page about one or several runs, or studies.

    Several runs are compared first, each row a task, and then shown one by one. The page holds everything it needs, and
    no address is loaded. The same folders give the same bytes. Charts need the extra `report`; without it the page says
    so and has its tables.

    Args:
        folders: of runs and of studies.
        out: where the page goes; `report.html` in the first folder if None.

    Returns:
        The page's path.

    Raises:
        RunFolderError: there are no folders, or one is missing, is no run folder or is of another version.
    """
    if not folders:
        raise RunFolderError(Fault("folders", "name at least one run folder", "none"))
    paths = [Path(folder) for folder in folders]
    held = [path for path in paths if not is_study(path)]
    runs = [read_run(path, name) for path, name in zip(held, run_names(held), strict=True)] if held else []
    studied = [path for path in paths if is_study(path)]
    studies = [study_section(path, f"study-{place}") for place, path in enumerate(studied)]
    several = f"Comparison of {len(runs)} runs" if len(runs) > 1 else ""
    title = several or (runs[0].name if runs else f"Study {studied[0].resolve().name}")
    page = (
        _environment()
        .get_template("page.html.jinja")
        .render(
            title=title,
            drawable=charts.available(),
            studies=studies,
            comparisons=compare(runs) if len(runs) > 1 else [],
            together=sections_together(runs) if len(runs) > 1 else [],
            runs=[_run_page(run) for run in runs],
            script=charts.script(),
            as_json=charts.as_json,
        )
    )
    path = Record(folders[0]).report_html if out is None else Path(out)
    write_text(path, page)
    return path


def run_names(folders: Sequence[Path]) -> list[str]:
    """Name runs by their folders; by as much of the path as tells them apart where two folders have one name."""
    parts = [folder.resolve().parts for folder in folders]
    longest = max(len(part) for part in parts)
    for depth in range(1, longest + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(set(parts)):
            break
    return names


def compare(runs: Sequence[RunFacts]) -> list[Comparison]:
    """Lay the runs side by side: the composite first, then each task by its own metric."""
    tables = [({COMPOSITE: run.composite} if run.composite else {}) | run.own for run in runs]
    keys = dict.fromkeys((task, line.score.metric) for table in tables for task, line in table.items())
    rows = []
    for task, metric in sorted(keys, key=lambda key: key[0] != COMPOSITE):
        found = [table.get(task) for table in tables]
        lines = [line if line and line.score.metric == metric else None for line in found]
        rows.append(Comparison(task, metric, lines, _best(lines)))
    return rows


def _best(lines: Sequence[ScoreLine | None]) -> set[int]:
    values = {
        place: line.score.value if line.greater else -line.score.value
        for place, line in enumerate(lines)
        if line and math.isfinite(line.score.value)
    }
    top = max(values.values(), default=0.0)
    return {place for place, value in values.items() if value == top} if len(set(values.values())) > 1 else set()


def _run_page(run: RunFacts) -> RunPage:
    return RunPage(
        facts=run,
        verdict=verdict(run),
        figures=_figures(run),
        sections=sections_of(run),
        conflict=conflict_facts(run.steps, run.tasks),
        decisions=decision_facts(run.decisions, run.state.step),
    )


def verdict(run: RunFacts) -> str:
    """Say in a sentence how many tasks beat their baseline, and which other ways there are."""
    if not run.own:
        return "No scores were recorded yet."
    beats, unclear, worse = (run.count(kind) for kind in ("beats", "unclear", "worse"))
    unknown = len(run.own) - beats - unclear - worse
    tasks = "1 task beats its baseline" if len(run.own) == 1 else f"{len(run.own)} tasks beat their baseline"
    parts = [f"{beats} of {tasks}"]
    if unclear:
        parts.append(f"{unclear} cannot be told apart from it")
    if worse:
        parts.append(f"{worse} {'is' if worse == 1 else 'are'} worse than it")
    if unknown:
        parts.append(f"{unknown} {'has' if unknown == 1 else 'have'} no baseline to compare with")
    return f"{'; '.join(parts)}."


def _figures(run: RunFacts) -> list[tuple[str, str]]:
    """Give the few numbers that place a run: how long it trained, on how much, how fast."""
    speeds = [row["tokens_per_second"] for row in run.steps if row.get("tokens_per_second") is not None]
    rows = [line for facts in run.data.values() for line in facts.lines if line.split == "train"]
    figures = [("Status", f"{run.state.status}"), ("Steps", number(run.state.step))]
    if run.tasks:
        figures.append(("Tasks", number(len(run.tasks))))
    if rows:
        figures.append(("Training rows", number(sum(line.kept for line in rows))))
    if speeds:
        figures.append(("Tokens per second", number(round(median(speeds)))))
    return figures


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("taskloom.reports", "."),
        autoescape=True,  # names, texts and predictions are the user's data's words, never the page's
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    return environment
