"""Precision-recall and ROC curves of tasks whose probabilities were recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from taskloom.reports.answers import Answers

LIMIT_LABELS, LIMIT_POINTS = 6, 120
MICRO = "all labels"
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Ranked:
    """How well a label is told from the others by its probability.

    Attributes:
        label: its name, or `MICRO` for all decisions together.
        positives: rows that have it.
        precision: [point].
        recall: [point].
        false_positives: [point] rates.
        true_positives: [point] rates.
        average_precision: area under precision by recall.
        auc: area under true by false positives.
    """

    label: str
    positives: int
    precision: Floats
    recall: Floats
    false_positives: Floats
    true_positives: Floats
    average_precision: float
    auc: float


def ranked(answers: Answers) -> list[Ranked]:
    """Rank the rows by each label's probability: all decisions together, then the labels of most rows.

    Two labels are one question, so the second alone is shown. Nothing for a task without probabilities by label.
    """
    held = answers.probabilities() if answers.chooses or answers.several else None
    if not held:
        return []
    labels = sorted({label for row in held for label in row})
    chances = np.array([[float(row.get(label, 0.0)) for label in labels] for row in held])
    truth = np.array([_truth(line["reference"], labels) for line in answers.lines])
    if len(labels) == 2 and answers.chooses:
        return _curves([labels[1]], chances[:, 1:], truth[:, 1:])
    common = np.argsort(-truth.sum(axis=0), kind="stable")[:LIMIT_LABELS]
    whole = _curves([MICRO], chances.reshape(-1, 1), truth.reshape(-1, 1))
    return whole + _curves([labels[place] for place in common], chances[:, common], truth[:, common])


def _truth(reference: object, labels: Sequence[str]) -> list[bool]:
    held = {str(each) for each in reference} if isinstance(reference, list) else {str(reference)}
    return [label in held for label in labels]


def _curves(labels: Sequence[str], chances: Floats, truth: NDArray[np.bool_]) -> list[Ranked]:
    found = []
    for column, label in enumerate(labels):
        right, scores = truth[:, column], chances[:, column]
        if right.all() or not right.any():
            continue
        precision, recall, _ = precision_recall_curve(right, scores)
        false, true, _ = roc_curve(right, scores)
        areas = float(average_precision_score(right, scores)), float(roc_auc_score(right, scores))
        curves = (*_thinned(precision, recall), *_thinned(false, true))
        found.append(Ranked(label, int(right.sum()), *curves, *areas))
    return found


def _thinned(one: Floats, other: Floats) -> tuple[Floats, Floats]:
    places = np.unique(np.linspace(0, len(one) - 1, min(len(one), LIMIT_POINTS)).round().astype(int))
    return one[places], other[places]


def as_points(found: Sequence[Ranked], x: str, y: str) -> list[Mapping[str, float | str]]:
    """Give the points of some curves for a chart: label, and the two named fields in the order of the curve."""
    return [
        {"label": each.label, "place": place, "x": round(float(one), 4), "y": round(float(other), 4)}
        for each in found
        for place, (one, other) in enumerate(zip(getattr(each, x), getattr(each, y), strict=True))
    ]
