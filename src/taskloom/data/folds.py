"""Folds for cross-validation: alike in labels, and no text on both sides, whichever task it stands in."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from taskloom.data.near_duplicates import near_duplicates

KEPT = -1
"""The fold of rows that are never tested: a label that stands in one cluster alone could not be learned otherwise."""


@dataclass(frozen=True)
class FoldRow:
    """What of a row decides its fold.

    Attributes:
        text: normalised; rows of one text, or of near duplicates, stay together, of all tasks.
        labels: what folds are to be alike in; none for rows without.
        group: rows of one group stay together; None for no group.
    """

    text: str
    labels: tuple[str, ...] = ()
    group: str | None = None


def folds(rows: Mapping[str, Sequence[FoldRow]], count: int, seed: int = 0) -> dict[str, NDArray[np.int64]]:
    """Cut the rows of all tasks into folds.

    Clusters of rows that belong together are dealt, the largest first, each to the fold that has least of its labels,
    label by label as `StratifiedGroupKFold` does, over all tasks at once. Clusters of one size come in an order that
    depends on seed and texts alone.

    Args:
        rows: task -> its rows.
        count: folds.
        seed: of the order.

    Returns:
        task -> [row] its fold from 0, or `KEPT`.
    """
    places = [(name, index) for name, held in rows.items() for index in range(len(held))]
    cluster = _clusters([rows[name][index] for name, index in places])
    members: defaultdict[int, list[int]] = defaultdict(list)
    for place, number in enumerate(cluster):
        members[number].append(place)
    strata = {
        number: Counter((places[place][0], label) for place in held for label in _labels(rows, places[place]))
        for number, held in members.items()
    }
    holders: Counter[tuple[str, str]] = Counter(key for each in strata.values() for key in each)
    totals: Counter[tuple[str, str]] = Counter()
    for each in strata.values():
        totals.update(each)
    dealt = [Counter[tuple[str, str]]() for _ in range(count)]
    sizes = np.zeros(count)
    fold_of = {}
    names = {number: min(rows[places[p][0]][places[p][1]].text for p in held) for number, held in members.items()}
    for number in sorted(members, key=lambda each: (-len(members[each]), _rank(seed, names[each]), each)):
        own = strata[number]
        if any(holders[key] == 1 for key in own):
            fold_of[number] = KEPT
            continue
        costs = [sum(n * fold[key] / totals[key] for key, n in own.items()) for fold in dealt]
        chosen = min(range(count), key=lambda fold: (costs[fold], sizes[fold], fold))
        dealt[chosen].update(own)
        sizes[chosen] += len(members[number])
        fold_of[number] = chosen
    found = {name: np.full(len(held), KEPT, dtype=np.int64) for name, held in rows.items()}
    for (name, index), number in zip(places, cluster, strict=True):
        found[name][index] = fold_of[number]
    return found


def _labels(rows: Mapping[str, Sequence[FoldRow]], place: tuple[str, int]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(rows[place[0]][place[1]].labels))


def _rank(seed: int, text: str) -> bytes:
    return sha256(f"{seed}\x00{text}".encode("utf-8", "surrogatepass")).digest()


def _clusters(rows: Sequence[FoldRow]) -> list[int]:
    """Join rows of one text, of near duplicates and of one group; gives a number for each row."""
    parent = list(range(len(rows)))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    texts = sorted({row.text for row in rows if row.text})
    near = dict(zip(texts, near_duplicates(texts).tolist(), strict=True))
    first: dict[tuple[str, object], int] = {}
    for place, row in enumerate(rows):
        keys: list[tuple[str, object]] = [("text", near[row.text])] if row.text else []
        keys += [("group", row.group)] if row.group is not None else []
        for key in keys:
            parent[root(place)] = root(first.setdefault(key, place))
    return [root(place) for place in range(len(rows))]
