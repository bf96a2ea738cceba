"""Splits that were not given, made out of train so that no text stands on both sides."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import combinations
from typing import Any, Literal

from taskloom.data.records import SPLITS, Record
from taskloom.errors import ConfigError, DataError, Fault
from taskloom.types import Row

By = Literal["group", "near-duplicate"]

LEAST_TRAIN_ROWS = 2


@dataclass(frozen=True)
class Made:
    """A split that was made out of train.

    Attributes:
        split: "validation" or "test".
        rows: how many rows it has.
        clusters: how many clusters of rows that stay together it has.
        by: what keeps rows together: near-duplicate texts, or one value of a column.
    """

    split: str
    rows: int
    clusters: int
    by: By


@dataclass(frozen=True)
class _Cluster:
    """Rows that stay together, by their places in train, and the text that orders them among the others."""

    name: str
    rows: list[int]


def complete(
    splits: Mapping[str, Sequence[Record]],
    identity: Sequence[str],
    *,
    validation: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    group: str | None = None,
    where: str = "data",
) -> tuple[dict[str, list[Record]], tuple[Made, ...]]:
    """Make the missing validation and test splits out of train, keeping rows of one text on one side.

    Clusters are drawn in an order that depends on the seed and their texts alone, so two tasks over the same texts
    get the same splits, and so does the same file read twice. A cluster that would overshoot a split's share by more
    than is still lacking is left in train.

    Args:
        splits: split -> rows; train among them.
        identity: the columns whose text makes two rows the same.
        validation: the share of the train rows to take for validation; 0 makes none.
        test: the same for test.
        seed: the order in which clusters are drawn.
        group: the column whose values keep rows together; None for clusters of near-duplicate texts. A row without a
            value then stays with its near duplicates.
        where: the data's key, for messages.

    Returns:
        All splits, rows in their order, and what was made.

    Raises:
        ConfigError: shares below 0, or together 1 or more.
        DataError: train is too small to give a row to each and keep two.
    """
    missing = _missing(splits, {"test": test, "validation": validation}, where)
    if not missing:
        return {split: list(records) for split, records in splits.items()}, ()
    train = list(splits["train"])
    clusters = _clusters(train, identity, group)
    clusters.sort(key=lambda cluster: sha256(f"{seed}\x00{cluster.name}".encode("utf-8", "surrogatepass")).digest())
    left, parts = clusters, {}
    for name, share in missing.items():
        parts[name], left = _drawn(left, max(1, round(share * len(train))))
    if sum(len(cluster.rows) for cluster in left) < LEAST_TRAIN_ROWS or not all(parts.values()):
        raise DataError(_too_small(where, list(missing), len(train), len(clusters), group))
    taken = {name: _rows(train, part) for name, part in {**parts, "train": left}.items()}
    whole = {name: list(taken.get(name, splits.get(name, ()))) for name in SPLITS if name in taken or name in splits}
    by: By = "group" if group else "near-duplicate"
    return whole, tuple(Made(name, len(taken[name]), len(parts[name]), by) for name in SPLITS if name in parts)


def leaks(splits: Mapping[str, Sequence[Record]], identity: Sequence[str]) -> dict[tuple[str, str], int]:
    """Count the rows of later splits whose text also stands in an earlier one, letter by letter after normalising.

    Args:
        splits: split -> rows.
        identity: the columns whose text makes two rows the same.

    Returns:
        (earlier split, later split) -> rows of the later one; pairs without any are left out.
    """
    texts = {
        name: [identity_text(record.row, identity) for record in splits[name]] for name in SPLITS if name in splits
    }
    counts = {}
    for earlier, later in combinations(texts, 2):
        known = set(texts[earlier]) - {""}
        shared = sum(text in known for text in texts[later])
        if shared:
            counts[earlier, later] = shared
    return counts


def identity_text(row: Row, identity: Sequence[str]) -> str:
    """Give the normalised text of the columns that make two rows the same.

    Words in a list read as the text they make, so a task on tokens and one on text see the same rows alike.
    """
    from taskloom.data.near_duplicates import normalise

    return normalise(" ".join(part for part in map(_text, map(row.get, identity)) if part))


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Mapping):
        return " ".join(_text(value[key]) for key in sorted(value, key=str))
    if isinstance(value, list | tuple):
        return " ".join(map(_text, value))
    return str(value)


def _missing(given: Collection[str], shares: dict[str, float], where: str) -> dict[str, float]:
    """Give the shares of the splits to be made.

    Test comes first: it stays the same when the share of validation, or its file, changes later.
    """
    if min(shares.values()) < 0 or sum(shares.values()) >= 1:
        found = f"{shares['validation']} for validation and {shares['test']} for test"
        raise ConfigError(Fault(where, "be split by shares from 0 on that are together below 1", found))
    return {name: share for name, share in shares.items() if share > 0 and name not in given}


def _clusters(train: Sequence[Record], identity: Sequence[str], group: str | None) -> list[_Cluster]:
    by_group: defaultdict[str, list[int]] = defaultdict(list)
    by_text: defaultdict[str, list[int]] = defaultdict(list)
    for index, record in enumerate(train):
        value = record.row.get(group) if group else None
        if value is None:
            by_text[identity_text(record.row, identity)].append(index)
        else:
            by_group[str(value)].append(index)
    clusters = [_Cluster(f"group\x00{name}", rows) for name, rows in by_group.items()]
    if not by_text:
        return clusters
    from taskloom.data.near_duplicates import near_duplicates

    texts = sorted(by_text)
    joined: dict[int, _Cluster] = {}
    for text, label in zip(texts, near_duplicates(texts).tolist(), strict=True):
        joined.setdefault(label, _Cluster(text, [])).rows.extend(by_text[text])  # sorted: the first text is the least
    return [*clusters, *joined.values()]


def _drawn(clusters: Sequence[_Cluster], quota: int) -> tuple[list[_Cluster], list[_Cluster]]:
    """Draw clusters in order until a split has its rows: those drawn, and those left."""
    drawn: list[_Cluster] = []
    left: list[_Cluster] = []
    lacking = quota
    for cluster in clusters:
        takes = lacking > 0 and len(cluster.rows) - lacking <= lacking
        (drawn if takes else left).append(cluster)
        lacking -= len(cluster.rows) if takes else 0
    if not drawn and left:  # all are far too large: the smallest is the least wrong
        smallest = min(left, key=lambda cluster: len(cluster.rows))
        drawn = [smallest]
        left = [cluster for cluster in left if cluster is not smallest]
    return drawn, left


def _rows(train: Sequence[Record], clusters: Sequence[_Cluster]) -> list[Record]:
    return [train[index] for index in sorted(index for cluster in clusters for index in cluster.rows)]


def _too_small(where: str, missing: Sequence[str], rows: int, clusters: int, group: str | None) -> Fault:
    kind = f"values of `{group}`" if group else "texts that are not near duplicates"
    wanted = " and ".join(sorted(missing, key=SPLITS.index))
    requirement = f"hold enough {kind} to give rows to {wanted} and keep {LEAST_TRAIN_ROWS} for train"
    found = f"{rows} row{'s' * (rows != 1)} in {clusters} cluster{'s' * (clusters != 1)}"
    return Fault(f"{where}.train", requirement, found, f"Add rows, or give files for {wanted}")
