"""What `taskloom study` shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from taskloom.cli.commands import console
from taskloom.reports.studies import words
from taskloom.statistics import Verdict
from taskloom.study import run_study
from taskloom.study.running import STUDY

WIDTH, WIDTH_ARM = 60, 16
"""Letters that the tables take, and what each arm adds."""


def run_study_file(file: Path, out: Path, workers: int | None, assignments: Sequence[str]) -> None:
    """Run a study, and show its outcome."""
    outcome = run_study(file, out, assignments=assignments, workers=workers, console=console)
    console.width = max(console.width, WIDTH + WIDTH_ARM * len(outcome["arms"]))  # a table that is cut tells nothing
    for table in (score_table(outcome), arm_table(outcome), cost_table(outcome)):
        console.print(table, "")
    for line in verdict_lines(outcome):
        console.print(line, soft_wrap=True, markup=False)
    console.print(f"\nReport: {out / 'report.html'}. Figures: {out / STUDY}", soft_wrap=True)


def score_table(outcome: Mapping[str, Any]) -> Table:
    """Lay mean scores out: a row for each task, a column for each arm; in brackets the deviation over seeds."""
    table = Table(
        "task",
        "metric",
        title="Test scores: mean over seeds, and deviation",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    for arm in outcome["arms"]:
        table.add_column(arm["name"], justify="right")
    for task in outcome["tasks"]:
        held = [arm["tasks"][task] for arm in outcome["arms"]]
        table.add_row(task, held[0]["metric"], *(_mean(each["raw"]) for each in held))
    return table


def _mean(values: Sequence[float]) -> str:
    spread = f" ({np.std(values, ddof=1):.3f})" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


def arm_table(outcome: Mapping[str, Any]) -> Table:
    """Lay out what each arm is as a whole: change against each task alone, and worst task."""
    table = Table(
        "arm", title=f"Each arm against `{outcome['reference']}`", title_justify="left", box=None, pad_edge=False
    )
    for heading in ("Δm", "composite", "worst task", "harmed", "rank", "regret"):
        table.add_column(heading, justify="right")
    compared = {each["arm"]: each for each in outcome["comparisons"]}
    for arm in outcome["arms"]:
        found = compared.get(arm["name"])
        if found is None:
            cells = ["", "", "", ""]
        else:
            task, loss = found["worst"]
            composite = found["composite"]["difference"]
            cells = [f"{100 * np.mean(found['delta_m']):+.1f} %", f"{composite:+.3f}", f"{task} {loss:+.3f}",
                     f"{100 * found['harmed']:.0f} %"]  # fmt: skip
        rank, regret = outcome["ranks"][arm["name"]], outcome["regret"][arm["name"]]
        table.add_row(arm["name"], *cells, f"{rank:.1f}", f"{regret:.3f}")
    return table


def cost_table(outcome: Mapping[str, Any]) -> Table:
    """Lay out what each arm costs: models to serve, trained parameters, minutes of steps."""
    table = Table("arm", title="Cost, a seed", title_justify="left", box=None, pad_edge=False)
    for heading in ("models", "parameters", "minutes"):
        table.add_column(heading, justify="right")
    for arm in outcome["arms"]:
        cost = arm["cost"]
        table.add_row(arm["name"], str(arm["models"]), f"{cost['parameters'] / 1e6:.2f} M", f"{cost['minutes']:.1f}")
    return table


def _told(row: Mapping[str, Any]) -> Verdict:
    return Verdict(**{key: value for key, value in row.items() if key != "equivalence"})


def verdict_lines(outcome: Mapping[str, Any]) -> Iterator[str]:
    """Say of each arm what it did to each task, and to all of them together."""
    margin = outcome["margin"]
    for found in outcome["comparisons"]:
        yield f"\n{found['arm']} against {outcome['reference']}:"
        for row in found["tasks"]:
            told, p = _told(row), row["equivalence"]
            near = told.word == "no difference shown" and p < outcome["level"]
            same = f"; equivalent within {margin:g} (p {p:.3f})" if near else ""
            yield f"  {told}{same}"
        yield f"  {Verdict(**found['composite'])}"
    fewer = " Take more seeds, or compare fewer tasks." if "cannot tell" in words(outcome) else ""
    yield f"\n{words(outcome)}{fewer}"
