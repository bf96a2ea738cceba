from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from taskloom.errors import DataError
from taskloom.tasks.regression import Regression
from taskloom.tasks.similarity import Similarity

pytest_plugins = ("tokenizer_fixtures",)

BOTH = [Regression, Similarity]


def fitted(kind, *numbers):
    task = kind()
    task.fit([{"text": "x", "text_pair": "y", "label": number} for number in numbers])
    return task


def items(*numbers):
    return [{"number": number} for number in numbers]


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"text": ""}, "have text in `text`, which is empty"),
        ({"text": 3}, "have text in `text`, not int `3`"),
        ({"text_pair": ""}, "have text in `text_pair`, which is empty"),
        ({"label": None}, "have a number in `label`, not nothing"),
        ({"label": "four"}, "have a number in `label`, not str `four`"),
        ({"label": True}, "have a number in `label`, not bool `True`"),
        ({"label": [1]}, "have a number in `label`, not list `[1]`"),
        ({"label": float("nan")}, "have a finite number in `label`, not `nan`"),
        ({"label": "inf"}, "have a finite number in `label`, not `inf`"),
        ({"label": -math.inf}, "have a finite number in `label`, not `-inf`"),
        ({"label": "4.5"}, None),
        ({"label": 0}, None),
    ],
)
def test_a_row_is_faulty_in_whole_words(kind, change, complaint) -> None:
    assert kind().fault({"text": "x", "text_pair": "y", "label": 1.0} | change) == complaint


def test_similarity_needs_both_texts_and_regression_one() -> None:
    assert Similarity().fault({"text": "x", "label": 1}) == "have text in `text_pair`, not nothing"
    assert Regression().fault({"text": "x", "label": 1}) is None


@pytest.mark.parametrize("kind", BOTH)
def test_numbers_that_are_all_the_same_are_refused(kind) -> None:
    with pytest.raises(DataError, match="Found only `3`"):
        fitted(kind, 3, 3.0, "3")


def test_the_loss_of_regression_is_in_standard_deviations_of_training() -> None:
    numbers = [2.0, 4.0, 9.0, "5"]
    task = fitted(Regression, *numbers)
    mean = sum(map(float, numbers)) / 4
    spread = math.sqrt(sum((float(number) - mean) ** 2 for number in numbers) / 4)
    output = torch.tensor([[0.3], [-1.0]], dtype=torch.float64)
    loss = task.loss(output, task.targets(items(2.0, 11.0), 5))
    wanted = [(0.3 - (2 - mean) / spread) ** 2, (-1 - (11 - mean) / spread) ** 2]
    np.testing.assert_allclose(loss, wanted, rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
@pytest.mark.parametrize("shift", [0.0, -40.0])
def test_regression_trains_the_same_and_answers_in_the_users_scale_whatever_it_is(scale, shift) -> None:
    plain, scaled = fitted(Regression, 1.0, 2.0, 6.0), fitted(Regression, *(scale * (x + shift) for x in (1, 2, 6)))
    output = torch.tensor([[0.5], [-0.25]], dtype=torch.float64)
    torch.testing.assert_close(
        scaled.loss(output, scaled.targets(items(scale * (2 + shift), scale * (6 + shift)), 4)),
        plain.loss(output, plain.targets(items(2.0, 6.0), 4)),
        rtol=1e-5,
        atol=1e-7,
    )
    raw = [np.array([[0.5]], dtype=np.float32)]
    assert scaled.decode({}, [], raw).value == pytest.approx(
        scale * (plain.decode({}, [], raw).value + shift), rel=1e-6
    )


def test_numbers_far_from_zero_keep_their_differences() -> None:
    dates = [1.7e9 + second for second in (0.0, 60.0, 120.0)]
    task = fitted(Regression, *dates)
    targets = task.targets(items(*dates), 3)["number"]
    np.testing.assert_allclose(targets, [-math.sqrt(1.5), 0, math.sqrt(1.5)], atol=1e-6)


def test_the_loss_of_similarity_is_the_squared_error_of_the_cosine_in_standard_deviations() -> None:
    task = fitted(Similarity, 1.0, 5.0)
    vectors = np.random.default_rng(0).normal(0, 1, (6, 8))
    numbers = [1.0, 3.5, 5.0]
    wanted = []
    for index, number in enumerate(numbers):
        one, other = vectors[2 * index], vectors[2 * index + 1]
        cosine = np.dot(one, other) / math.sqrt(np.dot(one, one) * np.dot(other, other))
        wanted.append((cosine - (number - 1) / 4) ** 2 / (np.std([1.0, 5.0]) / 4) ** 2)
    loss = task.loss(torch.tensor(vectors), task.targets(items(*numbers), 3))
    np.testing.assert_allclose(loss, wanted, rtol=1e-5)


@pytest.mark.parametrize(("angle", "wanted"), [(0, 5.0), (60, 3.0), (90, 1.0), (180, 1.0)])
def test_similarity_answers_the_cosine_on_the_scale_of_training(angle, wanted) -> None:
    task = fitted(Similarity, 1.0, 5.0)
    turned = [math.cos(math.radians(angle)), math.sin(math.radians(angle))]
    answer = task.decode({}, [], [np.array([[2.0, 0.0], turned], dtype=np.float32)])
    assert answer.value == pytest.approx(wanted, abs=1e-5)
    assert answer.detail["cosine"] == pytest.approx(math.cos(math.radians(angle)), abs=1e-5)


def test_a_vector_of_zeros_is_like_nothing_and_gives_finite_numbers() -> None:
    task = fitted(Similarity, 0.0, 1.0)
    assert task.decode({}, [], [np.zeros((2, 3), dtype=np.float32)]).value == 0.0
    output = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    loss = task.loss(output, task.targets(items(0.5), 2))
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(output.grad).all()


def test_similarity_reads_each_text_alone(pieces) -> None:
    task = fitted(Similarity, 0, 1)
    ((item,),) = task.encode([{"text": "play jazz", "text_pair": "now", "label": "0.5"}], pieces)
    assert item["input_ids"] == [pieces("play jazz")["input_ids"], pieces("now")["input_ids"]]
    assert item["number"] == 0.5


@pytest.mark.parametrize("kind", BOTH)
def test_the_baseline_is_the_mean_of_training(kind) -> None:
    task = fitted(kind, 1, 2, 6)
    assert task.baseline([{"label": 1}, {"label": "2"}, {"label": 6.0}], [{}, {}]) == [3.0, 3.0]
