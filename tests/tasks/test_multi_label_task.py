from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from taskloom.metrics.micro_f1 import MicroF1
from taskloom.tasks.multi_label import MultiLabel

pytest_plugins = ("tokenizer_fixtures",)

LABELS = ["a", "b", "c", "d"]


def fitted(rows=({"labels": LABELS},), **options):
    task = MultiLabel(**options)
    task.fit([{"text": "x", **row} for row in rows])
    return task


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"text": "x"}, "have a list in `labels`, not nothing"),
        ({"text": "x", "labels": "a"}, "have a list in `labels`, not `a`"),
        ({"text": "", "labels": "a"}, "have text in `text`, which is empty"),
        ({"text": "", "labels": ["a"]}, "have text in `text`, which is empty"),
        ({"text": "x", "labels": ["a", None]}, "have a label in `labels`, not nothing"),
        ({"text": "x", "labels": ["a", " "]}, "have a label in `labels`, which is empty"),
        ({"text": "x", "labels": [0.5]}, "have a label in `labels`, not `0.5`"),
        ({"text": "x", "labels": ["a"], "text_pair": " "}, "have text in `text_pair`, which is empty"),
        ({"text": "x", "labels": []}, None),
        ({"text": "x", "labels": ["a", 3]}, None),
    ],
)
def test_a_row_is_faulty_in_whole_words(row, complaint) -> None:
    assert MultiLabel().fault(row) == complaint


def test_the_loss_is_the_mean_over_labels_of_each_ones_own_surprise() -> None:
    generator = np.random.default_rng(0)
    logits, held = generator.normal(0, 4, (5, 4)), generator.integers(2, size=(5, 4))
    wanted = [
        math.fsum(math.log1p(math.exp(-z if y else z)) for z, y in zip(*row, strict=True)) / 4
        for row in zip(logits, held, strict=True)
    ]
    loss = MultiLabel().loss(torch.tensor(logits), {"labels": torch.tensor(held, dtype=torch.float64)})
    np.testing.assert_allclose(loss, wanted, rtol=1e-12)


def test_labels_at_the_threshold_are_given(pieces) -> None:
    task = fitted(threshold=0.5)
    answer = task.decode({}, [], [np.array([[0.0, -1e-3, 3.0, -3.0]], dtype=np.float32)])
    assert answer.value == ["a", "c"]
    assert fitted(threshold=0.99).decode({}, [], [np.array([[9.0, 4.0, 5.0, -3.0]])]).value == ["a", "c"]
    assert fitted().decode({}, [], [np.full((1, 4), -1e4, dtype=np.float32)]).value == []


def test_targets_mark_the_labels_that_hold(pieces) -> None:
    task = fitted()
    rows = [{"text": "x", "labels": ["d", "a", "a"]}, {"text": "x", "labels": []}, {"text": "x"}]
    items = [item for (item,) in task.encode(rows, pieces)]
    assert task.targets(items, 9)["labels"].tolist() == [[1, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]]


@given(
    st.lists(st.lists(st.sampled_from(LABELS), unique=True, max_size=4), min_size=1, max_size=12).filter(
        lambda rows: len({label for row in rows for label in row}) > 1
    )
)
@settings(max_examples=80, deadline=None)
def test_no_prefix_of_the_most_frequent_labels_does_better_than_the_baseline(rows) -> None:
    train = [{"labels": labels} for labels in rows]
    task = fitted(train)
    (answer,) = task.baseline(train, [{}])
    counts = {label: sum(label in row for row in rows) for label in task.labels}
    ranked = sorted(task.labels, key=lambda label: -counts[label])
    metric = MicroF1()
    prefixes = [metric.score([ranked[:size]] * len(rows), rows) for size in range(1, len(ranked) + 1)]
    assert metric.score([answer] * len(rows), rows) == pytest.approx(max(prefixes), abs=1e-12)
