"""What the page says of answers: confusions, curves, chosen rows; numbers against scikit-learn."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, confusion_matrix, roc_auc_score

from taskloom.record import Record, read_lines, write_text
from taskloom.reports.answers import Answers
from taskloom.reports.confusion import LIMIT_LABELS, OTHERS, confusion
from taskloom.reports.facts import read_run
from taskloom.reports.ranking import MICRO, ranked
from taskloom.reports.section import sections_of
from taskloom.reports.sections import predictions

LABELS = ["a", "b", "c"]


def classified(count: int = 200, labels: list[str] = LABELS, seed: int = 0) -> Answers:
    chance, lines = random.Random(seed), []
    for row in range(count):
        right = chance.choice(labels)
        odds = [chance.random() + (1.0 if label == right else 0.0) for label in labels]
        held = {label: each / sum(odds) for label, each in zip(labels, odds, strict=True)}
        said = max(held, key=lambda label: held[label])
        line = {"row": row, "place": f"t.jsonl:{row}", "input": {"text": f"row {row} of {right}"}, "prediction": said}
        lines.append(line | {"reference": right, "right": said == right, "detail": {"probabilities": held}})
    return Answers("mood", "classification", lines)


def test_a_matrix_counts_as_scikit_learn_does() -> None:
    answers = classified()
    found = confusion(answers)
    assert found is not None
    right, said = ([line[key] for line in answers.lines] for key in ("reference", "prediction"))
    assert found.counts.tolist() == confusion_matrix(right, said, labels=found.labels).tolist()
    wrong = sum(pair.count for pair in found.top)
    assert wrong == sum(one != other for one, other in zip(right, said, strict=True))
    assert all(f"of {pair.reference}" in text for pair in found.top for text in pair.examples)


def test_of_many_labels_the_most_confused_are_kept_and_nothing_is_lost() -> None:
    answers = classified(400, [f"label {number}" for number in range(60)])
    found = confusion(answers)
    assert found is not None
    assert len(found.labels) == LIMIT_LABELS
    assert OTHERS in found.labels
    assert found.counts.sum() == 400
    assert found.summed == 60 - (LIMIT_LABELS - 1)


def test_labels_that_are_confused_stand_side_by_side() -> None:
    pairs = [("a", "d"), ("d", "a"), ("b", "e"), ("e", "b")] * 20 + [(x, x) for x in "abcde"] * 10
    lines = [{"input": {}, "reference": one, "prediction": other, "right": one == other} for one, other in pairs]
    found = confusion(Answers("t", "classification", lines))
    assert found is not None
    places = {label: place for place, label in enumerate(found.labels)}
    assert abs(places["a"] - places["d"]) == abs(places["b"] - places["e"]) == 1


def test_tags_are_counted_by_their_kind_without_what_is_outside_in_both() -> None:
    line = {"input": {"tokens": list("wxyz")}, "reference": ["O", "B-city", "I-city", "O"],
            "prediction": ["O", "B-city", "O", "B-time"], "right": False}  # fmt: skip
    found = confusion(Answers("slots", "token_classification", [line]))
    assert found is not None
    places = {label: place for place, label in enumerate(found.labels)}
    assert found.counts[places["city"], places["city"]] == 1
    assert found.counts[places["city"], places["O"]] == 1
    assert found.counts[places["O"], places["time"]] == 1
    assert found.counts.sum() == 3


def test_texts_and_numbers_have_no_matrix() -> None:
    line = {"input": {}, "reference": 3.5, "prediction": 3.1, "right": None}
    assert confusion(Answers("score", "regression", [line])) is None
    assert (
        confusion(Answers("sum", "text_to_text", [{**line, "reference": "a", "prediction": "b", "right": False}]))
        is None
    )


def test_areas_are_those_of_scikit_learn() -> None:
    answers = classified()
    found = {each.label: each for each in ranked(answers)}
    assert set(found) == {MICRO, *LABELS}
    chances = np.array([[line["detail"]["probabilities"][label] for label in LABELS] for line in answers.lines])
    truth = np.array([[line["reference"] == label for label in LABELS] for line in answers.lines])
    for place, label in enumerate(LABELS):
        area = average_precision_score(truth[:, place], chances[:, place])
        assert found[label].average_precision == pytest.approx(area)
        assert found[label].auc == pytest.approx(roc_auc_score(truth[:, place], chances[:, place]))
    assert found[MICRO].auc == pytest.approx(roc_auc_score(truth.ravel(), chances.ravel()))
    assert len(found[MICRO].recall) <= 120


def test_two_labels_are_one_question_and_sets_of_labels_are_one_for_each() -> None:
    assert [each.label for each in ranked(classified(labels=["no", "yes"]))] == ["yes"]
    lines = [{**line, "reference": [line["reference"], "b"], "prediction": ["b"]} for line in classified().lines]
    found = ranked(Answers("topics", "multi_label", lines))
    assert {each.label for each in found} == {MICRO, "a", "c"}  # b is always there, so nothing is told by it


def test_wrong_answers_come_first_where_the_page_cannot_hold_all(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = classified(300)
    wrong = sum(line["right"] is False for line in answers.lines)
    monkeypatch.setattr(predictions, "LIMIT_ALL", 260 * wrong + 4000)
    rows = predictions._chosen([answers])
    assert len(rows) < 300
    assert sum(row["right"] is False for row in rows) == wrong
    assert rows[0]["sure"] == pytest.approx(
        max(answers.lines[rows[0]["number"]]["detail"]["probabilities"].values()), abs=1e-4
    )
    assert json.dumps(rows)


def test_numbers_on_the_page_are_those_of_the_scores(make_run: Any) -> None:
    folder: Path = make_run()
    from taskloom.reports import report

    page = report([folder]).read_text(encoding="utf-8")
    for line in (folder / "scores.jsonl").read_text().splitlines():
        score = json.loads(line)
        if score["split"] == "test" and score["group"] is None and score["value"] is not None:
            assert f"{score['value']:.3f}" in page


def test_sections_stand_in_the_order_of_their_places_and_leave_out_what_is_not_there(make_run: Any) -> None:
    names = [each.name for each in sections_of(read_run(make_run(), "joint"))]
    assert names == ["training", "confusion", "predictions", "cost"]


def test_words_that_make_an_answer_stand_beside_it_where_they_were_explained(make_run: Any) -> None:
    folder: Path = make_run()
    record = Record(folder)
    asked = next(read_lines(record.predictions("intent", "test")))["input"]
    words = [
        {"word": "tune", "start": 0, "end": 4, "weight": 0.7},
        {"word": "my", "start": 5, "end": 7, "weight": None},
    ]
    line = {"version": 1, "input": asked, "target": "AddToPlaylist", "words": words}
    write_text(folder / "explanations" / "intent.jsonl", json.dumps(line) + "\n")
    made = predictions.section([read_run(folder, "joint")])
    assert made is not None
    rows = made.data["predictions"]
    assert [row["why"] for row in rows if "why" in row] == [
        {"target": "AddToPlaylist", "words": [["tune", 0.7], ["my", 0.0]]}
    ]


def test_padding_is_what_rectangles_hold_beyond_useful_tokens(tiny_run: Path) -> None:
    from taskloom.reports.sections import cost

    run = read_run(tiny_run, "tiny")
    useful = sum(task["tokens"] for row in run.steps for task in row["tasks"].values())
    padded = sum(row["padded_tokens"] for row in run.steps)
    assert padded >= useful
    made = cost.section([run])
    assert made is not None
    assert f"{100 * (1 - useful / padded):.1f} %" in made.html
