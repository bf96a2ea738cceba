"""Thresholds of a group's own on a trained task's probabilities, so that the groups' rates come together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from taskloom.config import read_config
from taskloom.data.cache_key import canonical
from taskloom.data.columns import ABSENT, value_at
from taskloom.errors import DataError, Fault, MissingExtraError, RunFolderError, listed, nearest
from taskloom.evaluation import build_metric
from taskloom.fairness.answers import BETWEEN, Answers, answers_of, finished
from taskloom.fairness.comparing import Gap, Quantity, by_group, gaps
from taskloom.fairness.note import note_entry
from taskloom.fairness.rates import Parity, parities, rates
from taskloom.preparation import InMemory
from taskloom.record import VERSION, Record, read_note, write_json
from taskloom.run import Run
from taskloom.types import Prediction, Row

FILE = "thresholds.json"
FITTED_ON = "validation"

Constraint = Literal["demographic_parity", "equalized_odds", "true_positive_rate_parity", "false_positive_rate_parity"]
"""What is to be alike in the groups, as fairlearn calls it."""


@dataclass(frozen=True)
class Rule:
    """How a group's probabilities become answers: a draw between two thresholds, and at times a draw without a look.

    Attributes:
        ignore: share of rows whose probability is not looked at.
        constant: share of these that get the positive label.
        parts: (share, operator, threshold) of the others; a probability that is ">" or "<" its threshold gets it.
    """

    ignore: float
    constant: float
    parts: list[tuple[float, str, float]]

    def chance(self, probability: float) -> float:
        """Give the chance that a row with a probability gets the positive label."""
        met = sum(
            share for share, sign, limit in self.parts if (probability > limit if sign == ">" else probability < limit)
        )
        return self.ignore * self.constant + (1 - self.ignore) * met


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of one task.

    Attributes:
        task: its name.
        columns: of the groups.
        constraint: what they make alike.
        positive: the label whose probabilities they are put on.
        other: the other label.
        rules: group -> its rule.
    """

    task: str
    columns: list[str]
    constraint: str
    positive: Any
    other: Any
    rules: dict[str, Rule]

    def answer(self, group: str, probability: float, asked: Row) -> Any:
        """Give the label of a row. Where there is a draw, it is a digest of the row: the same row, the same answer."""
        drawn = int.from_bytes(sha256(canonical(asked)).digest()[:8]) / 2**64
        return self.positive if drawn < self.rules[group].chance(probability) else self.other


@dataclass(frozen=True)
class Side:
    """What the groups get, with thresholds or without.

    Attributes:
        scores: the task's first metric, by group.
        gap: its gap.
        parity: the gaps of the positive label's rates.
    """

    scores: Quantity
    gap: Gap
    parity: Parity

    def as_json(self) -> dict[str, Any]:
        """Give it ready for JSON."""
        score, groups = self.scores.whole.as_json(), {name: each.as_json() for name, each in self.scores.groups.items()}
        return {"score": score, "groups": groups, "gap": self.gap.as_json(), "parity": self.parity.as_json()}


@dataclass(frozen=True)
class Adjusted:
    """What thresholds by group change.

    Attributes:
        thresholds: as fitted.
        metric: the task's first.
        split: on which it is measured.
        before: without thresholds.
        after: with them.
    """

    thresholds: Thresholds
    metric: str
    split: str
    before: Side
    after: Side

    def as_json(self) -> dict[str, Any]:
        """Give it ready for JSON."""
        held = self.thresholds
        return {
            "columns": held.columns,
            "constraint": held.constraint,
            "positive": str(held.positive),
            "fitted_on": FITTED_ON,
            "split": self.split,
            "metric": self.metric,
            "before": self.before.as_json(),
            "after": self.after.as_json(),
        }


def fit_thresholds(
    folder: str | Path,
    task: str,
    columns: Sequence[str],
    constraint: str,
    *,
    positive: str | None = None,
    split: str = "test",
    rows: InMemory | None = None,
) -> Adjusted:
    """Fit thresholds by group on a run's validation predictions, write them, and measure what they change.

    Args:
        folder: of a finished run.
        task: a task with two labels and probabilities.
        columns: of the groups.
        constraint: what is to be alike, of `Constraint`.
        positive: the label that is selected; by default the last in order.
        split: what it is measured on.
        rows: the rows in memory that the run was trained with, where it was.

    Raises:
        RunFolderError: the folder is no run folder, or lacks predictions of validation or of the split.
        DataError: the task has no two labels with probabilities, a group lacks one of them in validation, or a group of
            the split is not in validation.
        MissingExtraError: fairlearn is absent.

    Paper: Hardt, Price and Srebro, Equality of Opportunity in Supervised Learning, 2016, arXiv:1610.02413.
    """
    if constraint not in get_args(Constraint):
        fix = nearest(constraint, get_args(Constraint))
        raise DataError(Fault("--thresholds", "name what is to be alike", f"`{constraint}`", fix))
    record, config = finished(folder, task)
    fitting = answers_of(record, config, task, columns, FITTED_ON, rows)
    selected, other = _chosen(_two_labels(fitting, task), positive)
    rules = _fitted(fitting, selected, constraint, columns)
    thresholds = Thresholds(task, list(columns), constraint, selected, other, rules)
    measured = answers_of(record, config, task, columns, split, rows)
    _refuse_strangers(measured, thresholds, split)
    settings = {"resamples": config.evaluation.resamples, "confidence": config.evaluation.confidence}
    settings["seed"] = config.training["seed"]
    metric, said = config.tasks[task].metrics[0], _answered(thresholds, measured)
    before, after = (_side(measured, answers, metric, selected, settings) for answers in (measured.predictions, said))
    made = Adjusted(thresholds, metric, split, before, after)
    _write(record, thresholds)
    note_entry(record, task, "thresholds", made.as_json())
    return made


def _refuse_strangers(answers: Answers, thresholds: Thresholds, split: str) -> None:
    strangers = sorted(set(answers.groups) - set(thresholds.rules))
    if strangers:
        found = f"{listed(strangers)} in {split} alone"
        raise DataError(Fault(f"--group {thresholds.columns[0]}", f"have groups that {FITTED_ON} has", found))


def _chosen(labels: Sequence[Any], positive: str | None) -> tuple[Any, Any]:
    """Give the label that is selected, and the other."""
    named = {str(label): label for label in labels}
    name = list(named)[-1] if positive is None else positive
    if name not in named:
        raise DataError(Fault("--positive", "be a label of the task", f"`{name}`", nearest(name, named)))
    return named.pop(name), next(iter(named.values()))


def _answered(thresholds: Thresholds, answers: Answers) -> list[Any]:
    """Answer rows by thresholds: [example] labels."""
    return [
        thresholds.answer(group, line["detail"]["probabilities"][str(thresholds.positive)], line["input"])
        for group, line in zip(answers.groups, answers.lines, strict=True)
    ]


def _side(answers: Answers, said: Sequence[Any], metric: str, positive: Any, settings: dict[str, Any]) -> Side:
    right, groups = answers.references, answers.groups
    scores = by_group(metric, build_metric(metric), said, right, groups, **settings)
    confidence = settings["confidence"]
    parity = parities(rates(said, right, groups, [positive], **settings), confidence)
    return Side(scores, gaps([scores], confidence)[0], parity[0])


def _two_labels(answers: Answers, task: str) -> list[Any]:
    """Give a task's two labels in order; raises DataError where it has others, or tells no probabilities."""
    told = [line["detail"].get("probabilities") for line in answers.lines]
    requirement = "have two labels and tell their probabilities"
    if not all(isinstance(each, dict) and len(each) == 2 for each in told):
        found = f"{len(told[0])} labels" if isinstance(told[0], dict) else "none"
        raise DataError(Fault("--task", requirement, f"`{task}`: {found}", "Thresholds serve classification in two"))
    labels = {str(label): label for label in answers.references}
    if len(labels) < 2:
        raise DataError(Fault("--task", f"have both labels in {FITTED_ON}", f"`{next(iter(labels))}` alone"))
    return [labels[name] for name in sorted(labels)]


def _fitted(answers: Answers, positive: Any, constraint: str, columns: Sequence[str]) -> dict[str, Rule]:
    """Have fairlearn find each group's rule."""
    try:
        from fairlearn.postprocessing import ThresholdOptimizer
        from sklearn.base import BaseEstimator
    except ImportError as error:
        raise MissingExtraError("fairlearn", "fairness", "fit thresholds by group") from error

    class Told(BaseEstimator):
        """What is given is the probability already."""

        def fit(self, given: Any, right: Any) -> Told:
            """Learn nothing."""
            return self

        def __sklearn_is_fitted__(self) -> bool:
            """Say that there is nothing to learn."""
            return True

        def predict(self, given: Any) -> Any:
            """Give the probability."""
            return np.asarray(given)[:, 0]

    right = np.array([reference == positive for reference in answers.references], dtype=int)
    for group in sorted(set(answers.groups)):
        held = {int(each) for each, own in zip(right, answers.groups, strict=True) if own == group}
        if len(held) < 2:
            requirement = f"have rows of both labels in {FITTED_ON} for each group"
            raise DataError(Fault(f"--group {columns[0]}", requirement, f"rows of one alone for `{group}`"))
    told = np.array([[line["detail"]["probabilities"][str(positive)]] for line in answers.lines])
    optimizer = ThresholdOptimizer(estimator=Told(), constraints=constraint, prefit=True, predict_method="predict")
    optimizer.fit(told, right, sensitive_features=np.array(answers.groups, dtype=str))
    found = optimizer.interpolated_thresholder_.interpolation_dict
    return {str(group): _rule(found[group]) for group in sorted(found)}


def _rule(found: Any) -> Rule:
    parts = [(found["p0"], found["operation0"]), (found["p1"], found["operation1"])]
    # Probabilities lie between 0 and 1, so that these stand for infinities, which JSON has not.
    kept = [(float(share), str(each.operator), min(max(float(each.threshold), -1.0), 2.0)) for share, each in parts]
    ignore, constant = float(found.get("p_ignore", 0.0)), float(found.get("prediction_constant", 0.0))
    return Rule(ignore, 0.0 if math.isnan(constant) else constant, [part for part in kept if part[0] > 0])


def _write(record: Record, thresholds: Thresholds) -> None:
    """Write a task's thresholds beside those of other tasks."""
    tasks = read_note(record.folder / FILE).get("tasks", {})
    tasks[thresholds.task] = {
        "columns": thresholds.columns,
        "constraint": thresholds.constraint,
        "positive": thresholds.positive,
        "other": thresholds.other,
        "groups": {
            group: {"ignore": rule.ignore, "constant": rule.constant, "parts": rule.parts}
            for group, rule in thresholds.rules.items()
        },
    }
    write_json(record.folder / FILE, {"version": VERSION, "tasks": tasks})


def read_thresholds(record: Record, task: str) -> Thresholds:
    """Read a task's thresholds.

    Raises:
        RunFolderError: it has none.
    """
    held = read_note(record.folder / FILE).get("tasks", {}).get(task)
    if held is None:
        fix = f"`taskloom fairness {record.folder} --task {task} --group COLUMN --thresholds equalized_odds` fits them"
        raise RunFolderError(Fault(str(record.folder), f"hold thresholds of `{task}`", "none", fix))
    rules = {
        group: Rule(rule["ignore"], rule["constant"], [(part[0], part[1], part[2]) for part in rule["parts"]])
        for group, rule in held["groups"].items()
    }
    return Thresholds(task, held["columns"], held["constraint"], held["positive"], held["other"], rules)


def predict_fairly(run: Run, task: str, rows: Sequence[Row]) -> list[Prediction]:
    """Answer rows of a task by the thresholds of their groups.

    Args:
        run: a finished run with thresholds of the task.
        task: its name.
        rows: [example] as `prediction.predict` takes them, each with the columns of its group.

    Returns:
        [example] labels, with the probabilities as trained and the group.

    Raises:
        RunFolderError: the run has no thresholds of the task.
        DataError: a row lacks a column, or is of a group that the thresholds do not know.
    """
    thresholds = read_thresholds(run.record, task)
    names = read_config(run.record.run_yaml).tasks[task].columns
    groups = [_group_of(row, thresholds, names, number) for number, row in enumerate(rows, start=1)]
    faults = [group for group in groups if isinstance(group, Fault)]
    if faults:
        raise DataError(*faults)
    asked, positive = run.loaded()[1][task], str(thresholds.positive)
    answers = run.predict(task, rows, calibrated=False)
    return [
        Prediction(
            thresholds.answer(str(group), answer.detail["probabilities"][positive], asked.asked(row)),
            {**answer.detail, "group": group},
        )
        for row, group, answer in zip(rows, groups, answers, strict=True)
    ]


def _group_of(row: Row, thresholds: Thresholds, names: Mapping[str, str], number: int) -> str | Fault:
    """Give a row's group, or what is wrong with it; a column may have the task's name for it or the data's."""
    values = []
    for column in thresholds.columns:
        found = [value_at(row, name) for name in (column, names.get(column, column))]
        value = next((each for each in found if each is not ABSENT and each not in (None, "")), None)
        if value is None:
            return Fault(f"row {number}", f"have `{column}`, the column of its group", f"the columns {sorted(row)}")
        values.append(str(value))
    group = BETWEEN.join(values)
    if group in thresholds.rules:
        return group
    requirement = "be of a group that thresholds were fitted for"
    return Fault(f"row {number}", requirement, f"`{group}`", nearest(group, thresholds.rules))
