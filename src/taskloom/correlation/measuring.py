"""Correlation of tasks, with intervals and clusters, from run folders alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from taskloom.bootstrap import percentiles
from taskloom.evaluation import build_metric
from taskloom.record import VERSION, Record, write_json

FILE = "correlation.json"
Over = Literal["checkpoints", "runs", "steps"]
Floats = NDArray[np.float64]

LEAST = 4
"""Fewer points than this give no correlation."""

RESAMPLES, CONFIDENCE = 500, 0.95
NEAR = 0.5
"""Tasks whose clusters correlate by more than this on average are in one cluster."""


@dataclass(frozen=True)
class Correlation:
    """How tasks go together.

    Attributes:
        over: "checkpoints", "runs" or "steps".
        tasks: names.
        points: [task, task] how many points both tasks have.
        pearson: [task, task]; NaN of fewer than `LEAST` points, or of a task that never changes.
        low: [task, task] lower ends of the intervals of `pearson`.
        high: [task, task] upper ends.
        spearman: [task, task].
        clusters: tasks that go together; each task is in one.
    """

    over: Over
    tasks: Sequence[str]
    points: NDArray[np.int64]
    pearson: Floats
    low: Floats
    high: Floats
    spearman: Floats
    clusters: Sequence[Sequence[str]]

    def as_row(self) -> dict[str, Any]:
        """Give it ready for JSON."""
        return {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in vars(self).items()}


def correlate(folders: Sequence[Path]) -> list[Correlation]:
    """Correlate the tasks of runs, in every way that their records allow, and write it into the first folder.

    - Over checkpoints: each task's validation score from one evaluation to the next, as changes, since scores that all
      rise with training correlate whatever the tasks are.
    - Over steps: changes of training losses, likewise; noise of the drawn rows is in them, so they are small.
    - Over runs: test scores, where there are four runs or more with the same tasks.

    Args:
        folders: of runs; those with steps and evaluations are pooled, run by run.

    Raises:
        RunFolderError: one is no run folder.
    """
    records = [Record.open(folder) for folder in folders]
    first = [score.task for score in records[0].scores() if score.task != "composite"]
    tasks = list(dict.fromkeys(first)) or sorted({name for row in records[0].steps() for name in row.get("tasks", {})})
    evaluations = [_evaluations(record, tasks) for record in records]
    losses = [_losses(record, tasks) for record in records]
    found = []
    for over, series in (("checkpoints", evaluations), ("steps", losses)):
        changes = [np.diff(each, axis=0) for each in series if len(each) > 1]
        if changes:
            found.append(measure(tasks, np.concatenate(changes), over))  # type: ignore[arg-type]
    if len(records) >= LEAST:
        found.append(measure(tasks, np.stack([_scores(record, tasks) for record in records]), "runs"))
    rows = {each.over: each.as_row() for each in found}
    runs = [str(folder) for folder in folders]
    write_json(records[0].folder / FILE, {"version": VERSION, "runs": runs, "correlations": rows})
    return found


def measure(tasks: Sequence[str], series: Floats, over: Over, seed: int = 0) -> Correlation:
    """Correlate columns, pair by pair over the rows that both have.

    Intervals are by bootstrap: over runs row by row, over checkpoints and steps in blocks of neighbouring rows, which
    depend on each other.

    Args:
        tasks: [task].
        series: [point, task] with NaN where a task has no value.
        over: what the rows are.
        seed: of the bootstrap.
    """
    count = len(tasks)
    points = np.zeros((count, count), dtype=np.int64)
    pearson, low, high, spearman = (np.full((count, count), np.nan) for _ in range(4))
    for i in range(count):
        for j in range(i + 1):
            both = series[np.isfinite(series[:, [i, j]]).all(axis=1)][:, [i, j]]
            points[i, j] = points[j, i] = len(both)
            if len(both) < LEAST or np.ptp(both, axis=0).min() == 0:
                continue
            r = float(stats.pearsonr(both[:, 0], both[:, 1]).statistic) if i != j else 1.0
            ends = (r, r) if i == j else _interval(both, over, seed)
            rank = float(stats.spearmanr(both[:, 0], both[:, 1]).statistic) if i != j else 1.0
            for matrix, value in ((pearson, r), (low, ends[0]), (high, ends[1]), (spearman, rank)):
                matrix[i, j] = matrix[j, i] = value
    return Correlation(over, list(tasks), points, pearson, low, high, spearman, clusters(tasks, pearson))


def clusters(tasks: Sequence[str], pearson: Floats) -> list[list[str]]:
    """Join tasks by average linkage on ``1 - r``; what is not known counts as no correlation."""
    if len(tasks) < 2:
        return [list(tasks)]
    distance = 1 - np.nan_to_num(pearson)
    np.fill_diagonal(distance, 0.0)
    numbers = fcluster(linkage(squareform(distance, checks=False), "average"), 1 - NEAR, "distance")
    held: dict[int, list[str]] = {}
    for name, number in zip(tasks, numbers.tolist(), strict=True):
        held.setdefault(number, []).append(name)
    return sorted(held.values(), key=lambda group: tasks.index(group[0]))


def _interval(both: Floats, over: Over, seed: int) -> tuple[float, float]:
    """Bootstrap a correlation; blocks are about as long as the cube root of the series."""
    size = len(both)
    block = 1 if over == "runs" else max(1, round(size ** (1 / 3)))
    generator = np.random.default_rng(seed)
    starts = generator.integers(0, size - block + 1, size=(RESAMPLES, -(-size // block)))
    places = (starts[:, :, None] + np.arange(block)).reshape(RESAMPLES, -1)[:, :size]
    one, other = both[places, 0], both[places, 1]
    one, other = one - one.mean(axis=1, keepdims=True), other - other.mean(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        samples = (one * other).sum(axis=1) / np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
    return percentiles(samples, CONFIDENCE)


def _evaluations(record: Record, tasks: Sequence[str]) -> Floats:
    """Give normalised validation scores by task's first metric: [evaluation, task]."""
    lines = [row["evaluation"]["tasks"] for row in record.steps() if "evaluation" in row]
    return np.array([[_first(line.get(name)) for name in tasks] for line in lines]).reshape(-1, len(tasks))


def _first(values: Mapping[str, float | None] | None) -> float:
    """Give the first metric's value as `normalise` makes it, in which greater is better."""
    metric, value = next(iter((values or {}).items()), ("", None))
    return math.nan if value is None else normalised(metric, value)


def normalised(metric: str, value: float) -> float:
    """Bring a score to where greater is better."""
    return float(build_metric(metric).normalise(np.array([value]))[0])


def _losses(record: Record, tasks: Sequence[str]) -> Floats:
    """Give training losses: [step, task], NaN in steps without rows of a task."""
    lines = [row["tasks"] for row in record.steps() if "tasks" in row]
    held = [[line.get(name, {}).get("loss") for name in tasks] for line in lines]
    return np.array(held, dtype=float).reshape(-1, len(tasks))


def _scores(record: Record, tasks: Sequence[str]) -> Floats:
    """Give normalised test scores by task's first metric: [task]."""
    found: dict[str, float] = {}
    for score in record.scores():
        if score.split == "test" and score.group is None and score.task in tasks and score.task not in found:
            found[score.task] = math.nan if score.value is None else normalised(score.metric, score.value)
    return np.array([found.get(name, np.nan) for name in tasks])
