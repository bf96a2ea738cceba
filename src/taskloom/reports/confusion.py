"""Confusion matrices: what is taken for what, the labels that are confused side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from taskloom.reports.answers import Answers, text_of

LIMIT_LABELS = 16
"""Labels of one matrix; of more, those that are confused most are shown, and the others are summed up."""

LIMIT_TOLD, LIMIT_EXAMPLES = 8, 2
OTHERS = "(others)"
OUTSIDE = "O"


@dataclass(frozen=True)
class Confused:
    """One pair of labels that are confused.

    Attributes:
        reference: what is right.
        prediction: what was said.
        count: how often.
        examples: some of the texts.
    """

    reference: str
    prediction: str
    count: int
    examples: Sequence[str]


@dataclass(frozen=True)
class Confusion:
    """What a task takes for what.

    Attributes:
        task: its name.
        labels: in an order that puts side by side what is confused.
        counts: [reference, prediction].
        top: what is confused most.
        summed: labels that are summed up as `OTHERS`.
    """

    task: str
    labels: Sequence[str]
    counts: NDArray[np.int64]
    top: Sequence[Confused]
    summed: int


def confusion(answers: Answers) -> Confusion | None:
    """Count what a task takes for what; None for a task whose answers are no labels."""
    if answers.chooses:
        pairs = [(str(line["reference"]), str(line["prediction"]), text_of(line)) for line in answers.lines]
    elif answers.tags:
        pairs = [pair for line in answers.lines for pair in _tagged(line)]
    else:
        return None
    names = sorted({name for reference, said, _ in pairs for name in (reference, said)})
    if len(names) < 2:
        return None
    place = {name: number for number, name in enumerate(names)}
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    for reference, said, _ in pairs:
        counts[place[reference], place[said]] += 1
    kept, whole = _kept(names, counts)
    order = _order(whole)
    labels = [kept[number] for number in order]
    return Confusion(answers.task, labels, whole[np.ix_(order, order)], _top(pairs), len(names) - len(kept) + 1
                     if kept[-1] == OTHERS else 0)  # fmt: skip


def _tagged(line: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Pair the kinds of tags word by word; words that are outside in both are left out, or nothing else is seen."""
    said, reference = line["prediction"], line["reference"]
    if not isinstance(said, list) or len(said) != len(reference):
        return []
    pairs = [(_kind(right), _kind(each)) for each, right in zip(said, reference, strict=True)]
    text = text_of(line)
    return [(right, each, text) for right, each in pairs if (right, each) != (OUTSIDE, OUTSIDE)]


def _kind(tag: str) -> str:
    return tag[2:] if tag[:2] in {"B-", "I-"} else tag


def _kept(names: list[str], counts: NDArray[np.int64]) -> tuple[list[str], NDArray[np.int64]]:
    """Keep the labels that are confused most, and sum up the others."""
    if len(names) <= LIMIT_LABELS:
        return names, counts
    wrong = counts.sum(axis=0) + counts.sum(axis=1) - 2 * np.diagonal(counts)
    chosen = np.sort(np.argsort(-wrong, kind="stable")[: LIMIT_LABELS - 1])
    rest = np.setdiff1d(np.arange(len(names)), chosen)
    groups = [*([number] for number in chosen.tolist()), rest.tolist()]
    whole = np.array([[counts[np.ix_(one, other)].sum() for other in groups] for one in groups])
    return [*(names[number] for number in chosen.tolist()), OTHERS], whole


def _order(counts: NDArray[np.int64]) -> list[int]:
    """Put labels that are confused side by side, by average linkage on how often they are."""
    if len(counts) < 3:
        return list(range(len(counts)))
    rates = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    distance = 1 - (rates + rates.T) / 2
    np.fill_diagonal(distance, 0.0)
    found: list[int] = leaves_list(linkage(squareform(distance, checks=False), "average")).tolist()
    return found


def _top(pairs: Sequence[tuple[str, str, str]]) -> list[Confused]:
    wrong = Counter((reference, said) for reference, said, _ in pairs if reference != said)
    texts: dict[tuple[str, str], list[str]] = {}
    for reference, said, text in pairs:
        held = texts.setdefault((reference, said), [])
        if len(held) < LIMIT_EXAMPLES and text not in held:
            held.append(text)
    return [Confused(*pair, count, texts[pair]) for pair, count in wrong.most_common(LIMIT_TOLD)]
