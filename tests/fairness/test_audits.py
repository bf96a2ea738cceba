"""Groups of a finished run: columns of the data joined to predictions, what is written, and what is refused."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from sklearn.metrics import accuracy_score
from typer.testing import CliRunner

from fair_rows import fair_values, write_corpus
from taskloom.cli import app, commands
from taskloom.errors import DataError, MissingExtraError, RunFolderError
from taskloom.fairness.auditing import audit
from taskloom.fairness.note import FILE, read_fairness
from taskloom.record import Record, read_lines
from taskloom.run import train

RIGHT = {"he": 0.95, "she": 0.7}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus whose test rows have further columns."""
    folder = write_corpus(tmp_path_factory.mktemp("audited") / "data", rest=160)
    rows = [json.loads(line) for line in (folder / "test.jsonl").read_text().splitlines()]
    for number, row in enumerate(rows):
        row |= {"number": number, "age": ["old", "young"][number % 3 == 0], "meta": {"part": "xy"[number % 5 == 0]}}
        if number % 40 == 7:
            row["age"] = None
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def made(tiny_encoder: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose test answers are put in by hand: right in a group's own share of rows."""
    folder = tmp_path_factory.mktemp("audits") / "run"
    values = fair_values(tiny_encoder, data, None, steps=1)
    train({**values, "evaluation": {"resamples": 200, "splits": ["test"]}}, folder)
    draw, record = np.random.default_rng(0), Record(folder)
    lines = []
    for line in read_lines(record.predictions("place", "test")):
        group = line["input"]["text"].split()[0]
        other = {"river": "hill", "hill": "river"}[line["reference"]]
        said = line["reference"] if draw.random() < RIGHT[group] else other
        lines.append(line | {"prediction": said, "right": said == line["reference"]})
    record.write_predictions("place", "test", [{k: v for k, v in line.items() if k != "version"} for line in lines])
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "run")
    return tmp_path / "run"


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return list(read_lines(Record(folder).predictions("place", "test")))


def test_a_planted_gap_is_found_and_written(folder: Path) -> None:
    found = audit(folder, "place", ["who"])
    by_hand = {}
    for group in ("he", "she"):
        own = [line for line in lines_of(folder) if line["input"]["text"].startswith(f"{group} ")]
        by_hand[group] = accuracy_score([line["reference"] for line in own], [line["prediction"] for line in own])
    assert {group: each.value for group, each in found.scores[0].groups.items()} == pytest.approx(by_hand)
    assert found.gaps[0].shown
    assert found.gaps[0].difference.value == pytest.approx(by_hand["he"] - by_hand["she"])
    (entry,) = read_fairness(Record(folder))["place"]["groups"]
    assert entry["columns"] == ["who"]
    assert entry["rows"] == 160
    assert {each["group"]: each["scores"]["accuracy"]["value"] for each in entry["groups"]} == pytest.approx(by_hand)
    assert entry["gaps"][0]["between"] == ["he", "she"]
    assert entry["gaps"][0]["shown"] is True
    assert set(entry["parity"]) == {"hill", "river"}
    assert json.loads((folder / FILE).read_text())["version"] == 1


def test_intersections_are_groups_of_all_values_and_rows_without_one_are_told(folder: Path) -> None:
    found = audit(folder, "place", ["who", "age"])
    assert set(found.scores[0].groups) == {"he, old", "he, young", "she, old", "she, young"}
    assert found.without_group == 4
    assert "4 rows have no group and are left out." in found.warnings
    assert found.scores[0].whole.n == 156


def test_a_field_inside_a_column_makes_groups(folder: Path) -> None:
    found = audit(folder, "place", ["meta.part"])
    assert {group: each.n for group, each in found.scores[0].groups.items()} == {"x": 128, "y": 32}


def test_an_entry_is_replaced_by_one_of_the_same_columns_and_split_alone(folder: Path) -> None:
    audit(folder, "place", ["who"])
    audit(folder, "place", ["age"], positive="river")
    audit(folder, "place", ["who"])
    entries = read_fairness(Record(folder))["place"]["groups"]
    assert [entry["columns"] for entry in entries] == [["age"], ["who"]]
    assert list(entries[0]["parity"]) == ["river"]


def test_nothing_is_written_where_that_is_not_asked_for(folder: Path) -> None:
    audit(folder, "place", ["who"], write=False)
    assert not (folder / FILE).exists()


@pytest.mark.parametrize(
    ("task", "columns", "positive", "message"),
    [
        ("plaice", ["who"], None, "`--task` should be a task of the run. Found `plaice`. Did you mean `place`?"),
        (
            "place",
            ["whom"],
            None,
            "`--group` should be a column of the data. Found `whom`; the columns are `text`, `label`, `who`, `number`, "
            "`age`, `meta`. Did you mean `who`?",
        ),
        (
            "place",
            ["number"],
            None,
            "`--group number` should have 30 groups or fewer. Found 160 values. "
            "Add a column of fewer groups to the data, such as ranges of a number.",
        ),
        ("place", ["who"], "rivre", "`--positive` should be a label of the task. Found `rivre`. Did you mean `river`?"),
    ],
)
def test_what_does_not_fit_is_refused(
    folder: Path, task: str, columns: list[str], positive: str | None, message: str
) -> None:
    with pytest.raises(DataError) as caught:
        audit(folder, task, columns, positive=positive)
    assert str(caught.value) == message


def test_one_group_alone_is_refused(folder: Path, data: Path, tmp_path: Path) -> None:
    lines = [line for line in lines_of(folder) if line["input"]["text"].startswith("he ")]
    kept = [{key: value for key, value in line.items() if key != "version"} for line in lines]
    Record(folder).write_predictions("place", "test", kept)
    with pytest.raises(DataError) as caught:
        audit(folder, "place", ["who"])
    assert str(caught.value) == "`--group who` should have two groups or more. Found `he` alone in 80 rows of test."


def test_a_split_without_predictions_is_told_with_the_command_that_makes_them(folder: Path) -> None:
    with pytest.raises(RunFolderError) as caught:
        audit(folder, "place", ["who"], split="validation")
    assert str(caught.value) == (
        f"`{folder}` should hold predictions of `place` on validation. Found none. "
        f"`taskloom evaluate {folder} --split validation --split test` makes them."
    )


def test_data_that_lost_the_rows_is_refused(folder: Path, tiny_encoder: Path, data: Path, tmp_path: Path) -> None:
    text = (folder / "run.yaml").read_text()
    other = write_corpus(tmp_path / "other", rest=2)
    (folder / "run.yaml").write_text(text.replace(str(data), str(other)))
    with pytest.raises(DataError) as caught:
        audit(folder, "place", ["who"])
    assert str(caught.value) == (
        f"`tasks.place.data` should hold the rows that the run answered. Found no row {data / 'test.jsonl'}:1. "
        "Bring the data back to what it was, or score the run again with `taskloom evaluate`."
    )


def test_without_fairlearn_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fairlearn.metrics", None)
    with pytest.raises(MissingExtraError) as caught:
        audit(folder, "place", ["who"])
    assert str(caught.value) == (
        "`fairlearn` should be installed to compare groups. Found no such package. "
        "Run `pip install 'taskloom[fairness]'`."
    )


def test_rows_in_memory_are_joined_as_files_are(tiny_encoder: Path, data: Path, tmp_path: Path) -> None:
    rows = {
        split: [json.loads(line) for line in (data / f"{split}.jsonl").read_text().splitlines()]
        for split in ("train", "validation", "test")
    }
    values = fair_values(tiny_encoder, data, None, steps=1)
    values["tasks"]["place"]["data"] = "memory"
    train(values, tmp_path / "run", rows={"place": rows})
    found = audit(tmp_path / "run", "place", ["who"], rows={"place": rows})
    assert {group: each.n for group, each in found.scores[0].groups.items()} == {"he": 80, "she": 80}
    with pytest.raises(DataError) as caught:
        audit(tmp_path / "run", "place", ["who"])
    assert str(caught.value) == (
        "`tasks.place.data` should come with the rows in memory that the run had. Found none. "
        "Give them as `rows={'place': [...]}`."
    )


def test_the_command_shows_groups_gaps_and_rates(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "console", Console(width=160, force_terminal=False))
    done = CliRunner().invoke(app, ["fairness", str(folder), "--task", "place", "--group", "who"])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0].split() == ["who", "n", "accuracy", "macro_f1"]
    assert [line.split()[:2] for line in lines[1:4]] == [["he", "80"], ["she", "80"], ["all", "160"]]
    assert any(line.startswith("accuracy: a gap of 0.") and "`he` over `she`" in line for line in lines)
    assert any(line.split()[:1] == ["river"] for line in lines)
    assert lines[-1] == f"wrote {folder / FILE}"


def test_the_command_without_a_column_says_what_to_write(folder: Path) -> None:
    done = CliRunner().invoke(app, ["fairness", str(folder), "--task", "place"])
    assert str(done.exception) == (
        "`--group` should name a column. Found nothing. Write `--group COLUMN` with a column of the data, "
        "or `--swaps FILE`."
    )
