"""Span F1: what is a span, and agreement with seqeval's strict mode."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import f1_score
from seqeval.scheme import IOB2

from taskloom.metrics.span_f1 import SpanF1, spans

pytestmark = pytest.mark.filterwarnings("error")

TAGS = st.sampled_from(["O", "B-a", "I-a", "B-b", "I-b"])


def score_of(prediction: str, reference: str) -> float:
    return SpanF1().score([prediction.split()], [reference.split()])


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("B-a I-a O B-b", {(0, 2, "a"), (3, 4, "b")}),
        ("B-a B-a", {(0, 1, "a"), (1, 2, "a")}),
        ("B-a I-b I-a", {(0, 1, "a")}),
        ("I-a I-a O", set()),
        ("O I-a B-a I-a", {(2, 4, "a")}),
        ("B I", {(0, 2, "_")}),
        ("B-first-name", {(0, 1, "first-name")}),
        ("O O", set()),
    ],
)
def test_a_span_begins_with_b_and_goes_on_with_i_of_its_label(tags: str, expected: set[tuple[int, int, str]]) -> None:
    assert spans(tags.split()) == expected


def test_a_span_with_a_wrong_end_or_label_is_missed_and_wrongly_found() -> None:
    assert score_of("B-a I-a O", "B-a I-a I-a") == 0.0
    assert score_of("B-b I-b", "B-a I-a") == 0.0
    # One of two spans is right on either side.
    assert score_of("B-a O B-b", "B-a O B-a") == 0.5


def test_references_without_b_tags_hold_no_span_so_that_even_perfect_predictions_get_zero() -> None:
    assert score_of("I-a I-a O", "I-a I-a O") == 0.0
    assert score_of("B-a I-a O", "I-a I-a O") == 0.0
    # The lenient mode, which Taskloom does not use, reads the same tags as one span.
    assert f1_score([["I-a", "I-a", "O"]], [["I-a", "I-a", "O"]]) == 1.0


def test_examples_without_spans_on_either_side_get_zero() -> None:
    assert score_of("O O", "O O") == 0.0
    assert SpanF1().resample([["O"], ["B-a"]], [["O"], ["B-a"]], np.array([[2.0, 0.0], [1.0, 1.0]])).tolist() == [0, 1]


def test_an_example_without_tokens_counts_for_nothing() -> None:
    assert SpanF1().score([[], ["B-a"]], [[], ["B-a"]]) == 1.0


def test_tuples_of_tags_are_read_as_lists() -> None:
    assert SpanF1().score([("B-a", "O")], [["B-a", "O"]]) == 1.0


@pytest.mark.parametrize(("prediction", "error"), [("X", KeyError), ("S-a", ValueError), ("O O", ValueError)])
def test_tags_of_another_scheme_or_length_are_refused(prediction: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        score_of(prediction, "B-a")


@given(st.lists(st.lists(st.tuples(TAGS, TAGS), min_size=1, max_size=7), min_size=1, max_size=6))
@settings(max_examples=80, deadline=None)
def test_counts_of_spans_give_what_seqeval_gives(pairs: list[list[tuple[str, str]]]) -> None:
    predictions, references = ([[pair[side] for pair in example] for example in pairs] for side in (0, 1))
    expected = f1_score(references, predictions, mode="strict", scheme=IOB2, zero_division=0)
    assert SpanF1().score(predictions, references) == expected
    assert SpanF1().resample(predictions, references, np.ones((1, len(pairs))))[0] == pytest.approx(expected)
