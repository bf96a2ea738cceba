"""Compares the groups of a task in a finished run: its metrics and, where it has labels, its rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskloom.config.schema import TASK_ROOM
from taskloom.errors import DataError, Fault, nearest
from taskloom.evaluation import build_metric
from taskloom.fairness.answers import Answers, answers_of, finished
from taskloom.fairness.comparing import Gap, Quantity, between_0_and_1, by_group, gaps, too_small
from taskloom.fairness.note import note_groups
from taskloom.fairness.rates import Parity, parities, rates
from taskloom.preparation import InMemory

LABELLED = frozenset({"label", "labels"})
"""Kinds of answers whose labels are selected or not."""


@dataclass(frozen=True)
class Audit:
    """What the groups of a task get.

    Attributes:
        task: its name.
        columns: which columns of the data make the groups.
        split: which rows.
        confidence: of the intervals.
        scores: each metric of the task, by group.
        rates: the three rates of each label, by group; empty for tasks without labels.
        gaps: the gap in each metric.
        parity: the gaps in each label's rates.
        warnings: what cannot be told, as sentences.
        without_group: rows that were left out.
    """

    task: str
    columns: list[str]
    split: str
    confidence: float
    scores: list[Quantity]
    rates: list[Quantity]
    gaps: list[Gap]
    parity: list[Parity]
    warnings: list[str]
    without_group: int

    def as_json(self) -> dict[str, Any]:
        """Give it ready for JSON, the groups in order."""
        groups = []
        for name, held in self.scores[0].groups.items():
            by_label: dict[str, dict[str, Any]] = {}
            for each in self.rates:
                by_label.setdefault(str(each.label), {})[each.name] = each.groups[name].as_json()
            scores = {each.name: each.groups[name].as_json() for each in self.scores}
            groups.append({"group": name, "rows": held.n, "scores": scores, "rates": by_label})
        return {
            "columns": self.columns,
            "split": self.split,
            "rows": self.scores[0].whole.n,
            "without_group": self.without_group,
            "confidence": self.confidence,
            "all": {each.name: each.whole.as_json() for each in self.scores},
            "groups": groups,
            "gaps": [gap.as_json() for gap in self.gaps],
            "parity": {each.label: each.as_json() for each in self.parity},
            "warnings": self.warnings,
        }


def audit(
    folder: str | Path,
    task: str,
    columns: Sequence[str],
    *,
    split: str = "test",
    positive: str | None = None,
    rows: InMemory | None = None,
    write: bool = True,
) -> Audit:
    """Compare the groups of a task, from the run's predictions and columns of its data.

    Every metric of the task is given by group, those of the user among them; for tasks with labels also how often each
    group is given a label, and how often rightly and wrongly. No model is loaded.

    Args:
        folder: of a finished run.
        task: the task.
        columns: of the data; several make groups of all their values together.
        split: whose predictions are compared.
        positive: the one label whose rates are wanted; None for each label against all others.
        rows: the rows in memory that the run was trained with, where it was.
        write: whether fairness.json is written.

    Raises:
        RunFolderError: the folder is no run folder, or has no predictions of the split.
        DataError: there is no such task, column or label, or there are not two groups.
        MissingExtraError: fairlearn is absent.

    Paper: Hardt, Price and Srebro, Equality of Opportunity in Supervised Learning, 2016, arXiv:1610.02413.
    """
    record, config = finished(folder, task)
    answers = answers_of(record, config, task, columns, split, rows)
    settings = {
        "resamples": config.evaluation.resamples,
        "confidence": config.evaluation.confidence,
        "seed": config.training["seed"],
    }
    kind = TASK_ROOM.load(config.tasks[task].type).predicts
    found = compared(answers, config.tasks[task].metrics, kind, positive, settings)
    made = Audit(task, list(columns), split, settings["confidence"], *found, answers.without_group)
    if write:
        note_groups(record, task, made.as_json())
    return made


def compared(
    answers: Answers, metrics: Sequence[str], kind: str, positive: str | None, settings: dict[str, Any]
) -> tuple[list[Quantity], list[Quantity], list[Gap], list[Parity], list[str]]:
    """Compare the groups of some answers.

    Args:
        answers: with their groups.
        metrics: names.
        kind: of the answers, as `Task.predicts`.
        positive: the one label whose rates are wanted; None for all.
        settings: ``resamples``, ``confidence``, ``seed``.

    Returns:
        scores, rates, gaps in the scores, gaps in the rates, and warnings.
    """
    said, right, groups = answers.predictions, answers.references, answers.groups
    built = {name: build_metric(name) for name in metrics}
    scores = [by_group(name, metric, said, right, groups, **settings) for name, metric in built.items()]
    labels = _labels(said, right, positive) if kind in LABELLED else []
    held = rates(said, right, groups, labels, **settings) if labels else []
    confidence = settings["confidence"]
    own = [gap for each in scores for gap in gaps([each], confidence)]
    warnings = too_small(scores[0], confidence, bounded=between_0_and_1(built[metrics[0]]))
    if answers.without_group:
        warnings.append(f"{answers.without_group} rows have no group and are left out.")
    return scores, held, own, parities(held, confidence), warnings


def _labels(predictions: Sequence[Any], references: Sequence[Any], positive: str | None) -> list[Any]:
    """List the labels that occur, or the one that is asked for."""
    every = [
        label for answer in [*references, *predictions] for label in (answer if isinstance(answer, list) else [answer])
    ]
    known = {str(label): label for label in every}
    if positive is None:
        return [known[name] for name in sorted(known)]
    if positive not in known:
        raise DataError(Fault("--positive", "be a label of the task", f"`{positive}`", nearest(positive, known)))
    return [known[positive]]
