"""Folds: nothing on both sides, alike in labels, the same for all tasks that share texts."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskloom.data.folds import KEPT, FoldRow, folds

WORDS = [
    "red",
    "green",
    "blue",
    "round",
    "square",
    "tall",
    "small",
    "heavy",
    "light",
    "warm",
    "cold",
    "old",
    "new",
    "fast",
    "slow",
]


def texts(count: int, seed: int = 0) -> list[str]:
    generator = np.random.default_rng(seed)
    return [" ".join(generator.choice(WORDS, size=9)) + f" {place}" for place in range(count)]


@given(count=st.integers(2, 6), rows=st.integers(30, 80), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_every_fold_has_its_share_of_every_label(count: int, rows: int, seed: int) -> None:
    labels = ["a", "b", "b"]
    held = [FoldRow(text, (labels[place % 3],)) for place, text in enumerate(texts(rows, seed))]
    found = folds({"task": held}, count, seed)["task"]
    assert set(found.tolist()) == set(range(count))
    for label in "ab":
        per_fold = Counter(found[[row.labels == (label,) for row in held]].tolist())
        wanted = sum(row.labels == (label,) for row in held) / count
        assert all(abs(per_fold[fold] - wanted) < 1.5 for fold in range(count))


def test_texts_that_tasks_share_fall_in_the_same_fold() -> None:
    shared = texts(40)
    one = [FoldRow(text, ("x" if place % 2 else "y",)) for place, text in enumerate(shared)]
    other = [FoldRow(text, ("p" if place % 3 else "q",)) for place, text in enumerate(reversed(shared))]
    found = folds({"one": one, "other": other}, 5)
    assert found["one"].tolist() == found["other"][::-1].tolist()


def test_near_duplicates_and_groups_stay_together() -> None:
    long = "the quick brown fox jumps over the lazy dog near the old river bank on a warm summer day in the hills"
    rows = [FoldRow(text, ("x",)) for text in texts(20)] + [FoldRow(long, ("x",)), FoldRow(f"{long} again", ("x",))]
    found = folds({"task": rows}, 4)["task"]
    assert found[-1] == found[-2]
    grouped = [FoldRow(text, ("x",), group=str(place // 5)) for place, text in enumerate(texts(40))]
    found = folds({"task": grouped}, 4)["task"]
    assert all(len(set(found[start : start + 5])) == 1 for start in range(0, 40, 5))


def test_a_label_of_one_text_alone_is_never_tested() -> None:
    rows = [FoldRow(text, ("common",)) for text in texts(12)] + [FoldRow("a text of its own", ("rare",))]
    found = folds({"task": rows}, 3)["task"]
    assert found[-1] == KEPT
    assert (found[:-1] != KEPT).all()


def test_folds_depend_on_seed_and_texts_and_not_on_their_order() -> None:
    rows = [FoldRow(text, ("x" if place % 2 else "y",)) for place, text in enumerate(texts(30))]
    found = folds({"task": rows}, 5, seed=1)["task"]
    order = np.random.default_rng(0).permutation(30)
    turned = folds({"task": [rows[place] for place in order]}, 5, seed=1)["task"]
    assert turned.tolist() == found[order].tolist()
    assert folds({"task": rows}, 5, seed=2)["task"].tolist() != found.tolist()


def test_rows_without_text_or_label_are_dealt_too() -> None:
    found = folds({"task": [FoldRow("") for _ in range(10)]}, 5)["task"]
    assert sorted(Counter(found.tolist()).values()) == [2] * 5
    assert folds({"task": []}, 3)["task"].tolist() == pytest.approx([])
