"""An unfinished run goes on with what it began with; what changed is named and refused, or accepted and noted."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from transformers import TrainerCallback

import taskloom.fingerprint
import taskloom.reports
from taskloom.config.document import dump
from taskloom.config.schema import ModelSection
from taskloom.errors import InterruptedRunError, RunFolderError
from taskloom.fingerprint import rows_digest
from taskloom.model import identity
from taskloom.model.identity import file_identity
from taskloom.record import Record
from taskloom.run import train

STOPPED_AT = 2

OWN = '''"""A task of the user's own."""

from taskloom.tasks.classification import Classification


class Mine(Classification):
    """Choose one label, my way."""

    scale = 1.0
'''


@pytest.fixture(scope="module")
def interrupted(tiny_encoder: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, an encoder and a run that was stopped in its second step; copy it before you change it."""
    home = tmp_path_factory.mktemp("home")
    for name in ("intent", "urgency"):
        shutil.copytree(tiny_data / name, home / "data" / name)
    shutil.copytree(tiny_encoder, home / "encoder")
    with pytest.raises(InterruptedRunError):
        train(values_of(home), home / "run", callbacks=[Stop(STOPPED_AT)])
    return home


@pytest.fixture
def home(interrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of one's own, from whose paths the run is not told apart."""
    copied = Path(shutil.copytree(interrupted, tmp_path / "home"))
    run_yaml = copied / "run" / "run.yaml"
    run_yaml.write_text(run_yaml.read_text().replace(str(interrupted), str(copied)))
    monkeypatch.setattr(taskloom.reports, "report", lambda folders: None)
    return copied


class Stop(TrainerCallback):
    """Stops a run after a step as Ctrl-C does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step + 1 == self.step:
            os.kill(os.getpid(), signal.SIGINT)


def values_of(home: Path) -> dict[str, Any]:
    lora = {"type": "lora", "r": 4, "target_modules": "all-linear"}
    kinds = {"intent": "classification", "urgency": "regression"}
    short = {"max_steps": 4, "per_device_train_batch_size": 4, "eval_strategy": "no", "save_steps": 1}
    tasks: dict[str, dict[str, Any]] = {
        name: {"type": kind, "data": str(home / "data" / name), "max_length": 64} for name, kind in kinds.items()
    }
    tasks["intent"]["limit_rows"] = 20
    return {
        "model": {"name_or_path": str(home / "encoder"), "adapter": lora},
        "tasks": tasks,
        "training": short,
        "evaluation": {"resamples": 100},
    }


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def going_on(home: Path, values: dict[str, Any] | None = None, **options: Any) -> str:
    """Call the run again; gives what it says before its first step."""
    said = io.StringIO()
    console = Console(file=said, width=400)
    train(values or values_of(home), home / "run", console=console, **options)
    return said.getvalue()


def refusal(home: Path, values: dict[str, Any] | None = None, **options: Any) -> list[str]:
    """Give the changes that the run is refused for, and hold it to have written nothing."""
    before = files(home / "run")
    with pytest.raises(RunFolderError) as raised:
        train(values or values_of(home), home / "run", **options)
    assert files(home / "run") == before
    head, *changes = str(raised.value).splitlines()
    count = f"{len(changes)} change{'s' * (len(changes) != 1)}"
    assert head == (
        f"`--out {home}/run` should go on with what the run began with. Found {count}. Bring back what changed, go on "
        "all the same by `--accept-changes`, or name another folder."
    )
    return changes


def accepted(home: Path, notes: list[str]) -> None:
    """Accept the changes of a run, and hold it to say and to write them."""
    lines = Record(home / "run").fingerprint_jsonl.read_text().splitlines()
    said = going_on(home, accept_changes=True)
    assert [line for line in said.splitlines() if line.startswith("warning")] == [
        f"warning: going on with a change: {note}" for note in notes
    ]
    assert f"going on from step {STOPPED_AT} of 4" in said
    assert Record.open(home / "run").state.status == "finished"
    first, second = map(json.loads, Record(home / "run").fingerprint_jsonl.read_text().splitlines())
    assert [json.dumps(first)] == [json.dumps(json.loads(line)) for line in lines]
    assert (first["step"], first["changed"]) == (0, [])
    assert (second["step"], second["changed"]) == (STOPPED_AT, notes)
    told = ("step", "changed")
    assert {key: first[key] for key in first if key not in told} != {
        key: second[key] for key in second if key not in told
    }


def change_rows(home: Path, task: str, split: str, change: Callable[[list[dict[str, Any]]], Any]) -> None:
    path = home / "data" / task / f"{split}.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    change(rows)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


# --- nothing changed ----------------------------------------------------------------------------------------------


def test_a_run_to_which_nothing_happened_goes_on_without_a_word(home: Path) -> None:
    before = Record(home / "run").fingerprint_jsonl.read_bytes()
    said = going_on(home)
    assert said.startswith(f"going on from step {STOPPED_AT} of 4")
    assert "warning" not in said
    assert Record(home / "run").fingerprint_jsonl.read_bytes() == before
    assert Record.open(home / "run").state.status == "finished"


def test_accepting_changes_where_there_are_none_changes_nothing(home: Path) -> None:
    before = Record(home / "run").fingerprint_jsonl.read_bytes()
    assert "warning" not in going_on(home, accept_changes=True)
    assert Record(home / "run").fingerprint_jsonl.read_bytes() == before


def test_files_written_anew_with_the_same_rows_are_no_change(home: Path) -> None:
    """Neither the time of a file counts, nor the order of a row's keys, nor columns that no task reads."""

    def turn(rows: list[dict[str, Any]]) -> None:
        rows[:] = [{"number": number, **dict(reversed(row.items()))} for number, row in enumerate(rows)]

    change_rows(home, "intent", "train", turn)
    change_rows(home, "intent", "train", lambda rows: rows[39].update(text="Beyond the rows that are used."))
    assert "warning" not in going_on(home)


def test_a_finished_run_is_finished_whatever_changed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    going_on(home)
    change_rows(home, "intent", "train", list.reverse)
    monkeypatch.setattr(taskloom.fingerprint, "version_of", lambda package: "99")
    (home / "run" / "report.html").write_text("a page")
    assert going_on(home) == f"{home}/run is finished already; nothing to do.\n"


def test_a_run_file_written_before_a_key_was_known_is_the_same_run(home: Path) -> None:
    going_on(home)
    written = home / "run" / "run.yaml"
    text = written.read_text()
    assert "  head_experts: null\n" in text
    written.write_text(text.replace("  head_experts: null\n", ""))
    (home / "run" / "report.html").write_text("a page")
    assert going_on(home) == f"{home}/run is finished already; nothing to do.\n"


# --- what changed is named, refused, and accepted where asked for -------------------------------------------------


def test_a_changed_row_is_refused_by_task_and_split(home: Path) -> None:
    change_rows(home, "intent", "train", lambda rows: rows[3].update(text="Where is my parcel?"))
    assert refusal(home) == [
        "`tasks.intent.data` should give the train rows that the run began with. "
        "Found other train rows (20, as before)."
    ]
    accepted(home, ["tasks.intent.data: other train rows (20, as before)"])


def test_rows_in_another_order_are_refused_as_such(home: Path) -> None:
    change_rows(home, "urgency", "train", lambda rows: random.Random(0).shuffle(rows))
    assert refusal(home) == [
        "`tasks.urgency.data` should give the train rows that the run began with. "
        "Found the same 40 train rows in another order."
    ]
    accepted(home, ["tasks.urgency.data: the same 40 train rows in another order"])


def test_every_split_that_changed_is_named(home: Path) -> None:
    change_rows(home, "urgency", "validation", lambda rows: rows.pop())
    change_rows(home, "intent", "test", lambda rows: rows[0].update(text="Where is my parcel?"))
    assert refusal(home) == [
        "`tasks.intent.data` should give the test rows that the run began with. Found other test rows (16, as before).",
        "`tasks.urgency.data` should give the validation rows that the run began with. "
        "Found 11 validation rows where there were 12.",
    ]


def test_labels_learned_from_rows_beyond_the_limit_are_told(home: Path) -> None:
    change_rows(home, "intent", "train", lambda rows: rows[39].update(label="a label that is new"))
    assert refusal(home) == [
        "`tasks.intent.data` should teach the labels or numbers that the run began with. Found others."
    ]


def test_another_tokenizer_is_refused(home: Path) -> None:
    path = home / "encoder" / "tokenizer.json"
    held = json.loads(path.read_text())
    held["normalizer"]["lowercase"] = False
    path.write_text(json.dumps(held))
    assert refusal(home) == [
        "`model.name_or_path` should bring the tokenizer that the run began with. Found another tokenizer."
    ]
    accepted(home, ["model.name_or_path: another tokenizer"])


def test_other_weights_of_the_same_size_and_time_are_refused(home: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = home / "encoder" / "model.safetensors"
    weights, before = load_file(path), path.stat()
    weights["embeddings.word_embeddings.weight"][7] += 1e-3
    save_file(weights, path, metadata={"format": "pt"})
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert refusal(home) == [
        "`model.name_or_path` should bring the `model.safetensors` that the run began with. "
        "Found another `model.safetensors`."
    ]
    accepted(home, ["model.name_or_path: another `model.safetensors`"])


def test_another_version_of_a_package_is_refused_with_both(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = taskloom.fingerprint.version_of
    versions = {"torch": "99.1", "peft": None}
    monkeypatch.setattr(taskloom.fingerprint, "version_of", lambda package: versions.get(package, original(package)))
    torch, peft = original("torch"), original("peft")
    assert refusal(home) == [
        f"`torch` should be of the version that the run began with. Found 99.1 instead of {torch}.",
        f"`peft` should be of the version that the run began with. Found none instead of {peft}.",
    ]
    accepted(home, [f"torch: 99.1 instead of {torch}", f"peft: none instead of {peft}"])


def test_the_users_own_code_is_told_by_its_source(
    interrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    source = tmp_path / "own_tasks.py"
    source.write_text(OWN)
    values = values_of(interrupted)
    values["tasks"]["intent"]["type"] = "own_tasks:Mine"
    with pytest.raises(InterruptedRunError):
        train(values, tmp_path / "run", callbacks=[Stop(STOPPED_AT)])
    source.write_text(OWN.replace("1.0", "2.0"))
    assert refusal(tmp_path, values) == [
        "`tasks.intent.type` should name a class with the source that the run began with. Found another source."
    ]
    source.write_text(OWN)
    assert "warning" not in going_on(tmp_path, values)


def test_rows_in_memory_are_told_by_split_as_files_are(interrupted: Path, tmp_path: Path) -> None:
    values = values_of(interrupted)
    values["tasks"]["intent"]["data"] = "memory"
    splits = {}
    for split in ("train", "validation", "test"):
        text = (interrupted / "data" / "intent" / f"{split}.jsonl").read_text()
        splits[split] = [json.loads(line) for line in text.splitlines()]
    with pytest.raises(InterruptedRunError):
        train(values, tmp_path / "run", rows={"intent": splits}, callbacks=[Stop(STOPPED_AT)])
    other = {**splits, "test": splits["test"][1:]}
    changes = refusal(tmp_path, values, rows={"intent": other})
    found = "15 test rows where there were 16"
    assert changes == [f"`tasks.intent.data` should give the test rows that the run began with. Found {found}."]
    said = going_on(tmp_path, values, rows={"intent": other}, accept_changes=True)
    assert f"warning: going on with a change: tasks.intent.data: {found}" in said
    with pytest.raises(RunFolderError, match=r"should hold this run, with `tasks\.intent\.data: memory:"):
        train(values, tmp_path / "run", rows={"intent": splits})
    assert going_on(tmp_path, values, rows={"intent": other}) == f"{tmp_path}/run is finished already; nothing to do.\n"


def test_what_was_accepted_is_what_the_run_is_held_to_next(home: Path) -> None:
    change_rows(home, "intent", "train", lambda rows: rows[3].update(text="Where is my parcel?"))
    with pytest.raises(InterruptedRunError):
        train(values_of(home), home / "run", accept_changes=True, callbacks=[Stop(3)])
    change_rows(home, "intent", "train", lambda rows: rows[3].update(text="Where is my order?"))
    assert len(refusal(home)) == 1
    change_rows(home, "intent", "train", lambda rows: rows[3].update(text="Where is my parcel?"))
    assert "warning" not in going_on(home)
    steps = [json.loads(line)["step"] for line in Record(home / "run").fingerprint_jsonl.read_text().splitlines()]
    assert steps == [0, STOPPED_AT]


def test_a_run_whose_fingerprint_is_lost_goes_on_only_where_that_is_accepted(home: Path) -> None:
    path = Record(home / "run").fingerprint_jsonl
    before = path.read_text()
    path.unlink()
    missing = "no line that does, so that nobody can tell whether data, tokenizer and packages are the same"
    assert refusal(home) == [f"`fingerprint.jsonl` should say what the run began with. Found {missing}."]
    assert f"warning: going on with a change: fingerprint.jsonl: {missing}" in going_on(home, accept_changes=True)
    now = json.loads(path.read_text())
    assert (now["step"], now["tasks"]) == (STOPPED_AT, json.loads(before)["tasks"])


def test_the_command_takes_the_flag(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from taskloom.cli import commands, main

    (home / "run.yaml").write_text(dump(values_of(home)))
    change_rows(home, "intent", "train", list.reverse)
    monkeypatch.setattr(commands, "console", Console(highlight=False, width=400))
    monkeypatch.setattr(sys, "argv", ["taskloom", "train", str(home / "run.yaml"), "--out", str(home / "run")])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert "other train rows (20, as before)" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--accept-changes"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert not caught.value.code
    assert "warning: going on with a change: tasks.intent.data: other train rows" in capsys.readouterr().out


# --- what it is made of -------------------------------------------------------------------------------------------


def test_a_backbone_of_the_hub_is_told_by_its_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    section = ModelSection(name_or_path="someone/encoder", revision="main")
    config = SimpleNamespace(_commit_hash="abc")
    monkeypatch.setattr(identity, "check_backbone", lambda section: config)
    first = identity.backbone_identity(section)
    config._commit_hash = "def"
    (change,) = taskloom.fingerprint._in_backbone(first, identity.backbone_identity(section))
    assert str(change.fault) == (
        "`model.name_or_path` should stay at the commit `abc` of the hub. Found commit `def`."
    )  # fmt: skip


def test_a_large_file_is_told_by_blocks_spread_over_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights"
    content = bytearray(range(256)) * 40
    path.write_bytes(content)
    assert file_identity(path) == hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(identity, "LIMIT_WHOLE_BYTES", 1000)
    monkeypatch.setattr(identity, "BLOCKS", 4)
    monkeypatch.setattr(identity, "BLOCK_BYTES", 100)
    held = file_identity(path)
    for place in (0, len(content) // 3, len(content) - 1):
        changed = bytearray(content)
        changed[place] ^= 1
        path.write_bytes(changed)
        assert file_identity(path) != held, place
    path.write_bytes(content + content[-1:])
    assert file_identity(path) != held


@given(st.lists(st.integers(0, 3), min_size=1, max_size=6), st.randoms())
def test_a_digest_tells_order_from_content(numbers: list[int], random: Any) -> None:
    rows = [{"text": f"row {number}", "label": number} for number in numbers]
    turned = list(rows)
    random.shuffle(turned)
    one, other = rows_digest(rows), rows_digest(turned)
    assert one["unordered"] == other["unordered"]
    assert (one["ordered"] == other["ordered"]) == (rows == turned)
    assert rows_digest([*rows, {"text": "one more"}])["unordered"] != one["unordered"]
    assert rows_digest(deepcopy(rows)) == one


def test_digests_cost_a_second_for_a_hundred_thousand_rows_at_most() -> None:
    rows = [{"text": f"message {number} " * 8, "label": number % 7} for number in range(20_000)]
    seconds = []
    for _ in range(5):
        started = time.process_time()
        rows_digest(rows)
        seconds.append(time.process_time() - started)
    assert min(seconds) < 0.2
