"""What metrics of labels share: indicator matrices, their sums over bootstrap samples, and F1 of such sums."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import f1_score
from sklearn.preprocessing import MultiLabelBinarizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from taskloom.metrics import Numbers


def as_set(value: Any) -> frozenset[Any]:
    """Give the labels of one answer: those of a list of labels, or the one label that it is."""
    return frozenset(value) if isinstance(value, list | tuple | set | frozenset) else frozenset([value])


def indicators(predictions: Sequence[Any], references: Sequence[Any]) -> tuple[Any, Any, int]:
    """Turn labels, or lists of labels, into 0 and 1.

    Args:
        predictions: [example] a label or a list of labels.
        references: [example] the same.

    Returns:
        Predictions and references as sparse matrices [example, label + 1], and the number of labels that occur in
        either. The last column is empty: scikit-learn takes a matrix of one column for a binary problem, in which the
        label's absence is a class too.
    """
    predicted, true = [as_set(value) for value in predictions], [as_set(value) for value in references]
    binarizer = MultiLabelBinarizer(sparse_output=True).fit(predicted + true)
    labels = len(binarizer.classes_)
    matrices = []
    for answers in (predicted, true):
        matrix = binarizer.transform(answers)
        matrix.resize((len(answers), labels + 1))
        matrices.append(matrix)
    return matrices[0], matrices[1], labels


def label_f1(predictions: Sequence[Any], references: Sequence[Any], average: str) -> float:
    """Give scikit-learn's F1 over the labels that occur; 0 where none does."""
    predicted, true, labels = indicators(predictions, references)
    if labels == 0:
        return 0.0
    return float(f1_score(true, predicted, labels=range(labels), average=average, zero_division=0))


def label_sums(
    predictions: Sequence[Any], references: Sequence[Any], counts: Numbers
) -> tuple[Numbers, Numbers, Numbers]:
    """Count labels in each bootstrap sample.

    Returns:
        How often each label was predicted rightly, predicted, and right: three times [resample, label].
    """
    predicted, true, labels = indicators(predictions, references)
    hits = predicted.multiply(true)
    sums = [np.asarray(counts @ matrix, dtype=float)[:, :labels] for matrix in (hits, predicted, true)]
    return sums[0], sums[1], sums[2]


def f1_of_sums(hits: Numbers, predicted: Numbers, true: Numbers) -> Numbers:
    """Give ``2 hits / (predicted + true)`` entry by entry, and 0 where nothing was predicted and nothing was right."""
    total = predicted + true
    return np.divide(2 * hits, total, out=np.zeros_like(total), where=total > 0)
