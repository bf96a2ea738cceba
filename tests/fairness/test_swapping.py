"""Answers to swapped rows: what flips, how far numbers move, and which tasks it is for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy.stats import binomtest
from typer.testing import CliRunner

from fair_rows import fair_values, write_corpus
from taskloom.cli import app, commands
from taskloom.data.swaps import Swaps
from taskloom.errors import ConfigError, DataError
from taskloom.fairness.note import read_fairness
from taskloom.fairness.swapping import swap
from taskloom.record import Record, read_lines
from taskloom.run import Run, train
from taskloom.types import Prediction

WORDS = [["my", "your"], ["is", "was"], ["the", "a"]]


@pytest.fixture
def folder(tiny_run: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_run, tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize("task", ["intent", "slots", "urgency", "similarity", "topics", "reply"])
def test_answers_to_swapped_rows_are_those_that_predict_gives(folder: Path, task: str) -> None:
    swaps = Swaps(WORDS)
    found = swap(folder, task, swaps)
    run = Run(folder)
    asked = [line["input"] for line in read_lines(Record(folder).predictions(task, "test"))]
    columns = [key for key in asked[0] if key not in {"label", "tags", "labels"}]
    pairs = [(row, swaps.row(row, columns)) for row in asked if swaps.row(row, columns) != row]
    assert found.touched == len(pairs) > 0
    before, after = (run.predict(task, [pair[side] for pair in pairs]) for side in (0, 1))
    flips = [one.value != other.value for one, other in zip(before, after, strict=True)]
    if task in {"urgency", "similarity"}:
        assert found.flipped is None
        moved = [abs(one.value - other.value) for one, other in zip(before, after, strict=True)]
        assert found.change is not None
        assert found.change.value == pytest.approx(np.mean(moved), abs=1e-5)
        return
    assert found.flipped is not None
    assert found.flipped.value == pytest.approx(np.mean(flips))
    ends = binomtest(sum(flips), len(flips)).proportion_ci(0.95, method="wilson")
    assert (found.flipped.low, found.flipped.high) == pytest.approx((ends.low, ends.high))
    if task == "slots":
        assert found.words is not None
        words = [
            (a, b)
            for one, other in zip(before, after, strict=True)
            for a, b in zip(one.value, other.value, strict=True)
        ]
        assert found.words.value == pytest.approx(np.mean([a != b for a, b in words]))
    if task == "intent":
        moved = [
            abs(one.detail["probabilities"][one.value] - other.detail["probabilities"][one.value])
            for one, other in zip(before, after, strict=True)
        ]
        assert found.change is not None
        assert found.change.value == pytest.approx(np.mean(moved), abs=1e-5)


def ruled(monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    """Have runs answer by the group's word in a share of texts, and by the place in the rest."""

    def predict(run: Run, task: str, rows: list[dict[str, Any]], *, calibrated: bool = True) -> list[Prediction]:
        answers = []
        for row in rows:
            word, *rest = row["text"].split()
            biased = sum(map(ord, " ".join(rest))) % 100 < 100 * share
            river = word == "he" if biased else any(each in rest for each in ("boat", "water", "bridge", "bank"))
            named = {"river": 0.9, "hill": 0.1} if river else {"river": 0.3, "hill": 0.7}
            answers.append(Prediction("river" if river else "hill", {"probabilities": named}))
        return answers

    monkeypatch.setattr(Run, "predict", predict)


@pytest.fixture(scope="module")
def biased(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("swapping")
    train(fair_values(tiny_encoder, write_corpus(base / "data", rest=80), None, steps=1), base / "run")
    return base / "run"


def test_a_planted_share_of_flips_is_found(biased: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ruled(monkeypatch, 0.4)
    texts = [line["input"]["text"] for line in read_lines(Record(biased).predictions("place", "test"))]
    planted = [sum(map(ord, text.split(maxsplit=1)[1])) % 100 < 40 for text in texts]
    found = swap(biased, "place", Swaps([["he", "she"]]))
    assert found.flipped is not None
    assert found.change is not None
    assert found.flipped.value == pytest.approx(np.mean(planted))
    assert sum(rows for _, _, rows in found.moves) == sum(planted)
    # From "river" (0.9) to "hill" its probability falls by 0.6, from "hill" (0.7) to "river" also.
    assert found.change.value == pytest.approx(0.6 * np.mean(planted))
    assert {(flip.before, flip.after) for flip in found.examples} == {("river", "hill"), ("hill", "river")}
    assert all(flip.swapped["text"].split()[1:] == flip.input["text"].split()[1:] for flip in found.examples)
    entry = read_fairness(Record(biased))["place"]["swaps"]
    assert entry["flipped"]["value"] == found.flipped.value
    assert entry["sets"] == [["he", "she"]]


def test_no_flip_leaves_room_for_doubt(biased: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ruled(monkeypatch, 0.0)
    found = swap(biased, "place", Swaps([["he", "she"]]))
    assert found.flipped is not None
    assert (found.flipped.value, found.flipped.low) == (0.0, 0.0)
    assert 0.02 < found.flipped.high < 0.06
    assert found.examples == []


def test_a_row_counts_once_however_many_forms_it_has(biased: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ruled(monkeypatch, 1.0)
    found = swap(biased, "place", Swaps([["he", "she", "they"]]))
    assert found.flipped is not None
    assert (found.touched, found.flipped.value, found.flipped.n) == (80, 1.0, 80)


def test_the_command_shows_what_flips(biased: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ruled(monkeypatch, 1.0)
    monkeypatch.setattr(commands, "console", Console(width=160, force_terminal=False))
    words = tmp_path / "words.yaml"
    words.write_text("- [he, she]\n", encoding="utf-8")
    done = CliRunner().invoke(app, ["fairness", str(biased), "--task", "place", "--swaps", str(words)])
    assert done.exit_code == 0, done.output
    assert "80 of 80 rows have words to swap.\nanswers that flip: 1.000 (0.954 … 1.000)\n" in done.output
    assert "  river became hill: 40 rows\n" in done.output


def test_a_task_whose_answers_are_places_in_the_text_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        swap(folder, "answer", Swaps(WORDS))
    assert str(caught.value) == (
        "`--task` should have answers that stay when words are swapped. Found one that answers with a text. "
        "Name a task with labels, numbers or tags."
    )


def test_words_that_no_row_has_are_refused(folder: Path) -> None:
    with pytest.raises(DataError) as caught:
        swap(folder, "intent", Swaps([["xylophone", "zeppelin"]]))
    assert str(caught.value) == (
        "`--swaps` should have words that stand in rows of test. Found none of `xylophone`, `zeppelin`."
    )


def test_examples_can_be_written_as_json(folder: Path) -> None:
    json.dumps(swap(folder, "slots", Swaps(WORDS)).as_json())
