"""Learning curves: a task's score by how many of its rows there are, alone and beside the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from taskloom.config import Config
from taskloom.errors import ConfigError, Fault, listed, nearest
from taskloom.preparation import prepare
from taskloom.record import VERSION, check_own, write_json
from taskloom.statistics import t_interval
from taskloom.study.budget import Budget
from taskloom.study.comparison import scores_of
from taskloom.study.members import KEPT, Member, train_members

FILE = "curve.json"
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Point:
    """One share of a task's training rows.

    Attributes:
        share: of them.
        rows: how many that is.
        alone: [seed] normalised score alone.
        together: [seed] beside all other tasks, which keep their rows.
        saved: rows that the task alone would need to score as it does beside the others, less those it has; None where
            no number of its rows reaches it.
        low: lower end of the interval of `saved` over seeds; NaN where it cannot be told.
        high: its upper end.
    """

    share: float
    rows: int
    alone: Sequence[float]
    together: Sequence[float]
    saved: float | None
    low: float
    high: float


def learning_curve(
    base: Config,
    task: str,
    folder: Path,
    *,
    shares: Sequence[float] = (0.1, 0.25, 0.5, 1.0),
    seeds: Sequence[int] = (0, 1, 2),
    workers: int = 1,
    console: Console | None = None,
) -> list[Point]:
    """Train a task on more and more of its rows, alone and beside the others, at the same steps and rows a step.

    The rows of a smaller share are among those of a larger one.

    Args:
        base: the run of all tasks.
        task: whose rows are cut.
        folder: where runs go, and the outcome as `FILE`.
        shares: of its training rows, above 0 and at most 1.
        seeds: paired.
        workers: runs side by side.
        console: where progress is shown.

    Raises:
        ConfigError: there is no such task, or a share is none.
    """
    _check(base, task, shares)
    check_own(folder, *KEPT, FILE)
    total = len(prepare(base).corpora[task].splits["train"])
    counts = {share: max(2, round(share * total)) for share in sorted(shares)}
    tasks, budget = tuple(base.tasks), Budget.of(base)
    members = []
    # Beside the others it is drawn as often as alone, whatever a mixture makes of fewer rows.
    same = {"transfer.every_steps": 0, "mixture": {"strategy": "fixed", "ratios": dict(budget.rows)}}
    for share, rows in counts.items():
        overrides = {f"tasks.{task}.limit_train_rows": rows, **same}
        for seed in seeds:
            members += [Member(f"alone:{share}", (task,), overrides, seed),
                        Member(f"together:{share}", tasks, overrides, seed)]  # fmt: skip
    records = train_members(base, members, folder, budget=budget, workers=workers, console=console)
    alone, together = (
        np.stack([scores_of([records[f"{kind}:{share}", seed] for seed in seeds], task).scores for share in counts])
        for kind in ("alone", "together")
    )  # [share, seed]
    sizes = np.array(list(counts.values()), dtype=float)
    points = [_point(share, sizes, alone, together, place) for place, share in enumerate(counts)]
    rows_of = [vars(point) | {"alone": list(point.alone), "together": list(point.together)} for point in points]
    write_json(folder / FILE, {"version": VERSION, "task": task, "seeds": list(seeds), "points": rows_of})
    return points


def _check(base: Config, task: str, shares: Sequence[float]) -> None:
    if task not in base.tasks:
        raise ConfigError(
            Fault("--task", f"be one of {listed(list(base.tasks))}", f"`{task}`", nearest(task, base.tasks))
        )
    if len(base.tasks) < 2:
        raise ConfigError(Fault("tasks", "be two at least, one of which is cut", f"`{task}` alone"))
    wrong = [share for share in shares if not 0 < share <= 1]
    if wrong or not shares:
        found = f"`{wrong[0]}`" if wrong else "none"
        raise ConfigError(Fault("--shares", "be above 0 and at most 1", found))


def _point(share: float, sizes: Floats, alone: Floats, together: Floats, place: int) -> Point:
    reached = [rows_needed(sizes, alone[:, seed], float(together[place, seed])) for seed in range(alone.shape[1])]
    known = [each - sizes[place] for each in reached if each is not None]
    low, high = t_interval(known) if len(known) == len(reached) else (float("nan"), float("nan"))
    middle = rows_needed(sizes, alone.mean(axis=1), float(together[place].mean()))
    saved = None if middle is None else float(middle - sizes[place])
    return Point(share, int(sizes[place]), alone[place].tolist(), together[place].tolist(), saved, low, high)


def rows_needed(sizes: Floats, scores: Floats, wanted: float) -> float | None:
    """Give how many rows a curve needs to reach a score, between its points by the logarithm of the rows.

    A curve that falls between two points is taken to have kept what it had reached.

    Args:
        sizes: [point] rows, growing.
        scores: [point].
        wanted: the score.

    Returns:
        the smallest number, no less than the first point's; None where the last point does not reach it.

    >>> round(rows_needed(np.array([10.0, 100.0]), np.array([0.2, 0.6]), 0.4), 3)
    31.623
    """
    reached: Any = np.maximum.accumulate(scores)
    if wanted <= reached[0]:
        return float(sizes[0])
    if wanted > reached[-1]:
        return None
    right = int(np.searchsorted(reached, wanted))
    span = reached[right] - reached[right - 1]
    part = (wanted - reached[right - 1]) / span
    ends = np.log(sizes[right - 1 : right + 1])
    return float(np.exp(ends[0] + part * (ends[1] - ends[0])))


def as_lines(points: Sequence[Point]) -> list[dict[str, Any]]:
    """Give the points for a table: share, rows, both mean scores and what is saved in words."""
    return [
        {
            "share": f"{100 * each.share:g} %",
            "rows": str(each.rows),
            "alone": f"{np.mean(each.alone):.3f}",
            "together": f"{np.mean(each.together):.3f}",
            "saved": _saved(each, points[-1].rows),
        }
        for each in points
    ]


def _saved(point: Point, most: int) -> str:
    if point.saved is None:
        return f"more than {most - point.rows}"
    told = f"{point.saved:.0f}"
    return told if np.isnan(point.low) else f"{told} ({point.low:.0f} … {point.high:.0f})"
