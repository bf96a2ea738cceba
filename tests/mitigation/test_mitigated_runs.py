"""Mitigation in runs: what multiplies losses, what is drawn, what is appended, resuming, and what is refused."""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

import taskloom.reports
from fair_rows import fair_values, write_corpus
from resume_tools import assert_same, in_step, killed
from taskloom.config import json_schema, load_config, read_config
from taskloom.data.columns import PROTECTED
from taskloom.errors import ConfigError, DataError
from taskloom.preparation import prepare
from taskloom.record import Record
from taskloom.run import reopened, train
from taskloom.session import Session
from taskloom.training.balancing import MITIGATION_FILE
from two_processes import said_by, skip_where_processes_cannot_meet

DRO = {"method": "group_dro", "group": "who", "step_size": 0.5}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("biased") / "data")


@pytest.fixture(scope="module")
def steady_encoder(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny encoder without dropout, whose losses do not depend on how a step is cut."""
    folder = tmp_path_factory.mktemp("steady") / "encoder"
    shutil.copytree(tiny_encoder, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def steady_values(encoder: Path, data: Path, steps: int) -> dict[str, Any]:
    values = fair_values(encoder, data, DRO, steps=steps)
    values["model"]["adapter"]["lora_dropout"] = 0.0
    values["tasks"]["place"]["dropout"] = 0.0
    return values


@pytest.fixture(autouse=True)
def _plain_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write no page with charts after each of many runs; the page has tests of its own."""

    def report(folders: list[Path]) -> None:
        Record.open(folders[0]).report_html.write_text("a page", encoding="utf-8")

    monkeypatch.setattr(taskloom.reports, "report", report)


def session_of(encoder: Path, data: Path, fairness: Any, folder: Path, **changes: Any) -> Session:
    config = load_config({**fair_values(encoder, data, fairness), **changes})
    return Session(config, prepare(config), folder)


def rows_of(session: Session) -> list[dict[str, Any]]:
    return session.prepared.corpora["place"].splits["train"]


def test_the_loss_of_each_row_is_multiplied_by_its_weight(tiny_encoder: Path, data: Path, tmp_path: Path) -> None:
    plain = session_of(tiny_encoder, data, None, tmp_path)
    session = session_of(tiny_encoder, data, {"method": "reweighing", "group": "who"}, tmp_path)
    step = session.steps[0]
    session.model.eval()
    pairs = Counter((row[PROTECTED], row["label"]) for row in rows_of(session))
    groups, labels = (Counter(pair[side] for pair in pairs.elements()) for side in (0, 1))
    for chunk in step.chunks:
        with torch.no_grad():
            outputs = session.model(chunk)
            sums, losses = session.objective().sums(outputs, chunk)
            expected, same = plain.objective().sums(outputs, chunk)
        held = [rows_of(session)[item["row"]] for item in chunk.parts["place"].items]
        weights = [
            groups[row[PROTECTED]]
            * labels[row["label"]]
            / (len(rows_of(session)) * pairs[row[PROTECTED], row["label"]])
            for row in held
        ]
        assert losses["place"].tolist() == same["place"].tolist(), "what is recorded is the loss as it is"
        assert float(sums["place"]) == pytest.approx(sum(w * x for w, x in zip(weights, losses["place"], strict=True)))
        assert float(sums["place"]) != pytest.approx(float(expected["place"]))


def test_balanced_sampling_draws_each_group_and_label_alike(tiny_encoder: Path, data: Path, tmp_path: Path) -> None:
    session = session_of(tiny_encoder, data, {"method": "balanced_sampling", "group": "who"}, tmp_path)
    rows, counts = rows_of(session), Counter()
    for index in range(len(session.steps.plan)):
        for item in session.steps.plan.micro(index).items["place"]:
            row = rows[session.prepared.items["place"]["train"][item]["row"]]
            counts[row[PROTECTED], row["label"]] += 1
    assert len(counts) == 4
    assert len(set(counts.values())) == 1


def test_augmentation_appends_swapped_rows_to_training_alone(tiny_encoder: Path, data: Path, tmp_path: Path) -> None:
    plain = session_of(tiny_encoder, data, None, tmp_path)
    session = session_of(tiny_encoder, data, {"method": "augmentation", "swaps": [["he", "she"]]}, tmp_path)
    before, after = rows_of(plain), rows_of(session)
    assert after[: len(before)] == before
    assert [(row["text"].split(maxsplit=1)[1], row["label"]) for row in after[len(before) :]] == [
        (row["text"].split(maxsplit=1)[1], row["label"]) for row in before
    ]
    assert Counter(row["text"].split()[0] for row in after) == {"he": len(before), "she": len(before)}
    assert session.prepared.place("place", len(before)) == f"{plain.prepared.place('place', 0)}, swapped"
    assert len(session.prepared.items["place"]["train"]) == 2 * len(before)
    for split in ("validation", "test"):
        assert session.prepared.corpora["place"].splits[split] == plain.prepared.corpora["place"].splits[split]


def test_words_of_a_file_are_kept_in_the_run_folder(tiny_encoder: Path, data: Path, tmp_path: Path) -> None:
    words = tmp_path / "words.yaml"
    words.write_text("- [he, she]\n", encoding="utf-8")
    config = load_config(fair_values(tiny_encoder, data, {"method": "augmentation", "swaps": str(words)}))
    assert config.tasks["place"].fairness == {"method": "augmentation", "group": None, "swaps": [["he", "she"]]}
    (tmp_path / "run.yaml").write_text(config.as_yaml(), encoding="utf-8")
    words.unlink()
    assert read_config(tmp_path / "run.yaml").as_yaml() == config.as_yaml()


def test_a_run_killed_under_group_dro_gives_the_bytes_of_one_that_was_not(
    tiny_encoder: Path, data: Path, tmp_path: Path
) -> None:
    values = fair_values(tiny_encoder, data, DRO, steps=5)
    train(values, tmp_path / "whole")
    killed(values, tmp_path / "killed", in_step(4))
    held = json.loads((tmp_path / "killed" / "checkpoints" / "checkpoint-2" / MITIGATION_FILE).read_text())
    assert len(set(held["place"]["q"])) == 4, "q has moved by the time of the checkpoint"
    train(values, tmp_path / "killed")
    assert_same(tmp_path / "whole", tmp_path / "killed")
    steps = [line["groups"]["place"] for line in Record(tmp_path / "whole").steps() if "tasks" in line]
    assert [sum(q.values()) for q in steps] == pytest.approx([1.0] * 5)
    assert steps[0] != steps[-1]


def test_groups_move_alike_however_a_step_is_cut(steady_encoder: Path, data: Path, tmp_path: Path) -> None:
    found = []
    for number, (rows, accumulation, tokens) in enumerate(((8, 1, 4096), (4, 2, 4096), (8, 1, 24))):
        values = steady_values(steady_encoder, data, 2)
        values["training"] |= {"per_device_train_batch_size": rows, "gradient_accumulation_steps": accumulation}
        train({**values, "batching": {"limit_tokens": tokens}}, tmp_path / str(number))
        found.append([line["groups"]["place"] for line in Record(tmp_path / str(number)).steps() if "tasks" in line])
    for step in zip(*found, strict=True):
        assert step[1] == pytest.approx(step[0], rel=1e-4)
        assert step[2] == pytest.approx(step[0], rel=1e-4)


def test_a_step_that_takes_two_passes_moves_groups_once(
    steady_encoder: Path, data: Path, tiny_data: Path, tmp_path: Path
) -> None:
    values = steady_values(steady_encoder, data, 1)
    values["tasks"]["intent"] = {"type": "classification", "data": str(tiny_data / "intent"), "max_length": 64}
    values["mixture"] = {"strategy": "uniform"}
    twice = {"method": "upgrad", "statistic": "gramian", "weights_from": "this_step"}
    config = load_config({**values, "balance": twice})
    assert Session(config, prepare(config), tmp_path / "none").balancer().passes == 2
    found = []
    for number, balance in enumerate(({}, twice)):
        train({**values, "balance": balance}, tmp_path / str(number))
        found.append(Record(tmp_path / str(number)).steps()[0]["groups"]["place"])
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_groups_move_alike_in_two_processes_and_in_one_that_accumulates(
    steady_encoder: Path, data: Path, tmp_path: Path
) -> None:
    skip_where_processes_cannot_meet()
    values = steady_values(steady_encoder, data, 2)
    values["training"] |= {"per_device_train_batch_size": 4, "use_cpu": True}
    run = tmp_path / "run.json"
    run.write_text(json.dumps(values), encoding="utf-8")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--rdzv-backend", "c10d"]
    meeting = ["--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1", "-m", "taskloom"]
    said_by([*launcher, *meeting, "train", str(run), "--out", str(tmp_path / "two")], OMP_NUM_THREADS="1")
    values["training"]["gradient_accumulation_steps"] = 2
    train(values, tmp_path / "one")
    two, one = ([line for line in Record(tmp_path / name).steps() if "tasks" in line] for name in ("two", "one"))
    for mine, other in zip(two, one, strict=True):
        assert mine["groups"]["place"] == pytest.approx(other["groups"]["place"], rel=1e-4)
        assert mine["loss"] == pytest.approx(other["loss"], rel=1e-3)


def test_a_run_with_mitigation_is_opened_again(tiny_encoder: Path, data: Path, tmp_path: Path) -> None:
    train(fair_values(tiny_encoder, data, DRO, steps=1), tmp_path / "run")
    session, _ = reopened(tmp_path / "run")
    assert sorted(session.prepared.mitigations) == ["place"]
    assert all(PROTECTED not in line["input"] for line in _lines(tmp_path / "run"))


def _lines(folder: Path) -> list[dict[str, Any]]:
    text = (folder / "predictions" / "test" / "place.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize(
    ("fairness", "message"),
    [
        (
            "reweighting",
            "`tasks.place.fairness.method` should be a mitigation that Taskloom has. Found `reweighting`. "
            "Did you mean `reweighing`?",
        ),
        (
            {"group": "who"},
            "`tasks.place.fairness.method` should be a mitigation that Taskloom has. Found nothing. "
            "Add `method:` with one of `augmentation`, `balanced_sampling`, `group_dro`, `reweighing`.",
        ),
        (
            {"method": "group_dro"},
            "`tasks.place.fairness.group` should name the data's column of groups for `group_dro`. Found nothing. "
            "Add `group: COLUMN`.",
        ),
        (
            {"method": "group_dro", "group": "who", "step_size": 0, "step": 1},
            "`tasks.place.fairness.step_size` should be more than 0. Found `0`.\n"
            "`tasks.place.fairness.step` should be a key that Taskloom knows. Found `step`. Did you mean `step_size`?",
        ),
        (
            {"method": "augmentation", "swaps": [["he"]]},
            "`tasks.place.fairness.swaps, set 1` should hold two words or more. Found `['he']`.",
        ),
    ],
)
def test_a_wrong_section_is_refused(tiny_encoder: Path, data: Path, fairness: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(fair_values(tiny_encoder, data, fairness))
    assert str(caught.value).replace("config: ", "") == message


def test_strata_beside_paced_items_are_refused(tiny_encoder: Path, data: Path) -> None:
    values = fair_values(tiny_encoder, data, {"method": "balanced_sampling", "group": "who"})
    with pytest.raises(ConfigError) as caught:
        load_config({**values, "curriculum": {"items": {"by": "length"}}})
    assert str(caught.value) == (
        "config: `tasks.place.fairness.method` should leave to `curriculum.items` which rows are drawn. "
        "Found `balanced_sampling`. Leave the task out of `curriculum.items.tasks`, or choose `reweighing` or "
        "`group_dro`."
    )


def changed(data: Path, folder: Path, change: Any) -> Path:
    """Copy a corpus with its training rows changed."""
    shutil.copytree(data, folder)
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    for number, row in enumerate(rows):
        change(number, row)
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def refused(values: dict[str, Any]) -> str:
    with pytest.raises(DataError) as caught:
        prepare(load_config(values))
    return str(caught.value)


def test_a_column_of_groups_that_is_missing_is_refused(tiny_encoder: Path, data: Path) -> None:
    message = refused(fair_values(tiny_encoder, data, {"method": "reweighing", "group": "whom"}))
    assert message == (
        f"`tasks.place.fairness.group` should be a column of `{data}`. Found `whom`; the columns are ['text', 'label', "
        "'who']. Write `group: who`."
    )


def test_rows_without_a_group_are_refused(tiny_encoder: Path, data: Path, tmp_path: Path) -> None:
    folder = changed(data, tmp_path / "data", lambda number, row: row.pop("who") if number in (2, 5) else None)
    message = refused(fair_values(tiny_encoder, folder, {"method": "reweighing", "group": "who"}))
    assert message == (
        "`tasks.place.fairness.group` should be filled in every training row. Found nothing in `who` of 2 of 48 rows, "
        f"the first at {folder / 'train.jsonl'}:3. Fill it, or leave these rows out."
    )


def test_one_group_alone_is_refused(tiny_encoder: Path, data: Path, tmp_path: Path) -> None:
    folder = changed(data, tmp_path / "data", lambda number, row: row.update(who="she"))
    message = refused(fair_values(tiny_encoder, folder, {"method": "group_dro", "group": "who"}))
    assert message == (
        "`tasks.place.fairness.group` should have two groups or more. Found `she` alone in the 48 training rows. "
        "Name another column, or leave out `fairness`."
    )


def test_the_schema_completes_the_section() -> None:
    schema = json_schema()
    text = json.dumps(schema)
    for method in ("reweighing", "balanced_sampling", "group_dro", "augmentation"):
        assert f'"const": "{method}"' in text
    assert "step_size" in text
