from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from taskloom.errors import DataError
from taskloom.tasks._heads import pool
from taskloom.tasks.classification import Classification, softmax

pytest_plugins = ("tokenizer_fixtures",)

ROWS = [{"text": "play jazz", "label": "play"}, {"text": "set an alarm", "label": "alarm"}]


def fitted(*labels):
    task = Classification()
    task.fit([{"text": "x", "label": label} for label in labels])
    return task


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"text": "", "label": "a"}, "have text in `text`, which is empty"),
        ({"text": " \n", "label": "a"}, "have text in `text`, which is empty"),
        ({"text": None, "label": "a"}, "have text in `text`, not nothing"),
        ({"text": 7, "label": "a"}, "have text in `text`, not int `7`"),
        ({"text": ["a"], "label": "a"}, "have text in `text`, not list `['a']`"),
        ({"label": "a"}, "have text in `text`, not nothing"),
        ({"text": "x", "text_pair": "", "label": "a"}, "have text in `text_pair`, which is empty"),
        ({"text": "x", "text_pair": 1, "label": "a"}, "have text in `text_pair`, not int `1`"),
        ({"text": "x"}, "have a label in `label`, not nothing"),
        ({"text": "x", "label": None}, "have a label in `label`, not nothing"),
        ({"text": "x", "label": " "}, "have a label in `label`, which is empty"),
        ({"text": "x", "label": 0.5}, "have a label in `label`, not `0.5`"),
        ({"text": "x", "label": ["a"]}, "have a label in `label`, not `['a']`"),
        ({"text": "x", "text_pair": None, "label": "a"}, None),
        ({"text": "x", "label": 0}, None),
        ({"text": "x", "label": -1}, None),
        ({"text": "x", "label": True}, None),
        ({"text": "x", "label": "no"}, None),
    ],
)
def test_a_row_is_faulty_in_whole_words(row, complaint) -> None:
    assert Classification().fault(row) == complaint


def test_labels_are_those_of_training_in_an_order_that_rows_do_not_change() -> None:
    assert fitted("b", "a", "b", "c").state() == fitted("c", "b", "a").state() == {"labels": ["a", "b", "c"]}
    assert fitted(10, 9, 2).labels == [2, 9, 10]
    assert fitted("1", 1).labels == [1, "1"]


def test_one_label_is_refused_with_its_name() -> None:
    with pytest.raises(DataError, match="Found only `a`"):
        fitted("a", "a")
    with pytest.raises(DataError, match="Found none"):
        Classification().fit([])


def test_a_label_that_training_lacks_is_said_with_the_nearest_that_it_has() -> None:
    task = fitted("alarm", "play")
    assert task.unseen({"text": "x", "label": "play"}) is None
    assert "not `alarms`. Did you mean `alarm`?" in task.unseen({"text": "x", "label": "alarms"})


@pytest.mark.parametrize("count", [2, 3, 7])
def test_the_loss_is_the_negative_log_of_the_right_labels_share(count) -> None:
    generator = np.random.default_rng(count)
    logits, right = generator.normal(0, 5, (6, count)), generator.integers(count, size=6)
    wanted = [
        math.log(math.fsum(math.exp(other - row[label]) for other in row))
        for row, label in zip(logits, right, strict=True)
    ]
    loss = Classification().loss(torch.tensor(logits), {"label": torch.tensor(right)})
    np.testing.assert_allclose(loss, wanted, rtol=1e-12)


def test_the_answer_is_the_label_of_the_greatest_output_and_shares_add_up_to_one() -> None:
    task = fitted("a", "b", "c")
    answer = task.decode(ROWS[0], [], [np.array([[1.0, 3.0, -2.0]], dtype=np.float32)])
    assert answer.value == "b"
    wanted = np.exp([1.0, 3.0, -2.0]) / np.exp([1.0, 3.0, -2.0]).sum()
    assert list(answer.detail["probabilities"].values()) == pytest.approx(wanted, abs=1e-6)


def test_softmax_does_not_overflow() -> None:
    np.testing.assert_allclose(softmax(np.array([1e4, 0.0, -1e4], dtype=np.float32)), [1, 0, 0])


def test_a_pair_is_read_as_one_sequence_with_two_types(pieces) -> None:
    task = fitted("a", "b")
    rows = [
        {"text": "play jazz", "text_pair": "now", "label": "a"},
        {"text": "play jazz", "text_pair": None, "label": "b"},
        {"text": "the other", "text_pair": "text", "label": "b"},
    ]
    held = list(task.encode(rows, pieces))
    for row, (item,) in zip(rows, held, strict=True):
        alone = pieces(row["text"], row["text_pair"])
        assert item["input_ids"] == [alone["input_ids"]]
        assert item["token_type_ids"] == [alone["token_type_ids"]]
    assert [item["label"] for (item,) in held] == [0, 1, 1]


def test_the_baseline_is_the_most_frequent_label_the_first_in_order_among_equals() -> None:
    task = fitted("a", "b", "c")
    rows = [{"label": label} for label in "cbbc"]
    assert task.baseline(rows, [{}] * 3) == ["b"] * 3
    assert task.baseline([*rows, {"label": "c"}], [{}]) == ["c"]


@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_pooling_reads_real_tokens_only(pooling) -> None:
    hidden = torch.randn(3, 5, 4, dtype=torch.float64)
    lengths = [5, 2, 1]
    mask = torch.tensor([[1] * n + [0] * (5 - n) for n in lengths])
    wanted = [h[:n].mean(0) if pooling == "mean" else h[0] for h, n in zip(hidden, lengths, strict=True)]
    torch.testing.assert_close(pool(hidden, mask, pooling), torch.stack(wanted))
