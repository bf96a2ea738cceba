"""What gradients say of tasks against each other, and how much of it is noise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Matrix = NDArray[np.float64]


def cosines(gramian: Any) -> Matrix:
    """Give the cosine of each pair of gradients: [task, task]; NaN beside a gradient of zero."""
    held = np.asarray(gramian, dtype=np.float64)
    norms = np.sqrt(np.clip(np.diagonal(held), 0, None))
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Matrix = np.where(np.outer(norms, norms) > 0, held / np.outer(norms, norms), np.nan)
    return found


def mean_cosine(gramian: Any) -> float:
    """Give the mean cosine over pairs of gradients [task, task]; NaN where no pair has one."""
    held = cosines(gramian)
    known = [value for value in held[np.triu_indices(len(held), 1)] if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")


def half_cosines(half_gramian: Any) -> Matrix:
    """Give mean cosines between halves of tasks: [task, task], on the diagonal a task's two halves.

    All entries are of gradients of half as many rows, so that the diagonal is what noise alone does to the others.

    Args:
        half_gramian: [2 × task, 2 × task], halves of a task side by side.
    """
    held = cosines(half_gramian)
    tasks = held.shape[0] // 2
    blocks = held.reshape(tasks, 2, tasks, 2)
    with np.errstate(invalid="ignore"):
        found: Matrix = blocks.mean(axis=(1, 3))
    found[np.arange(tasks), np.arange(tasks)] = blocks[np.arange(tasks), 0, np.arange(tasks), 1]
    return found


@dataclass(frozen=True)
class Interval:
    """A mean with its interval.

    Attributes:
        mean: of the values.
        low: lower end.
        high: upper end.
        n: how many values there were.
    """

    mean: float
    low: float
    high: float
    n: int


def interval(values: Iterable[float], confidence: float = 0.95) -> Interval:
    """Give the mean and Student's interval; NaN values are left out, and one value alone has no width that is known."""
    held = np.array([value for value in values if np.isfinite(value)], dtype=np.float64)
    if len(held) < 2:
        mean = float(held.mean()) if len(held) else float("nan")
        return Interval(mean, float("-inf"), float("inf"), len(held))
    mean = float(held.mean())
    half = float(stats.t.ppf((1 + confidence) / 2, len(held) - 1) * held.std(ddof=1) / np.sqrt(len(held)))
    return Interval(mean, mean - half, mean + half, len(held))


@dataclass(frozen=True)
class Pair:
    """Two tasks over the recorded steps of a run.

    Attributes:
        tasks: their names.
        cosine: of their gradients.
        half_cosine: of the gradients of halves of their rows, to be held against `noise`.
        noise: of the gradients of two halves of one task, for the task of the two where it is lower.
        negative: share of recorded steps with a negative cosine.
        norm_ratio: the second task's gradient norm divided by the first's, geometric mean.
        conflict: whether the pair conflicts beyond noise: the whole interval of the half cosine lies below zero and
            below that of the noise. A diagnostic: it does not tell whether either task is harmed.
    """

    tasks: tuple[str, str]
    cosine: Interval
    half_cosine: Interval
    noise: Interval
    negative: float
    norm_ratio: float
    conflict: bool


def pairs(records: Sequence[Mapping[str, Any]], tasks: Sequence[str]) -> list[Pair]:
    """Sum up the recorded steps of a run for each pair of tasks.

    Args:
        records: for each recorded step ``tasks``, ``gramian`` and, where halves were measured, ``half_cosines``.
        tasks: names, in the order in which pairs are formed.
    """
    cosine_of, half_of, ratio_of = _by_pair(records)
    found = []
    for place, one in enumerate(tasks):
        for other in tasks[place + 1 :]:
            values = cosine_of.get((one, other), [])
            if not values:
                continue
            noises = [interval(half_of.get((name, name), [])) for name in (one, other)]
            noise = min(noises, key=lambda each: each.low)
            half = interval(half_of.get((one, other), []))
            ratios = ratio_of[one, other]
            found.append(
                Pair(
                    (one, other),
                    interval(values),
                    half,
                    noise,
                    float(np.mean(np.array(values) < 0)),
                    float(np.exp(np.mean(np.log(ratios)))) if ratios else float("nan"),
                    bool(half.high < 0 and half.high < noise.low),
                )
            )
    return found


PairValues = dict[tuple[str, str], list[float]]


def _by_pair(records: Sequence[Mapping[str, Any]]) -> tuple[PairValues, PairValues, PairValues]:
    """Gather cosines, half cosines and norm ratios of each ordered pair over the records."""
    cosine_of: PairValues = {}
    half_of: PairValues = {}
    ratio_of: PairValues = {}
    for record in records:
        names = record["tasks"]
        gramian = np.asarray(record["gramian"], dtype=np.float64)
        held = cosines(gramian)
        halves = np.asarray(record["half_cosines"], dtype=np.float64) if record.get("half_cosines") else None
        norms = np.sqrt(np.diagonal(gramian))
        for i, one in enumerate(names):
            for j, other in enumerate(names):
                if halves is not None:
                    half_of.setdefault((one, other), []).append(float(halves[i, j]))
                if i != j and np.isfinite(held[i, j]):
                    cosine_of.setdefault((one, other), []).append(float(held[i, j]))
                    ratio_of.setdefault((one, other), []).append(float(norms[j] / norms[i]))
    return cosine_of, half_of, ratio_of


def layer_cosines(
    records: Sequence[Mapping[str, Any]], tasks: Sequence[str]
) -> dict[str, dict[tuple[str, str], Interval]]:
    """Give for each layer the mean cosine of each pair over the recorded steps, with its interval."""
    layers: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        for layer, gramian in record.get("layers", {}).items():
            layers.setdefault(layer, []).append({"tasks": record["tasks"], "gramian": gramian})
    found = {}
    for layer, held in layers.items():
        cosine_of, _, _ = _by_pair(held)
        wanted = [(one, other) for place, one in enumerate(tasks) for other in tasks[place + 1 :]]
        found[layer] = {pair: interval(cosine_of[pair]) for pair in wanted if pair in cosine_of}
    return found


def rounded(value: Any, digits: int = 6) -> Any:
    """Keep so many significant digits of every number in a record."""
    if isinstance(value, float):
        return float(f"{value:.{digits}g}")
    if isinstance(value, Mapping):
        return {key: rounded(each, digits) for key, each in value.items()}
    return [rounded(each, digits) for each in value] if isinstance(value, list) else value
