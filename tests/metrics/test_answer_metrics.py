"""Exact match and word F1 of short answers, as SQuAD's official script has them."""

from __future__ import annotations

import pytest

from taskloom.metrics._squad import normalise_answer
from taskloom.metrics.exact_match import ExactMatch
from taskloom.metrics.squad_f1 import SquadF1

pytestmark = pytest.mark.filterwarnings("error")


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The Beatles", "beatles"),
        ("  an   apple\ta\nday ", "apple day"),
        ("Theatre of another", "theatre of another"),
        ("U.S.A.", "usa"),
        ("well-known", "wellknown"),
        ("$1,912.50!", "191250"),
        ("a.", ""),
        ("", ""),
        # Only ASCII punctuation is dropped, and punctuation goes before articles, so "a-b" never leaves a lone "a".
        ("«Zürich» … the a-b", "«zürich» … ab"),
        # Scripts without articles or case stay as they are.
        ("東京", "東京"),
    ],
)
def test_normalisation_drops_case_punctuation_articles_and_white_space(text: str, normal: str) -> None:
    assert normalise_answer(text) == normal


@pytest.mark.parametrize(
    ("prediction", "answers", "exact", "overlap"),
    [
        ("Paris", ["Paris"], 1, 1),
        ("the Paris.", ["paris"], 1, 1),
        ("Paris, France", ["Paris"], 0, 2 / 3),
        ("New York City", ["York", "New York"], 0, 4 / 5),
        ("London", ["Paris", "London"], 1, 1),
        ("London", ["Paris"], 0, 0),
        ("", ["Paris"], 0, 0),
        # Words repeat: two shared of three and two.
        ("no no no", ["no no"], 0, 4 / 5),
        ("York New", ["New York"], 0, 1),
        # No acceptable answer: right is to say nothing, or nothing that survives normalisation.
        ("", [], 1, 1),
        ("the", [], 1, 1),
        ("Paris", [], 0, 0),
        # An answer of which normalisation leaves nothing is an answer still.
        ("A", ["a", "Paris"], 1, 1),
        ("b", ["a"], 0, 0),
    ],
)
def test_a_prediction_is_compared_with_the_nearest_acceptable_answer(
    prediction: str, answers: list[str], exact: float, overlap: float
) -> None:
    assert ExactMatch().score([prediction], [answers]) == exact
    assert SquadF1().score([prediction], [answers]) == pytest.approx(overlap)


def test_scores_are_means_over_examples() -> None:
    predictions, references = ["Paris", "Paris, France", ""], [["Paris"], ["Paris"], ["Rome"]]
    assert ExactMatch().score(predictions, references) == pytest.approx(1 / 3)
    assert SquadF1().score(predictions, references) == pytest.approx((1 + 2 / 3) / 3)


@pytest.mark.parametrize("metric", [ExactMatch(), SquadF1()])
def test_predictions_and_references_of_different_number_are_refused(metric: ExactMatch | SquadF1) -> None:
    with pytest.raises(ValueError, match="longer"):
        metric.score(["Paris"], [["Paris"], ["Rome"]])
