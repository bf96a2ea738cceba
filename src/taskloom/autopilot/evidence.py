"""What the runs of each task alone and of all together show of each task, on validation rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np

from taskloom.autopilot.diagnosis import Evidence, colliding_prompts
from taskloom.autopilot.profile import TaskProfile
from taskloom.config import Config
from taskloom.evaluation import build_metric
from taskloom.gradients.conflict import pairs
from taskloom.record import Record
from taskloom.study.comparison import over_examples, scores_of
from taskloom.tasks import TASKS

SPLIT = "validation"
PROMPTS = ("prefix", "instruction", "template")
"""Options of tasks that answer in words, which say what is asked."""


def gather(base: Config, alone: Mapping[str, Record], joint: Record, profiled: Sequence[TaskProfile]) -> list[Evidence]:
    """Read what is known of each task.

    Args:
        base: the run of all tasks.
        alone: task -> its run alone.
        joint: the run of all.
        profiled: what its data is, task by task.
    """
    entropies = {each.task: each.entropy for each in profiled}
    # A run's record counts what was read, of which `limit_rows` may train fewer.
    rows = {each.task: each.rows["train"] for each in profiled}
    steps = joint.steps()
    drawn = dict.fromkeys(base.tasks, 0)
    for line in steps:
        for name, task in line.get("tasks", {}).items():
            drawn[name] += task.get("examples", 0)
    against = _conflicts(steps, list(base.tasks))
    worded = {name: base.options(name) for name, section in base.tasks.items() if TASKS.load(section.type).generates}
    same = colliding_prompts(worded, PROMPTS)
    middle = float(median(rows.values()))
    return [
        replace(
            _of(base, name, alone[name], joint, rows[name], middle, drawn[name], against[name], same.get(name, [])),
            loss=_losses(alone[name].steps(), name),
            entropy=entropies[name],
        )
        for name in base.tasks
    ]


def _of(
    base: Config,
    name: str,
    alone: Record,
    joint: Record,
    rows: int,
    middle: float,
    drawn: int,
    conflicts: list[str],
    same: list[str],
) -> Evidence:
    own, together = scores_of([alone], name, SPLIT), scores_of([joint], name, SPLIT)
    metric = build_metric(own.metric)
    score = next(each for each in alone.scores() if each.task == name and each.split == SPLIT)
    ends = metric.normalise(np.array([score.low, score.high]))
    settings = base.evaluation
    found = over_examples([joint], [alone], name, own.metric, resamples=settings.resamples,
                          confidence=settings.confidence, split=SPLIT)  # fmt: skip
    floor = float(own.floor[0])
    return Evidence(
        task=name,
        rows=rows,
        median_rows=middle,
        drawn=drawn,
        alone=float(own.scores[0]),
        alone_low=float(ends.min()),
        alone_high=float(ends.max()),
        floor=None if np.isnan(floor) else floor,
        together=float(together.scores[0]),
        low=found.low if found else float("nan"),
        high=found.high if found else float("nan"),
        curve=_curve(joint.steps(), name, own.metric),
        conflicts=conflicts,
        same_prompts=same,
    )


def _curve(steps: list[dict[str, Any]], name: str, metric_name: str) -> list[float]:
    """Give the normalised validation scores of a task during training."""
    values = [line["evaluation"]["tasks"].get(name, {}).get(metric_name) for line in steps if "evaluation" in line]
    known = np.array([value for value in values if value is not None], dtype=np.float64)
    found: list[float] = build_metric(metric_name).normalise(known).tolist()
    return found


def _losses(steps: list[dict[str, Any]], name: str) -> tuple[float, float]:
    """Give a task's mean training loss over the first and the last tenth of its steps."""
    values = [line["tasks"][name]["loss"] for line in steps if name in line.get("tasks", {})]
    tenth = max(1, len(values) // 10)
    return float(np.mean(values[:tenth])), float(np.mean(values[-tenth:]))


def _conflicts(steps: list[dict[str, Any]], tasks: list[str]) -> dict[str, list[str]]:
    """Give for each task those whose gradients point against its own beyond noise."""
    found: dict[str, list[str]] = {name: [] for name in tasks}
    for pair in pairs([line["conflict"] for line in steps if line.get("conflict")], tasks):
        if pair.conflict:
            one, other = pair.tasks
            found[one].append(other)
            found[other].append(one)
    return found
