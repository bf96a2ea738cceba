"""How often each group is given a label, rightly and wrongly: demographic parity, equal opportunity, equalised odds."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taskloom.bootstrap import draws, percentiles
from taskloom.fairness.comparing import Gap, Indices, Quantity, Value, frame, gaps, places_of

Numbers = NDArray[np.float64]

SELECTION, TRUE_POSITIVE, FALSE_POSITIVE = "selection_rate", "true_positive_rate", "false_positive_rate"
RATES = (SELECTION, TRUE_POSITIVE, FALSE_POSITIVE)
"""The share of a group's rows that are given a label; of those that have it; of those that have it not."""


@dataclass(frozen=True)
class Parity:
    """What the groups' rates of one label say.

    Attributes:
        label: whose rates they are, against all other labels.
        demographic_parity: the gap of selection rates.
        equal_opportunity: the gap of true positive rates; None where fewer than two groups have such rows.
        false_positive: the gap of false positive rates, likewise.
    """

    label: str
    demographic_parity: Gap
    equal_opportunity: Gap | None
    false_positive: Gap | None

    @property
    def equalised_odds(self) -> Gap | None:
        """The larger of the gaps of true and of false positive rates."""
        held = [each for each in (self.equal_opportunity, self.false_positive) if each is not None]
        return max(held, key=lambda gap: gap.difference.value, default=None)

    def as_json(self) -> dict[str, Any]:
        """Give it ready for JSON."""
        parts = ("demographic_parity", "equal_opportunity", "false_positive", "equalised_odds")
        found = {name: getattr(self, name) for name in parts}
        return {name: None if gap is None else gap.as_json() for name, gap in found.items()}


def rates(
    predictions: Sequence[Any],
    references: Sequence[Any],
    groups: Sequence[str],
    labels: Sequence[Any],
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> list[Quantity]:
    """Give the three rates of each label by group, each label against all others.

    Args:
        predictions: [example] labels, or lists of labels.
        references: [example] likewise.
        groups: [example].
        labels: whose rates are wanted.
        resamples: bootstrap samples of each group.
        confidence: of the intervals.
        seed: of the draws, as in `comparing.by_group`.

    Returns:
        for each label its rates, in the order of `RATES`.
    """
    said, right = _indicators(predictions, labels), _indicators(references, labels)
    over = {SELECTION: np.ones_like(right), TRUE_POSITIVE: right, FALSE_POSITIVE: 1 - right}
    places = places_of(groups)
    samples: dict[tuple[str, str], Numbers] = {}
    for place, (group, rows) in enumerate(places.items(), start=1):
        counts = np.concatenate(list(draws(len(rows), resamples, seed + 1000 * place)))
        for name, held in over.items():
            samples[name, group] = _share(counts @ (said * held)[rows], counts @ held[rows])
    numbers = {
        (name, column): functools.partial(_rate, (said * held)[:, column], held[:, column])
        for column in range(len(labels))
        for name, held in over.items()
    }
    values = frame({_key(*each): number for each, number in numbers.items()}, groups).by_group
    found = []
    for (name, column), number in numbers.items():
        among, held_by, drawn = over[name][:, column], {}, {}
        for group, rows in places.items():
            drawn[group] = samples[name, group][:, column]
            value, ends = float(values.loc[group, _key(name, column)]), percentiles(drawn[group], confidence)
            held_by[group] = Value(value, *ends, int(among[rows].sum()))
        share = number(np.arange(len(among)))
        whole = Value(share, math.nan, math.nan, int(among.sum()))
        found.append(Quantity(name, held_by, drawn, math.sqrt(share * (1 - share)), whole, str(labels[column])))
    return found


def _key(name: str, column: int) -> str:
    return f"{name} {column}"


def parities(quantities: Sequence[Quantity], confidence: float = 0.95) -> list[Parity]:
    """Compare the groups' rates, each kind over all labels together, of labels that two groups have."""
    by_kind = {
        name: {gap.label: gap for gap in gaps([each for each in quantities if each.name == name], confidence)}
        for name in RATES
    }
    return [
        Parity(str(label), gap, by_kind[TRUE_POSITIVE].get(label), by_kind[FALSE_POSITIVE].get(label))
        for label, gap in by_kind[SELECTION].items()
    ]


def _indicators(answers: Sequence[Any], labels: Sequence[Any]) -> Numbers:
    """Say which labels each answer has: [example, label]."""
    places = {label: place for place, label in enumerate(labels)}
    held = np.zeros((len(answers), len(labels)))
    for row, answer in enumerate(answers):
        for label in answer if isinstance(answer, list) else [answer]:
            if label in places:
                held[row, places[label]] = 1.0
    return held


def _share(hits: Numbers, among: Numbers) -> Numbers:
    return np.divide(hits, among, out=np.full_like(hits, np.nan), where=among > 0)


def _rate(hits: Numbers, among: Numbers, rows: Indices) -> float:
    """Give the share of hits among some rows; NaN where there are none to count."""
    total = float(among[rows].sum())
    return float(hits[rows].sum()) / total if total else math.nan
