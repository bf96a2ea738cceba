"""A run is watched from its folder alone: torn lines, resumed runs, ends, and an import of nothing heavy."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from taskloom.cli import app
from taskloom.errors import RunFolderError
from taskloom.gradients.conflict import mean_cosine
from taskloom.lock import take_lock
from taskloom.record import Record, write_json
from taskloom.watching.curve import Curve, sparkline
from taskloom.watching.drawing import draw, duration
from taskloom.watching.following import watch
from taskloom.watching.progress import KILLED, Progress
from taskloom.watching.tail import Tail

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def record(tmp_path: Path) -> Record:
    made = Record.create(tmp_path / "runs" / "a")
    made.write_state("running", 0)
    write_json(made.data_json, {"version": 1, "tasks": {}, "updates": 40})
    return made


def step_line(step: int, **more: Any) -> dict[str, Any]:
    held = {"weight": 1.0, "learning_rate": 1e-3}
    tasks = {
        "intent": {"loss": 2.0 / step, "examples": 6, "tokens": 60, **held},
        "slots": {"loss": None if step % 2 else 1.0, "examples": 0 if step % 2 else 2, "tokens": 20, **held},
    }
    speed = {"seconds": 0.5, "tokens_per_second": 160.0}
    return {"step": step, "loss": 1.0, "learning_rate": 1e-4, **speed, "tasks": tasks, **more}


def score_line(step: int, accuracy: float) -> dict[str, Any]:
    tasks = {"intent": {"accuracy": accuracy, "macro_f1": 0.1}, "slots": {"span_f1": 0.5}}
    return {"step": step, "evaluation": {"split": "validation", "composite": accuracy / 2, "tasks": tasks}}


def drawn(progress: Progress, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(draw(progress))
    return console.file.getvalue()  # type: ignore[attr-defined]


# --- reading what is new ------------------------------------------------------------------------------------------


def test_only_new_whole_lines_are_read_and_a_torn_one_when_its_rest_has_come(record: Record) -> None:
    tail = Tail(record.steps_jsonl)
    assert tail.read() == (False, [])
    record.append_step({"step": 1})
    record.append_step({"step": 2})
    assert [row["step"] for row in tail.read()[1]] == [1, 2]
    line = json.dumps({"version": 1, "step": 3}).encode() + b"\n"
    with record.steps_jsonl.open("ab") as stream:
        stream.write(line[:9])
    assert tail.read() == (False, [])
    with record.steps_jsonl.open("ab") as stream:
        stream.write(line[9:])
    assert tail.read() == (False, [{"version": 1, "step": 3}])
    assert tail.read() == (False, [])


def test_what_was_read_before_is_not_read_again(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in range(1, 200):
        record.append_step(step_line(step))
    tail = Tail(record.steps_jsonl)
    tail.read()
    places: list[int] = []

    def noted(held: bytes) -> Any:
        places.append(len(held))
        return original(held)

    original = tail._lines_of
    monkeypatch.setattr(tail, "_lines_of", noted)
    record.append_step({"step": 200})
    assert [row["step"] for row in tail.read()[1]] == [200]
    assert places == [len(b'{"version": 1, "step": 200}\n')]


@pytest.mark.parametrize("again", [0, 3, 12], ids=["shorter", "as before", "longer"])
def test_a_file_that_was_cut_is_read_from_its_start_again(record: Record, again: int) -> None:
    tail = Tail(record.steps_jsonl)
    for step in range(1, 7):
        record.append_step({"step": step, "seconds": 0.25})
    tail.read()
    record.truncate_steps(3)
    for step in range(4, 4 + again):
        record.append_step({"step": step, "seconds": 0.75})
    anew, rows = tail.read()
    assert anew
    assert [row["step"] for row in rows] == list(range(1, 4 + again))
    record.truncate_steps(0)
    assert tail.read() == (True, [])
    assert tail.read() == (False, [])


def test_a_line_that_is_none_of_ours_is_refused_with_its_place(record: Record) -> None:
    record.append_step({"step": 1})
    with record.steps_jsonl.open("a", encoding="utf-8") as stream:
        stream.write('{"version": 9, "step": 2}\n')
    with pytest.raises(RunFolderError) as error:
        Tail(record.steps_jsonl).read()
    fix = "Read it with the Taskloom that wrote it, or train again with this one."
    assert str(error.value) == f"{record.steps_jsonl}:2: `version` should be `1`. Found `9`. {fix}"


# --- summing up ---------------------------------------------------------------------------------------------------


def test_the_numbers_are_those_of_the_lines(record: Record) -> None:
    gramian = [[1.0, -1.0], [-1.0, 4.0]]
    for step in range(1, 13):
        record.append_step(step_line(step))
    record.append_step(score_line(12, 0.25))
    record.append_step(step_line(13, conflict={"tasks": ["intent", "slots"], "gramian": gramian}, skipped=["slots"]))
    record.append_step(score_line(13, 0.5))
    record.append_step(score_line(13, 0.75))  # the best checkpoint, scored again at the end
    with record.lock():
        progress = Progress(record.folder)
        progress.update()
        assert (progress.step, progress.steps, progress.status, progress.phase) == (13, 40, "running", "running")
        assert progress.seconds_left == pytest.approx(0.5 * 27)
        assert progress.tokens_per_second == pytest.approx(160)
        intent, slots = progress.tasks["intent"], progress.tasks["slots"]
        assert intent.loss == pytest.approx(sum(2 / step for step in range(4, 14)) / 10)
        assert (slots.loss, slots.weight, slots.learning_rate) == (1.0, 1.0, 1e-3)
        assert progress.share("intent") == pytest.approx(13 * 6 / (13 * 6 + 6 * 2))
        assert (intent.metric, intent.score, intent.before) == ("accuracy", 0.75, 0.25)
        assert progress.composite == (0.375, 0.125)
        assert progress.conflict == (pytest.approx(-0.5), 1)
        assert progress.skipped == 1


def test_watching_bit_by_bit_shows_what_a_look_at_the_end_shows(record: Record) -> None:
    often = Progress(record.folder)
    for step in range(1, 120):
        record.append_step(step_line(step))
        if not step % 10:
            record.append_step(score_line(step, step / 200))
        if not step % 7:
            often.update()
        if step == 60:  # interrupted and taken up again
            often.update()
            record.truncate_steps(40)
    often.update()
    once = Progress(record.folder)
    once.update()
    assert drawn(often) == drawn(once)


def test_a_killed_run_is_told_from_one_that_runs_and_from_one_that_goes_on(record: Record) -> None:
    progress = Progress(record.folder)
    progress.update()
    assert (progress.status, progress.ended) == (KILLED, True)
    record.write_state("interrupted", 4)
    progress.update()
    assert (progress.status, progress.ended) == ("interrupted", True)
    take_lock(record.lock_json)
    progress.update()
    assert (progress.status, progress.ended) == ("running", False)
    record.append_step(step_line(40))
    progress.update()
    assert progress.phase == "scoring"


def test_a_curve_of_any_length_has_few_points_and_the_mean_of_all() -> None:
    curve = Curve(limit_points=8)
    values = [float(value) for value in range(1000)]
    for value in values:
        curve.add(value)
    points = curve.points()
    assert 4 <= len(points) <= 8
    assert points == sorted(points)
    whole = sum(total for total, _ in curve._points)
    assert whole == sum(values)
    assert sum(count for _, count in curve._points) == 1000


def test_a_sparkline_reaches_from_the_least_to_the_greatest() -> None:
    assert sparkline([0.0, 1.0, 2.0, 3.5, 7.0]) == "▁▂▃▅█"
    assert sparkline([3.0, 3.0]) == "▁▁"
    assert sparkline([]) == ""


def test_the_mean_cosine_is_that_of_the_pairs() -> None:
    assert mean_cosine([[4.0, 2.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 0.0]]) == pytest.approx(1.0)
    assert mean_cosine([[4.0, 2.0, 6.0], [2.0, 4.0, 0.0], [6.0, 0.0, 9.0]]) == pytest.approx((0.5 + 1.0 + 0.0) / 3)
    assert mean_cosine([[1.0]]) != mean_cosine([[1.0]]), "one task has no pair"


def test_a_time_is_written_in_its_unit() -> None:
    assert [duration(each) for each in (12, 600, 9000)] == ["12 s", "10.0 minutes", "2.5 hours"]


# --- drawing ------------------------------------------------------------------------------------------------------


def test_a_frame_shows_status_tasks_scores_conflict_and_the_last_decisions(record: Record) -> None:
    for step in range(1, 11):
        record.append_step(step_line(step))
    record.append_step(score_line(5, 0.25))
    record.append_step(score_line(10, 0.5))
    for step in (2, 4, 6, 8):
        reason = f"[bold]{step}[/bold]"  # shown as it is
        record.append_decision({"step": step, "policy": "replay", "task": "slots", "factor": 0.5, "reason": reason})
    with record.lock():
        progress = Progress(record.folder)
        progress.update()
        lines = drawn(progress).splitlines()
    assert lines[0].endswith("  running")
    assert lines[1] == "step 10 of 40  about 15 s left  160 tokens/s  learning rate 0.0001"
    assert " ".join(lines[3].split()) == "task loss over the run weight share rate score change metric"
    assert lines[4].split() == ["intent", "0.586", "█▄▃▂▂▂▁▁▁▁", "1.00", "86%", "0.001", "0.500", "+0.250", "accuracy"]
    assert lines[5].split() == ["slots", "1.000", "▁▁▁▁▁", "1.00", "14%", "0.001", "0.500", "+0.000", "span_f1"]
    assert lines[7:] == [
        "composite 0.250 (+0.125)",
        "step 4  replay  slots: [bold]4[/bold]",
        "step 6  replay  slots: [bold]6[/bold]",
        "step 8  replay  slots: [bold]8[/bold]",
    ]


def test_a_run_that_has_written_nothing_yet_can_be_watched(record: Record) -> None:
    progress = Progress(record.folder)
    progress.update()
    assert drawn(progress).splitlines()[1] == "step 0 of 40"


# --- the command --------------------------------------------------------------------------------------------------


def test_the_command_draws_once_into_a_pipe(tiny_run: Path) -> None:
    for arguments in (["watch", str(tiny_run)], ["watch", str(tiny_run), "--once"]):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        lines = result.output.splitlines()
        assert lines[0] == f"{tiny_run}  finished"
        assert lines[1].startswith("step 4 of 4  ")
        shown = {line.split()[0]: line.split() for line in lines if line}
        steps = [row for row in Record(tiny_run).steps() if "tasks" in row]
        assert shown["urgency"][3] == f"{steps[-1]['tasks']['urgency']['weight']:.2f}"
        assert shown["urgency"][5] == f"{steps[-1]['tasks']['urgency']['learning_rate']:.2g}"
        assert shown["urgency"][-1] == "pearson"


def test_a_folder_that_is_not_there_is_refused_where_it_draws_once(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError) as error:
        watch(tmp_path / "none", Console(file=io.StringIO()))
    fix = "`taskloom train RUN.yaml --out FOLDER` makes one."
    assert str(error.value) == f"`{tmp_path / 'none'}` should be a run folder. Found no such folder. {fix}"


def on_terminal(folder: Path, act: Callable[[], None]) -> str:
    """Watch on a terminal while something happens; gives what it drew when it has ended by itself."""
    console = Console(file=io.StringIO(), force_terminal=True, width=120, highlight=False)
    thread = threading.Thread(target=watch, args=(folder, console), kwargs={"seconds": 0.02})
    thread.start()
    act()
    thread.join(timeout=10)
    assert not thread.is_alive()
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_terminal_waits_for_a_run_to_begin_and_follows_it_to_its_end(tmp_path: Path) -> None:
    folder = tmp_path / "later"

    def act() -> None:
        time.sleep(0.1)
        record = Record.create(folder)
        with record.lock():
            for step in range(1, 4):
                record.append_step(step_line(step))
                time.sleep(0.05)
            record.write_state("finished", 3)

    shown = on_terminal(folder, act)
    # A long path is broken by the terminal's width.
    assert "".join(f"Waiting for {folder} to begin; Ctrl-C ends the watch.".split()) in "".join(shown.split())
    assert "step 1" in shown
    last = shown.rpartition(str(folder))[2]
    assert "finished" in last
    assert "step 3" in last


def test_the_watch_of_a_killed_run_ends(record: Record) -> None:
    record.append_step(step_line(1))
    assert "killed" in on_terminal(record.folder, lambda: None)


def test_ctrl_c_ends_the_watch_with_130(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("taskloom.cli.watching.watch", interrupted)
    assert CliRunner().invoke(app, ["watch", str(record.folder)]).exit_code == 130


def test_watching_imports_no_heavy_library_and_no_metric_of_the_run(record: Record, tmp_path: Path) -> None:
    record.append_step(step_line(1))
    tasks = {"intent": {"planted:Metric": 0.5}}
    record.append_step({"step": 1, "evaluation": {"split": "validation", "composite": 0.5, "tasks": tasks}})
    (tmp_path / "planted.py").write_text("raise SystemExit(3)", encoding="utf-8")
    code = "import atexit, sys; atexit.register(lambda: print('loaded:', *sys.modules)); "
    code += "from taskloom.cli import main; main()"
    command = [sys.executable, "-c", code, "watch", str(record.folder)]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    shown, _, loaded = done.stdout.partition("loaded:")
    assert "planted:Metric" in shown
    assert not {"torch", "transformers", "numpy", "scipy", "datasets", "peft", "planted"} & set(loaded.split())
