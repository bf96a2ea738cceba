"""The run folder: nothing half-written, nothing misread, nobody in each other's way."""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from taskloom import record as record_module
from taskloom.errors import RunFolderError
from taskloom.record import Record, State, append_line, read_lines, write_json, write_text
from taskloom.types import Score

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def run(tmp_path: Path) -> Record:
    return Record.create(tmp_path / "runs" / "first")


def step_line(step: int) -> dict[str, object]:
    tasks = {"intent": {"loss": 0.5, "weight": 1.0, "examples": 8, "tokens": 96}}
    return {"step": step, "loss": 1 / step, "learning_rate": 1e-4, "grad_norm": 1.0, "tasks": tasks}


# Writing.


def test_a_failure_while_writing_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch):
    path = tmp_path / "scores.jsonl"
    write_text(path, "old\n")

    def full_disk(descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(record_module.os, "fsync", full_disk)
    with pytest.raises(OSError, match="no space left"):
        write_text(path, "new\n")
    assert path.read_text() == "old\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["scores.jsonl"]


def test_json_keeps_the_order_of_keys_and_the_letters_of_every_script(tmp_path):
    write_json(tmp_path / "data.json", {"zulu": 1, "alpha": "größer 日本"})
    assert (tmp_path / "data.json").read_text(encoding="utf-8") == '{\n  "zulu": 1,\n  "alpha": "größer 日本"\n}\n'


def test_numbers_that_are_not_finite_become_null_at_any_depth(tmp_path):
    write_json(tmp_path / "x.json", {"a": [math.nan, {"b": math.inf}], "c": (-math.inf, 1.5)})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": [None, {"b": None}], "c": [None, 1.5]}


def test_numbers_of_arrays_are_written_as_plain_numbers(tmp_path):
    numpy = pytest.importorskip("numpy")
    write_json(tmp_path / "x.json", {"a": numpy.float32("nan"), "b": numpy.arange(2), "c": numpy.int64(3)})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": None, "b": [0, 1], "c": 3}


def test_text_that_utf_8_cannot_hold_is_written_and_read_back(tmp_path):
    append_line(tmp_path / "x.jsonl", {"version": 1, "text": "\ud800 and \u2028"})
    assert [row["text"] for row in read_lines(tmp_path / "x.jsonl")] == ["\ud800 and \u2028"]


# Steps and their torn ends.


def test_a_torn_last_line_is_not_read(run):
    run.append_step(step_line(1))
    with run.steps_jsonl.open("ab") as stream:
        stream.write(b'{"version": 1, "step": 2, "lo')
    assert [row["step"] for row in run.steps()] == [1]


def test_a_torn_last_line_is_cut_off_before_the_next_one_is_appended(run):
    run.append_step(step_line(1))
    with run.steps_jsonl.open("ab") as stream:
        stream.write('{"version": 1, "step": 2, "task": "gr\u00f6'.encode()[:-1])
    run.append_step(step_line(2))
    assert [row["step"] for row in run.steps()] == [1, 2]


def test_a_last_line_that_lacks_only_its_newline_is_kept(run):
    run.append_step(step_line(1))
    run.steps_jsonl.write_bytes(run.steps_jsonl.read_bytes().rstrip(b"\n"))
    assert [row["step"] for row in run.steps()] == [1]
    run.append_step(step_line(2))
    assert [row["step"] for row in run.steps()] == [1, 2]


def test_a_resumed_run_has_the_same_bytes_of_steps_as_one_never_killed(tmp_path):
    whole, killed = Record.create(tmp_path / "whole"), Record.create(tmp_path / "killed")
    evaluation = {"step": 2, "evaluation": {"split": "validation", "composite": 0.5, "tasks": {}}}
    for line in (step_line(1), step_line(2), evaluation, step_line(3), step_line(4)):
        whole.append_step(line)
    for line in (step_line(1), step_line(2), evaluation, step_line(3)):
        killed.append_step(line)
    with killed.steps_jsonl.open("ab") as stream:
        stream.write(b'{"version": 1, "st')
    killed.truncate_steps(2)
    assert [row["step"] for row in killed.steps()] == [1, 2, 2]
    for line in (step_line(3), step_line(4)):
        killed.append_step(line)
    assert killed.steps_jsonl.read_bytes() == whole.steps_jsonl.read_bytes()


def test_truncating_a_run_that_wrote_no_steps_makes_no_file(run):
    run.truncate_steps(10)
    run.truncate_decisions(10)
    assert not run.steps_jsonl.exists()
    assert not run.decisions_jsonl.exists()


def decision_line(step: int) -> dict[str, object]:
    return {"step": step, "policy": "rest_converged", "task": "intent", "factor": 0.25, "reason": "`intent` rests."}


def test_decisions_come_back_as_they_were_written_with_their_version(run):
    assert run.decisions() == []
    for step in (10, 20):
        run.append_decision(decision_line(step))
    assert run.decisions() == [{"version": 1, **decision_line(step)} for step in (10, 20)]
    assert run.decisions_jsonl.read_text().startswith('{"version": 1, "step": 10, "policy": "rest_converged", "task"')


def test_a_resumed_run_has_the_same_bytes_of_decisions_as_one_never_killed(tmp_path):
    whole, killed = Record.create(tmp_path / "whole"), Record.create(tmp_path / "killed")
    for step in (10, 20, 20, 30):
        whole.append_decision(decision_line(step))
        killed.append_decision(decision_line(step))
    with killed.decisions_jsonl.open("ab") as stream:
        stream.write(b'{"version": 1, "st')
    killed.truncate_decisions(20)
    assert [row["step"] for row in killed.decisions()] == [10, 20, 20]
    killed.append_decision(decision_line(30))
    assert killed.decisions_jsonl.read_bytes() == whole.decisions_jsonl.read_bytes()
    killed.truncate_decisions(9)
    assert not killed.decisions_jsonl.exists(), "a run that decided nothing yet has no file"


def test_a_decision_of_another_version_is_refused(run):
    run.decisions_jsonl.write_text('{"version": 2, "step": 10}\n')
    with pytest.raises(RunFolderError, match=r"decisions\.jsonl:1: `version` should be `1`\. Found `2`"):
        run.decisions()


def test_a_broken_line_in_the_middle_is_refused_with_its_place(run):
    run.steps_jsonl.write_text('{"version": 1, "step": 1}\nbroken\n{"version": 1, "step": 2}\n')
    with pytest.raises(RunFolderError) as caught:
        run.steps()
    assert str(caught.value) == (
        f"{run.steps_jsonl}:2: `record` should be one JSON object. Found something else. "
        "Something else wrote to it; restore it from a copy, or train again."
    )


# Versions.


def test_a_line_of_another_version_is_refused_with_one_whole_sentence(run):
    run.scores_jsonl.write_text('{"version": 2, "task": "intent"}\n')
    with pytest.raises(RunFolderError) as caught:
        run.scores()
    assert str(caught.value) == (
        f"{run.scores_jsonl}:1: `version` should be `1`. Found `2`. "
        "Read it with the Taskloom that wrote it, or train again with this one."
    )


def test_a_run_of_another_version_is_refused_when_it_is_opened(run):
    write_json(run.state_json, {"version": 7, "status": "finished", "step": 3})
    with pytest.raises(RunFolderError) as caught:
        Record.open(run.folder)
    assert str(caught.value) == (
        f"{run.state_json}: `version` should be `1`. Found `7`. "
        "Read it with the Taskloom that wrote it, or train again with this one."
    )


def test_a_state_that_no_run_can_have_is_refused(run):
    write_json(run.state_json, {"version": 1, "status": "asleep", "step": 3})
    with pytest.raises(RunFolderError, match="should be one of running, interrupted, finished, failed"):
        _ = run.state


# Opening and making.


def test_a_missing_folder_is_answered_with_the_nearest_run_beside_it(run):
    with pytest.raises(RunFolderError) as caught:
        Record.open(run.folder.parent / "frist")
    assert str(caught.value) == (
        f"`{run.folder.parent / 'frist'}` should be a run folder. Found no such folder. Did you mean `first`?"
    )


def test_a_folder_of_runs_is_answered_with_the_runs_inside(run):
    with pytest.raises(RunFolderError) as caught:
        Record.open(run.folder.parent)
    assert str(caught.value).endswith(
        "should be a run folder. Found a folder without `state.json`. Choose one of `first`."
    )


def test_a_file_is_no_run_folder(tmp_path):
    (tmp_path / "notes").write_text("x")
    with pytest.raises(RunFolderError) as caught:
        Record.open(tmp_path / "notes")
    assert str(caught.value) == (
        f"`{tmp_path / 'notes'}` should be a run folder. Found a file. "
        "`taskloom train RUN.yaml --out FOLDER` makes one."
    )


def test_a_folder_with_other_files_is_not_made_a_run_folder(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(RunFolderError, match="a folder with other files in it"):
        Record.create(tmp_path)


def test_making_a_run_that_exists_opens_it(run):
    run.write_state("interrupted", 12)
    assert Record.create(run.folder).state == State("interrupted", 12)


# What is written is read back.


def test_scores_come_back_as_they_were_written(run):
    scores = [
        Score("intent", "test", "accuracy", 0.9, 0.85, 0.94, 200, baseline=0.3),
        Score("intent", "test", "accuracy", 0.8, 0.7, 0.9, 20, group="short"),
        Score("composite", "test", "composite", 0.8, 0.78, 0.82, 400),
    ]
    run.write_scores(scores)
    assert run.scores() == scores
    assert next(read_lines(run.scores_jsonl)) == {"version": 1, **scores[0].as_row()}
    assert run.scores_jsonl.read_text().startswith('{"version": 1, "task": "intent"')


def test_a_score_that_was_not_finite_comes_back_as_nan(run):
    run.write_scores([Score("intent", "test", "mcc", math.nan, math.nan, math.inf, 3)])
    score = run.scores()[0]
    assert all(math.isnan(number) for number in (score.value, score.low, score.high))


def test_predictions_of_a_task_whose_name_is_a_path_stay_in_the_folder(run):
    run.write_predictions("../../glue/rte", "test", [{"row": 0, "prediction": "yes"}])
    path = run.predictions("../../glue/rte", "test")
    assert path.parent == run.folder / "predictions" / "test"
    assert list(read_lines(path)) == [{"version": 1, "row": 0, "prediction": "yes"}]


def test_a_run_that_wrote_nothing_yet_reads_as_empty(run):
    assert (run.steps(), run.scores(), run.data(), run.environment()) == ([], [], {}, {})


# The lock.


def test_two_cannot_train_in_one_folder(run):
    with run.lock(), pytest.raises(RunFolderError) as caught, run.lock():
        pass
    assert str(caught.value) == (
        f"`{run.folder}` should be trained in by one process at a time. "
        f"Found process {os.getpid()} on {socket.gethostname()}. "
        f"Wait for it or stop it; when it is gone for certain, delete `{run.lock_json}`."
    )


def test_the_lock_is_released_also_after_a_failure(run):
    with pytest.raises(ValueError, match="training failed"), run.lock():
        raise ValueError("training failed")
    with run.lock():
        assert run.lock_json.exists()
    assert not run.lock_json.exists()


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_the_lock_of_a_dead_process_is_taken_over(run):
    write_json(run.lock_json, {"version": 1, "pid": dead_pid(), "host": socket.gethostname(), "started": "1"})
    with run.lock():
        assert json.loads(run.lock_json.read_text())["pid"] == os.getpid()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells when a process started")
def test_the_lock_of_an_earlier_process_with_the_same_number_is_taken_over(run):
    write_json(run.lock_json, {"version": 1, "pid": os.getpid(), "host": socket.gethostname(), "started": "1"})
    with run.lock():
        assert json.loads(run.lock_json.read_text())["started"] != "1"


@pytest.mark.parametrize(
    "content", ['{"version": 1, "pid": 1, "host": "elsewhere", "started": "1"}', "", '{"pid": "x"}']
)
def test_a_lock_whose_holder_cannot_be_asked_is_respected(run, content):
    run.lock_json.write_text(content)
    with pytest.raises(RunFolderError, match="one process at a time"), run.lock():
        pass
    assert run.lock_json.read_text() == content


def test_only_one_of_many_takes_over_a_dead_lock(run):
    write_json(run.lock_json, {"version": 1, "pid": dead_pid(), "host": socket.gethostname(), "started": "1"})
    code = (
        "import sys; from taskloom.record import Record\n"
        "from taskloom.errors import RunFolderError\n"
        "try:\n"
        "    with Record(sys.argv[1]).lock(): print('took', flush=True); sys.stdin.read()\n"
        "except RunFolderError: print('refused', flush=True)\n"
    )
    command = [sys.executable, "-c", code, str(run.folder)]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    answers = sorted(process.stdout.readline().strip() for process in processes)
    for process in processes:
        process.communicate()
    assert answers == ["refused", "refused", "refused", "took"]


def test_reading_runs_imports_neither_torch_nor_numpy():
    code = "import sys, taskloom.record; print(sorted({'torch', 'numpy', 'pydantic', 'jinja2'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
