"""Whole runs that write: trained, scored, asked, scored again, broken off and taken up, in a decoder and in a T5."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers
from writing_tools import BreaksOff, lines_of, results_of, row_of, run_of, save_backbone, steps_of, write_rows

import taskloom.reports
from taskloom.config import load_config
from taskloom.generation.forms import name_of, read_pairs
from taskloom.preparation import prepare
from taskloom.record import Record
from taskloom.run import Run, evaluate, train
from taskloom.session import Session
from taskloom.tasks import TASKS
from taskloom.types import Family

READ_AND_WRITTEN = {"reply": "text_to_text", "intent": "classification", "label": "classification_as_text"}
KINDS: dict[Family, dict[str, str]] = {
    "decoder": {**READ_AND_WRITTEN, "talk": "chat", "liking": "preference"},
    "encoder_decoder": {**READ_AND_WRITTEN, "gaps": "span_corruption"},
}
CONSTRAINED = {"label": "classification_as_text", "tags": "tagging_as_text", "slots": "extraction"}
WAYS: dict[str, tuple[bool, dict[str, Any]]] = {
    "lora-equal": (True, {"method": "equal"}),
    "lora-upgrad": (True, {"method": "upgrad"}),
    "full-equal": (False, {"method": "equal"}),
    "full-upgrad": (False, {"method": "upgrad"}),
}
CASES = [(family, way) for family in KINDS for way in WAYS]
TWO_WAYS = [(family, way) for family in KINDS for way in ("lora-equal", "full-upgrad")]


@pytest.fixture(autouse=True)
def _plain_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write no page with charts after each of many runs; the page has tests of its own."""
    monkeypatch.setattr(taskloom.reports, "report", lambda folders: None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a backbone of each family, and rows of every task."""
    place = tmp_path_factory.mktemp("writing")
    for family in KINDS:
        save_backbone(family, place / family)
    write_rows(place / "data", KINDS["decoder"] | KINDS["encoder_decoder"] | CONSTRAINED)
    return place


@pytest.fixture(scope="module")
def values_of(folder: Path) -> Callable[..., dict[str, Any]]:
    """Describe the run of a family, trained in one of the ways."""

    def make(family: Family, way: str) -> dict[str, Any]:
        lora, balance = WAYS[way]
        return run_of(folder / family, folder / "data", KINDS[family], lora=lora, **balance)

    return make


@pytest.fixture(scope="module")
def finished(folder: Path, values_of: Callable[..., dict[str, Any]]) -> Callable[..., Path]:
    """Give the folder of a finished run of a family; each is trained once."""

    def run(family: Family, way: str) -> Path:
        out = folder / f"{family}-{way}"
        if not out.exists():
            train(values_of(family, way), out)
        return out

    return run


def trained(run: Path) -> list[dict[str, Any]]:
    """Give the lines of steps, without those of evaluations."""
    return [line for line in steps_of(run) if "tasks" in line]


@pytest.mark.parametrize(("family", "way"), CASES)
def test_a_run_that_writes_has_finite_losses_and_every_score(
    family: Family, way: str, finished: Callable[..., Path]
) -> None:
    record = Record.open(finished(family, way))
    assert (record.state.status, record.state.step) == ("finished", 4)
    steps = trained(record.folder)
    assert [row["step"] for row in steps] == [1, 2, 3, 4]
    for row in steps:
        assert row["tasks"].keys() == KINDS[family].keys()
        assert all(math.isfinite(task["loss"]) and task["loss"] > 0 for task in row["tasks"].values())
        assert all(math.isfinite(task["weight"]) for task in row["tasks"].values())
    wanted = {
        (name, split, metric)
        for name, kind in KINDS[family].items()
        for split in ("validation", "test")
        for metric in TASKS.load(kind).default_metrics
    }
    wanted |= {("composite", split, "composite") for split in ("validation", "test")}
    scores = record.scores()
    assert {(score.task, score.split, score.metric) for score in scores} == wanted
    assert len(scores) == len(wanted)
    assert all(math.isfinite(value) for score in scores for value in (score.low, score.value, score.high))
    assert all(score.low <= score.value <= score.high for score in scores)


@pytest.mark.parametrize(("family", "way"), TWO_WAYS)
def test_rows_without_answers_are_answered(family: Family, way: str, finished: Callable[..., Path]) -> None:
    run = Run(finished(family, way))
    _, tasks, _ = run.loaded()
    for name, kind in KINDS[family].items():
        rows = [tasks[name].asked(row_of(kind, number)) for number in (300, 301)]
        answers = run.predict(name, rows)
        assert len(answers) == 2
        for answer in answers:
            if kind in {"text_to_text", "chat"}:
                assert isinstance(answer.value, str)
            elif kind == "span_corruption":
                assert answer.value["tokens"] > 0
                assert math.isfinite(answer.value["nll"])
            else:
                assert answer.value in {"flight", "hotel", "music", "chosen", "rejected"}


@pytest.mark.parametrize(("family", "way"), TWO_WAYS)
def test_a_row_of_the_run_is_answered_as_it_was_when_it_was_scored(
    family: Family, way: str, finished: Callable[..., Path]
) -> None:
    run = Run(finished(family, way))
    for name in [name for name in KINDS[family] if name != "liking"]:
        lines = lines_of(run.folder / "predictions" / "test" / f"{name}.jsonl")
        answers = [answer.value for answer in run.predict(name, [line["input"] for line in lines])]
        said = [line["prediction"] for line in lines]
        near = name == "gaps"
        assert answers == [pytest.approx(value, rel=1e-4) if near else value for value in said]


@pytest.mark.parametrize(("family", "way"), TWO_WAYS)
def test_a_run_that_writes_is_scored_again_to_the_same_bytes(
    family: Family, way: str, finished: Callable[..., Path]
) -> None:
    out = finished(family, way)
    before = results_of(out)
    assert {f"predictions/test/{name}.jsonl" for name in KINDS[family]} <= before.keys()
    scores = evaluate(out)
    assert results_of(out) == before
    assert scores == Record.open(out).scores()


@pytest.mark.parametrize(("family", "way"), TWO_WAYS)
def test_a_run_that_writes_is_taken_up_to_the_same_bytes(
    family: Family,
    way: str,
    values_of: Callable[..., dict[str, Any]],
    finished: Callable[..., Path],
    tmp_path: Path,
) -> None:
    whole = finished(family, way)
    with pytest.raises(ArithmeticError, match="broken off"):
        train(values_of(family, way), tmp_path / "run", callbacks=[BreaksOff(4)])
    assert Record.open(tmp_path / "run").state.status == "failed"
    assert len(steps_of(tmp_path / "run")) < len(steps_of(whole))
    train(values_of(family, way), tmp_path / "run")
    assert steps_of(tmp_path / "run") == steps_of(whole)
    assert results_of(tmp_path / "run") == results_of(whole)


def test_packed_rows_of_a_decoder_that_writes_have_the_losses_of_rows_apart(
    values_of: Callable[..., dict[str, Any]], finished: Callable[..., Path], tmp_path: Path
) -> None:
    values = values_of("decoder", "lora-equal")
    values["batching"] = {"packing": True}
    train(values, tmp_path / "run")
    config = load_config(values)
    steps = Session(config, prepare(config), tmp_path / "none").steps
    assert any(chunk.packing is not None for chunk in steps[0].chunks)
    packed, apart = (trained(out) for out in (tmp_path / "run", finished("decoder", "lora-equal")))
    for one, other in zip(packed, apart, strict=True):
        losses = {name: task["loss"] for name, task in one["tasks"].items()}
        assert losses == pytest.approx({name: task["loss"] for name, task in other["tasks"].items()}, rel=1e-4)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-3)


def test_a_tokenizer_without_a_token_to_fill_up_with_serves_all_the_same(
    folder: Path, finished: Callable[..., Path], values_of: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """What fills up is seen by nothing, so the end of a text does as well as a token of its own."""
    values = values_of("decoder", "lora-equal")
    shutil.copytree(folder / "decoder", tmp_path / "decoder")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "decoder")
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path / "decoder")
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "decoder").pad_token_id is None
    values["model"]["name_or_path"] = str(tmp_path / "decoder")
    run, usual = train(values, tmp_path / "run"), Run(finished("decoder", "lora-equal"))
    assert trained(run.folder) == trained(usual.folder)
    for name in KINDS["decoder"]:
        lines, others = (lines_of(each.folder / "predictions" / "test" / f"{name}.jsonl") for each in (run, usual))
        assert lines == others
    rows = [{"source": text} for text in ("take 1", "take 200 to San Francisco")]
    assert run.predict("reply", rows) == usual.predict("reply", rows)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("family", KINDS)
def test_whatever_an_untrained_backbone_writes_under_a_constraint_can_be_read(
    family: Family, beams: int, folder: Path, tmp_path: Path
) -> None:
    values = run_of(folder / family, folder / "data", CONSTRAINED)
    for task in values["tasks"].values():
        task |= {"num_beams": beams, "max_new_tokens": 10}  # of labels and values without end, which end in time
    config = load_config(values)
    session = Session(config, prepare(config), tmp_path)
    tasks: Any = session.prepared.tasks
    rows, labels = session.answers("label", "test")
    assert {name_of(answer.detail["text"], tasks["label"].labels) for answer in labels} <= {*tasks["label"].labels}
    for name, known in (("tags", tasks["tags"].names), ("slots", tasks["slots"].labels)):
        rows, answers = session.answers(name, "test")
        assert len(answers) == len(rows) == 2
        for row, answer in zip(rows, answers, strict=True):
            pairs = read_pairs(answer.detail["text"], known)
            assert pairs is not None, answer.detail["text"]
            assert all(label in known for label, _ in pairs)
            if name == "tags":
                assert sum(tag.startswith("B-") for tag in answer.value) == len(pairs)
            else:
                assert [slot["label"] for slot in answer.value] == [label for label, _ in pairs]
                assert all(slot["value"] in row["text"] for slot in answer.value)
