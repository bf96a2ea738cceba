from __future__ import annotations

import numpy as np
import pytest
import torch

from taskloom.tasks.multiple_choice import MultipleChoice

pytest_plugins = ("tokenizer_fixtures",)

GOOD = {"context": "It rained.", "question": "Is it wet?", "choices": ["yes", "no"], "label": 0}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"context": None, "question": None}, "have text in `context` or in `question`"),
        ({"context": "", "question": ""}, "have text in `context` or in `question`"),
        ({"choices": None}, "have a list of two answers or more in `choices`"),
        ({"choices": "yes"}, "have a list of two answers or more in `choices`"),
        ({"choices": ["yes"]}, "have a list of two answers or more in `choices`"),
        ({"choices": ["yes", ""]}, "have text in each of its `choices`"),
        ({"choices": ["yes", 3]}, "have text in each of its `choices`"),
        ({"label": 2}, "have an index from 0 to 1 in `label`, not `2`"),
        ({"label": -1}, "have an index from 0 to 1 in `label`, not `-1`"),
        ({"label": True}, "have an index from 0 to 1 in `label`, not `True`"),
        ({"label": "yes"}, "have an index from 0 to 1 in `label`, not `yes`"),
        ({"label": None}, "have an index from 0 to 1 in `label`, not `None`"),
        ({"context": 5}, "have text in `context`, not int `5`"),
        ({"question": "  "}, "have text in `question`, which is empty"),
        ({"context": None}, None),
        ({"question": None}, None),
        ({}, None),
    ],
)
def test_a_row_is_faulty_in_whole_words(change, complaint) -> None:
    assert MultipleChoice().fault(GOOD | change) == complaint


def test_examples_with_different_numbers_of_choices_are_each_judged_by_themselves() -> None:
    sizes, right = [2, 5, 3, 2], [1, 4, 0, 0]
    scores = torch.randn(sum(sizes), 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3
    together = MultipleChoice().loss(scores, {"label": torch.tensor(right), "sizes": torch.tensor(sizes)})
    apart = [-torch.log_softmax(own[:, 0], dim=0)[label] for own, label in zip(scores.split(sizes), right, strict=True)]
    torch.testing.assert_close(together, torch.stack(apart), rtol=1e-12, atol=0)


def test_the_answer_is_the_index_of_the_best_choice_with_its_text() -> None:
    row = {"choices": ["a", "b", "c"]}
    answer = MultipleChoice().decode(row, [], [np.array([[0.0], [2.0], [1.0]], dtype=np.float32)])
    assert (answer.value, answer.detail["text"]) == (1, "b")
    wanted = np.exp([0.0, 2.0, 1.0]) / np.exp([0.0, 2.0, 1.0]).sum()
    assert answer.detail["probabilities"] == pytest.approx(wanted, abs=1e-6)


def test_each_choice_is_read_beside_context_and_question(pieces) -> None:
    task = MultipleChoice()
    rows = [
        GOOD,
        {"context": "It rained.", "choices": ["so", "what", "now"]},
        {"question": "Wet?", "choices": ["a", "b"]},
    ]
    held = [item["input_ids"] for (item,) in task.encode(rows, pieces)]
    assert held[0] == [pieces("It rained.", f"Is it wet? {choice}")["input_ids"] for choice in ("yes", "no")]
    assert held[1] == [pieces("It rained.", choice)["input_ids"] for choice in ("so", "what", "now")]
    assert held[2] == [pieces("Wet?", choice)["input_ids"] for choice in ("a", "b")]


def test_a_long_context_is_cut_and_no_choice_is(pieces) -> None:
    row = {"context": "rain " * 200, "choices": ["so", "what"]}
    ((item,),) = MultipleChoice(max_length=20).encode([row], pieces)
    for choice, ids in zip(row["choices"], item["input_ids"], strict=True):
        assert len(ids) == 20
        assert ids[-1 - len(pieces.tokenize(choice)) : -1] == pieces.convert_tokens_to_ids(pieces.tokenize(choice))


def test_the_baseline_is_the_place_that_is_right_most_often_within_the_rows_choices() -> None:
    train = [{"label": label} for label in (2, 2, 0)]
    assert MultipleChoice().baseline(train, [{"choices": ["a"] * 4}, {"choices": ["a"] * 2}]) == [2, 1]
