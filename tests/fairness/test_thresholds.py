"""Thresholds by group against fairlearn's own answers, and in use."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fairlearn.postprocessing import ThresholdOptimizer
from rich.console import Console
from sklearn.base import BaseEstimator
from typer.testing import CliRunner

from fair_rows import fair_values, write_corpus
from taskloom.cli import app, commands
from taskloom.errors import DataError, RunFolderError
from taskloom.fairness.note import read_fairness
from taskloom.fairness.thresholds import FILE, fit_thresholds, predict_fairly, read_thresholds
from taskloom.record import Record, read_lines
from taskloom.run import Run, train


@pytest.fixture(scope="module")
def made(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose probabilities are put in by hand: true to the label, and lifted for one of the groups."""
    base = tmp_path_factory.mktemp("thresholds")
    train(fair_values(tiny_encoder, write_corpus(base / "data", rest=320), None, steps=1), base / "run")
    record, draw = Record(base / "run"), np.random.default_rng(0)
    for split in ("validation", "test"):
        lines = []
        for line in read_lines(record.predictions("place", split)):
            lift = 0.2 if line["input"]["text"].startswith("he ") else -0.2
            centre = (0.6 if line["reference"] == "river" else 0.4) + lift
            chance = round(float(np.clip(draw.normal(centre, 0.15), 0.01, 0.99)), 6)
            detail = {"probabilities": {"hill": round(1 - chance, 6), "river": chance}}
            said = "river" if chance >= 0.5 else "hill"
            lines.append({k: v for k, v in line.items() if k != "version"} | {"prediction": said, "detail": detail})
        record.write_predictions("place", split, lines)
    return base / "run"


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "run")
    return tmp_path / "run"


def facts(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Give probabilities, whether rows are right for "river", and groups."""
    lines = list(read_lines(Record(folder).predictions("place", split)))
    chances = np.array([[line["detail"]["probabilities"]["river"]] for line in lines])
    right = np.array([line["reference"] == "river" for line in lines], dtype=int)
    return chances, right, [line["input"]["text"].split()[0] for line in lines]


class Same(BaseEstimator):
    """Gives back what it is given."""

    def fit(self, given: Any, right: Any) -> Same:
        self.fitted_ = True
        return self

    def predict(self, given: Any) -> Any:
        return given[:, 0]


@pytest.mark.parametrize("constraint", ["demographic_parity", "equalized_odds", "true_positive_rate_parity"])
def test_chances_are_those_of_fairlearn(folder: Path, constraint: str) -> None:
    found = fit_thresholds(folder, "place", ["who"], constraint, positive="river").thresholds
    chances, right, groups = facts(folder, "validation")
    own = ThresholdOptimizer(estimator=Same(), constraints=constraint, predict_method="predict")
    own.fit(chances, right, sensitive_features=groups)
    chances, _, groups = facts(folder, "test")
    expected = own._pmf_predict(chances, sensitive_features=groups)[:, 1]
    said = [found.rules[group].chance(float(chance[0])) for group, chance in zip(groups, chances, strict=True)]
    assert said == pytest.approx(expected.tolist())


def test_equalised_odds_come_together_at_some_cost(folder: Path) -> None:
    found = fit_thresholds(folder, "place", ["who"], "equalized_odds", positive="river")
    before, after = found.before.parity.equalised_odds, found.after.parity.equalised_odds
    assert before is not None
    assert after is not None
    assert before.difference.value > 0.5
    assert before.shown
    assert after.difference.value < before.difference.value / 4
    entry = read_fairness(Record(folder))["place"]["thresholds"]
    assert entry["before"]["parity"]["equalised_odds"]["difference"]["value"] == before.difference.value
    assert entry["after"]["score"]["value"] == found.after.scores.whole.value
    assert read_thresholds(Record(folder), "place") == found.thresholds


def test_the_same_row_gets_the_same_answer_and_draws_are_spread_evenly(folder: Path) -> None:
    thresholds = fit_thresholds(folder, "place", ["who"], "equalized_odds", positive="river").thresholds
    lines = list(read_lines(Record(folder).predictions("place", "test")))
    for group in ("he", "she"):
        for chance in (0.2, 0.5, 0.8):
            said = [thresholds.answer(group, chance, line["input"] | {"n": n}) for n, line in enumerate(lines)]
            again = [thresholds.answer(group, chance, line["input"] | {"n": n}) for n, line in enumerate(lines)]
            assert said == again
            share = np.mean([each == "river" for each in said])
            assert share == pytest.approx(thresholds.rules[group].chance(chance), abs=0.09)


def test_prediction_by_thresholds_reads_the_group_and_the_probability_as_trained(folder: Path) -> None:
    thresholds = fit_thresholds(folder, "place", ["who"], "demographic_parity", positive="river").thresholds
    rows = [{"text": f"{who} went to the boat", "who": who} for who in ("he", "she")]
    run = Run(folder)
    raw = run.predict("place", [{"text": row["text"]} for row in rows], calibrated=False)
    for row, told, answer in zip(rows, predict_fairly(run, "place", rows), raw, strict=True):
        chance = answer.detail["probabilities"]["river"]
        assert told.value == thresholds.answer(row["who"], chance, {"text": row["text"]})
        assert told.detail == {**answer.detail, "group": row["who"]}


def test_the_command_fits_and_predict_answers_by_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "console", Console(width=200, force_terminal=False))
    call = ["fairness", str(folder), "--task", "place", "--group", "who", "--thresholds", "equalized_odds"]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    assert f"wrote {folder / FILE}; `taskloom predict … --thresholds` answers by it" in done.output
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "she went to the peak", "who": "she"}\n', encoding="utf-8")
    done = CliRunner().invoke(app, ["predict", str(folder), "place", str(rows), "--thresholds"])
    assert json.loads(done.output.splitlines()[-1])["group"] == "she"


def test_a_row_without_its_group_is_refused(folder: Path) -> None:
    fit_thresholds(folder, "place", ["who"], "equalized_odds")
    with pytest.raises(DataError) as caught:
        predict_fairly(Run(folder), "place", [{"text": "he left"}, {"text": "he left", "who": "hee"}])
    assert str(caught.value) == (
        "`row 1` should have `who`, the column of its group. Found the columns ['text'].\n"
        "`row 2` should be of a group that thresholds were fitted for. Found `hee`. Did you mean `he`?"
    )


def test_prediction_without_thresholds_says_what_fits_them(folder: Path) -> None:
    with pytest.raises(RunFolderError) as caught:
        predict_fairly(Run(folder), "place", [{"text": "he left", "who": "he"}])
    assert str(caught.value) == (
        f"`{folder}` should hold thresholds of `place`. Found none. "
        f"`taskloom fairness {folder} --task place --group COLUMN --thresholds equalized_odds` fits them."
    )


def test_an_unknown_constraint_is_refused(folder: Path) -> None:
    with pytest.raises(DataError) as caught:
        fit_thresholds(folder, "place", ["who"], "equalised_odds")
    assert str(caught.value) == (
        "`--thresholds` should name what is to be alike. Found `equalised_odds`. Did you mean `equalized_odds`?"
    )


def test_a_task_of_many_labels_is_refused(tiny_run: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_run, tmp_path / "run")
    record = Record(tmp_path / "run")
    lines = [
        {k: v for k, v in line.items() if k != "version"} | {"input": line["input"] | {"part": "xy"[number % 2]}}
        for number, line in enumerate(read_lines(record.predictions("intent", "test")))
    ]
    for split in ("validation", "test"):
        record.write_predictions("intent", split, lines)
    with pytest.raises(DataError) as caught:
        fit_thresholds(tmp_path / "run", "intent", ["part"], "equalized_odds")
    count = len(lines[0]["detail"]["probabilities"])
    assert str(caught.value) == (
        f"`--task` should have two labels and tell their probabilities. Found `intent`: {count} labels. "
        "Thresholds serve classification in two."
    )
