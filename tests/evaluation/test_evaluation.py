from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from taskloom.composite.weighted_mean import WeightedMean
from taskloom.errors import DataError, RunFolderError
from taskloom.evaluation import Judged, Predictor, quick_composite, quick_scores, score_split
from taskloom.metrics import METRICS
from taskloom.record import Record
from taskloom.run import Run, Session, evaluate
from taskloom.tasks.classification import Classification
from taskloom.tasks.regression import Regression
from taskloom.types import Prediction

ANSWERS = {"label", "labels", "tags", "answers"}


@pytest.fixture
def session(run_values: dict[str, Any], tmp_path: Path) -> Session:
    from taskloom.config import load_config
    from taskloom.preparation import prepare

    config = load_config(run_values)
    return Session(config, prepare(config), tmp_path)


@pytest.fixture
def run_copy(tiny_run: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_run, tmp_path / "run")
    return tmp_path / "run"


def rows_of(data: Path, task: str, split: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (data / task / f"{split}.jsonl").read_text().splitlines()]


def test_answers_do_not_depend_on_how_rows_are_cut(session: Session) -> None:
    prepared = session.prepared
    for name in prepared.tasks:
        rows, items = prepared.corpora[name].splits["test"], prepared.items[name]["test"]
        found = [
            Predictor(session.model, prepared.tasks, prepared.padding, limit).outputs(name, items)
            for limit in (1, 300, 10**6)
        ]
        for outputs in found[1:]:
            for one, other in zip(found[0], outputs, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
        answers = Predictor(session.model, prepared.tasks, prepared.padding, 300).answer(name, rows, items)
        assert len(answers) == len(rows)


def test_outputs_are_cut_to_each_items_own_tokens_and_leave_the_model_in_its_mode(session: Session) -> None:
    prepared = session.prepared
    session.model.train()
    predictor = Predictor(session.model, prepared.tasks, prepared.padding, 512)
    items = prepared.items["slots"]["test"]
    outputs = predictor.outputs("slots", items)
    assert session.model.training
    labels = len(prepared.tasks["slots"].labels)
    assert [output.shape for output in outputs] == [
        (1, len(items[index]["input_ids"][0]), labels) for index in range(len(items))
    ]


def test_more_items_than_a_block_come_back_in_their_order(session: Session) -> None:
    prepared = session.prepared
    rows = [{"text": " ".join(["order"] * (1 + (7 * index) % 40))} for index in range(600)]
    items = [
        item | {"row": index}
        for index, own in enumerate(prepared.tasks["intent"].encode(rows, prepared.tokenizer))
        for item in own
    ]
    outputs = Predictor(session.model, prepared.tasks, prepared.padding, 2048).outputs("intent", items)
    by_text: dict[str, np.ndarray] = {}
    for row, output in zip(rows, outputs, strict=True):
        np.testing.assert_allclose(output, by_text.setdefault(row["text"], output), rtol=1e-4, atol=1e-5)
    assert len({tuple(np.round(output[0], 4)) for output in by_text.values()}) > 30


def test_a_limit_of_rows_scores_the_first_ones(session: Session) -> None:
    for name in session.prepared.tasks:
        rows, answers = session.answers(name, "test", 5)
        assert rows == session.prepared.corpora[name].splits["test"][:5]
        assert len(answers) == 5


def judged() -> dict[str, Judged]:
    label, number = Classification(), Regression()
    label.fit([{"label": "a"}, {"label": "b"}])
    number.fit([{"label": 1}, {"label": 3}])
    return {
        "label": Judged(label, ["accuracy", "macro_f1"], 3.0, [{"label": "a"}, {"label": "a"}, {"label": "b"}]),
        "number": Judged(number, ["mse", "pearson"], 1.0, [{"label": 1}, {"label": 3}]),
    }


ROWS = {
    "label": [{"label": label} for label in "abab"],
    "number": [{"label": number} for number in (1.0, 2.0, 3.0)],
}
SAID = {
    "label": [Prediction(label) for label in "abbb"],
    "number": [Prediction(number) for number in (1.0, 2.0, 4.0)],
}


def test_scores_carry_value_baseline_and_count_of_every_metric() -> None:
    scores = score_split("test", SAID, ROWS, judged(), how=WeightedMean(), resamples=200, confidence=0.9, seed=0)
    found = {(score.task, score.metric): score for score in scores}
    assert list(found) == [
        ("label", "accuracy"),
        ("label", "macro_f1"),
        ("number", "mse"),
        ("number", "pearson"),
        ("composite", "composite"),
    ]
    assert found["label", "accuracy"].value == 0.75
    assert found["label", "accuracy"].baseline == 0.5  # "a" throughout
    assert found["number", "mse"].value == pytest.approx(1 / 3)
    assert found["number", "mse"].baseline == pytest.approx(2 / 3)  # the mean of training, 2, throughout
    assert [score.n for score in scores[:4]] == [4, 4, 3, 3]
    assert all(score.low <= score.value <= score.high for score in scores)
    assert {score.split for score in scores} == {"test"}


def test_the_composite_is_the_mean_of_first_metrics_weighted_by_importance() -> None:
    scores = score_split("test", SAID, ROWS, judged(), how=WeightedMean(), resamples=200, confidence=0.9, seed=0)
    mse = float(METRICS.load("mse")().normalise(np.array([1 / 3]))[0])
    wanted = (3 * 0.75 + 1 * mse) / 4
    assert scores[-1].value == pytest.approx(wanted)
    quick = {name: quick_scores(judged()[name], SAID[name], ROWS[name]) for name in ROWS}
    assert quick_composite(quick, judged(), WeightedMean()) == pytest.approx(wanted)


def test_a_task_without_importance_or_training_rows_is_scored_and_not_counted() -> None:
    both = judged()
    both["number"] = replace(both["number"], importance=0.0, train=[])
    scores = score_split("test", SAID, ROWS, both, how=WeightedMean(), resamples=200, confidence=0.9, seed=0)
    assert scores[-1].value == pytest.approx(0.75)
    assert [score.baseline for score in scores if score.task == "number"] == [None, None]


def test_intervals_depend_on_the_seed_and_on_nothing_else() -> None:
    def lows(seed: int) -> list[float]:
        return [
            s.low
            for s in score_split(
                "test", SAID, ROWS, judged(), how=WeightedMean(), resamples=100, confidence=0.9, seed=seed
            )
        ]

    assert lows(0) == lows(0)


def test_scoring_a_finished_run_again_gives_the_same_lines(run_copy: Path) -> None:
    before = (run_copy / "scores.jsonl").read_bytes()
    predictions = {path: path.read_bytes() for path in run_copy.rglob("predictions/**/*.jsonl")}
    assert predictions
    scores = evaluate(run_copy)
    assert (run_copy / "scores.jsonl").read_bytes() == before
    assert {path: path.read_bytes() for path in predictions} == predictions
    assert scores == Record.open(run_copy).scores()


def test_another_split_is_scored_where_it_is_asked_for(run_copy: Path) -> None:
    before = Record.open(run_copy).scores()
    assert {score.split for score in evaluate(run_copy, ["validation", "train"])} == {"validation", "train"}
    after = Record.open(run_copy).scores()
    assert [score for score in after if score.split == "test"] == [score for score in before if score.split == "test"]
    assert {score.split for score in after} == {"test", "validation", "train"}
    with pytest.raises(RunFolderError, match=r"Found `dev`"):
        evaluate(run_copy, ["dev"])


def test_a_run_whose_data_has_other_labels_now_is_refused(run_copy: Path, tiny_data: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_data, tmp_path / "data")
    text = (run_copy / "run.yaml").read_text().replace(str(tiny_data), str(tmp_path / "data"))
    (run_copy / "run.yaml").write_text(text)
    rows = rows_of(tiny_data, "intent", "train")
    rows[0]["label"] = "something_new"
    (tmp_path / "data" / "intent" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(RunFolderError, match=r"tasks.intent.data"):
        evaluate(run_copy)


@pytest.mark.parametrize("task", ["intent", "slots", "urgency", "similarity", "answer", "topics", "reply"])
def test_a_finished_run_predicts_without_answers_what_it_predicted_with_them(
    task: str, tiny_run: Path, tiny_data: Path
) -> None:
    rows = rows_of(tiny_data, task, "test")
    bare = [{key: value for key, value in row.items() if key not in ANSWERS} for row in rows]
    lines = [
        json.loads(line) for line in (tiny_run / "predictions" / "test" / f"{task}.jsonl").read_text().splitlines()
    ]
    answers = Run(tiny_run).predict(task, bare)
    if task in {"urgency", "similarity"}:
        assert [a.value for a in answers] == pytest.approx([line["prediction"] for line in lines], rel=1e-4)
    else:
        assert [a.value for a in answers] == [line["prediction"] for line in lines]
    assert [line["row"] for line in lines] == list(range(len(rows)))
    scored = {score.metric: score for score in Run(tiny_run).scores if score.task == task}
    right = [line["right"] for line in lines]
    for metric in ("accuracy", "exact_match"):
        if metric in scored:
            assert scored[metric].value == pytest.approx(sum(right) / len(right))
    if task in {"urgency", "similarity"}:
        assert set(right) == {None}


def test_one_row_is_answered_as_among_many(tiny_run: Path, tiny_data: Path) -> None:
    run = Run(tiny_run)
    rows = rows_of(tiny_data, "intent", "test")
    together = run.predict("intent", rows)
    for row, wanted in zip(rows, together, strict=True):
        (alone,) = run.predict("intent", [row])
        assert alone.value == wanted.value
        assert alone.detail["probabilities"] == pytest.approx(wanted.detail["probabilities"], abs=1e-5)


@pytest.mark.parametrize(
    ("task", "row", "words"),
    [
        ("intents", {"text": "x"}, "Did you mean `intent`?"),
        ("intent", {"label": "x"}, "`row 2` should have `text`"),
        ("intent", {"text": ""}, "`row 2` should have `text`"),
        ("intent", {"text": 5}, "`row 2` should have text in `text`, not int `5`"),
        ("intent", {"text": "x", "text_pair": ["y"]}, "`row 2` should have text in `text_pair`"),
        ("slots", {"tokens": "a b"}, "`row 2` should have a list of texts in `tokens`"),
        ("similarity", {"text": "x"}, "`row 2` should have `text_pair`"),
        ("reply", {"context": "x", "choices": ["a"]}, "`row 2` should have a list of two answers or more"),
        ("answer", {"question": "x", "context": 3.5}, "`row 2` should have text in `context`, not float `3.5`"),
    ],
)
def test_rows_that_cannot_be_answered_are_refused_by_number(
    task: str, row: dict[str, Any], words: str, tiny_run: Path, tiny_data: Path
) -> None:
    good = rows_of(tiny_data, task if task != "intents" else "intent", "test")[0]
    with pytest.raises(DataError) as raised:
        Run(tiny_run).predict(task, [good, row])
    assert words in str(raised.value)


def test_no_rows_have_no_answers(tiny_run: Path) -> None:
    assert Run(tiny_run).predict("intent", []) == []


def test_an_unfinished_run_has_no_model_to_answer(tmp_path: Path) -> None:
    Record.create(tmp_path / "run")
    with pytest.raises(RunFolderError, match="hold a finished run"):
        Run(tmp_path / "run").predict("intent", [{"text": "x"}])


def test_a_line_of_predictions_tells_the_group_of_a_row_that_has_one() -> None:
    from taskloom.prediction import prediction_line

    task = judged()["label"].task
    row = {**ROWS["label"][0], "group": "north"}
    assert prediction_line(task, 0, "here", row, SAID["label"][0])["group"] == "north"
    assert "group" not in prediction_line(task, 0, "here", ROWS["label"][0], SAID["label"][0])
