"""The command line, command by command, in this process."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import taskloom
from taskloom.balance import BALANCES
from taskloom.cli import main
from taskloom.config.document import dump
from taskloom.metrics import METRICS
from taskloom.mixture import MIXTURES
from taskloom.policy import POLICIES
from taskloom.record import Record
from taskloom.tasks import TASKS


class Said(str):
    """What a command wrote to standard output, with what it wrote to standard error."""

    err: str


@pytest.fixture
def taskloom_(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Call `taskloom`, hold it to its exit code, and give what it said."""
    monkeypatch.setenv("COLUMNS", "200")
    from taskloom.cli import commands

    monkeypatch.setattr(commands, "console", Console(highlight=False))

    def call(*arguments: object, code: int = 0) -> Said:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["taskloom", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        told = capsys.readouterr()
        assert (caught.value.code or 0) == code, told.err or told.out
        said = Said(told.out)
        said.err = told.err
        return said

    return call


@pytest.fixture
def run_yaml(run_values: dict[str, Any], tmp_path: Path) -> Path:
    """A run file of two tasks in two steps."""
    run_values["tasks"] = {name: run_values["tasks"][name] for name in ("intent", "urgency")}
    run_values["training"] |= {"per_device_train_batch_size": 4, "max_steps": 2, "eval_steps": 1}
    path = tmp_path / "run.yaml"
    path.write_text(dump(run_values), encoding="utf-8")
    return path


@pytest.fixture
def finished(tiny_run: Path, tmp_path: Path) -> Path:
    """A finished run of one's own."""
    return Path(shutil.copytree(tiny_run, tmp_path / "finished"))


# --- what needs no run --------------------------------------------------------------------------------------------


def test_version_is_that_of_the_package(taskloom_: Callable[..., Said]) -> None:
    assert taskloom_("--version") == f"taskloom {taskloom.__version__}\n"


def test_help_names_every_command(taskloom_: Callable[..., Said]) -> None:
    said = taskloom_("--help")
    names = ["check", "doctor", "evaluate", "list", "predict", "preview", "quickstart", "report", "schema", "train"]
    assert [name for name in names if f"\n  {name} " in said] == names


def test_a_wrong_command_is_a_fault_of_the_user(taskloom_: Callable[..., Said]) -> None:
    assert "No such command 'trian'" in taskloom_("trian", code=2).err
    assert "Missing argument 'RUN.yaml'" in taskloom_("train", code=2).err
    assert "No such option: --outt" in taskloom_("train", "run.yaml", "--outt", "x", code=2).err


def test_list_shows_every_method_with_its_sentence(taskloom_: Callable[..., Said]) -> None:
    said = taskloom_("list")
    for room in (TASKS, METRICS, MIXTURES, BALANCES, POLICIES):
        for name in room.names():
            assert f"{name} " in said
            assert room.summary(name)
            assert room.summary(name) in said


def test_list_shows_one_room(taskloom_: Callable[..., Said]) -> None:
    said = taskloom_("list", "metrics")
    assert "macro_f1" in said
    assert "token_classification" not in said
    assert (
        taskloom_("list", "metric", code=2).err
        == "`metric` should be a room. Found `metric`. Did you mean `metrics`?\n"
    )


def test_doctor_shows_versions_and_extras(taskloom_: Callable[..., Said]) -> None:
    said = taskloom_("doctor")
    extras = ("extra offline", "extra report", "extra balance", "extra track")
    for word in ("python", "torch", "transformers", "peft", "device", *extras):
        assert word in said
    assert "offline        True" in said


def test_doctor_says_how_to_get_an_absent_extra(
    taskloom_: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    from taskloom.cli import commands

    monkeypatch.setattr(commands, "version_of", lambda package: None)
    said = taskloom_("doctor")
    assert "vl-convert-python absent; `pip install 'taskloom[report]'` gives charts in the report" in said


def test_schema_is_json(taskloom_: Callable[..., Said]) -> None:
    schema = json.loads(taskloom_("schema"))
    assert schema["required"] == ["model", "tasks"]
    assert schema["$schema"].startswith("https://json-schema.org/")


def test_quickstart_writes_a_corpus_and_a_run_that_passes_its_check(
    taskloom_: Callable[..., Said], tmp_path: Path, tiny_encoder: Path
) -> None:
    folder = tmp_path / "desk"
    said = taskloom_("quickstart", "--write", folder)
    assert said == f"wrote {folder}; go on with `taskloom train {folder}/run.yaml`\n"
    limits = ["--set", "tasks.answer.max_length=128"]
    for name in ("intent", "slots", "urgency", "similarity", "topics", "reply"):
        limits += ["--set", f"tasks.{name}.max_length=128", "--set", f"tasks.{name}.limit_rows=20"]
    limits += ["--set", "tasks.answer.limit_rows=20"]
    checked = taskloom_("check", folder / "run.yaml", "--set", f"model.name_or_path={tiny_encoder}", *limits)
    assert "150 optimizer steps of 28 rows" in checked


# --- before training ----------------------------------------------------------------------------------------------


def test_check_shows_the_data_of_every_task_and_writes_nothing(
    taskloom_: Callable[..., Said], run_yaml: Path, tmp_path: Path
) -> None:
    said = taskloom_("check", run_yaml)
    rows = {line.split()[0]: line.split() for line in reversed(said.splitlines()) if line}
    assert rows["intent"][1:6] == ["classification", "40", "12", "16", "0"]
    assert rows["urgency"][1:6] == ["regression", "40", "12", "16", "0"]
    assert "labels of intent: " in said
    assert "2 optimizer steps of 4 rows" in said
    assert "padding: " in said
    assert [path.name for path in tmp_path.iterdir()] == ["run.yaml"]


def test_check_takes_keys_from_set(taskloom_: Callable[..., Said], run_yaml: Path) -> None:
    said = taskloom_("check", run_yaml, "--set", "training.max_steps=7", "--set", "tasks.intent.limit_rows=10")
    assert "7 optimizer steps of 4 rows" in said
    assert " 10 " in next(line for line in said.splitlines() if line.startswith("intent"))
    assert taskloom_("check", run_yaml, "--set", "training.max_step=7", code=2).err == (
        "--set: `training.max_step` should be a key that Taskloom knows. Found `max_step`. Did you mean `max_steps`?\n"
    )


def test_preview_shows_rows_as_the_model_reads_them(taskloom_: Callable[..., Said], run_yaml: Path) -> None:
    said = taskloom_("preview", run_yaml, "--rows", "3")
    assert said.count("  reads   [CLS] ") == 6
    assert said.count("  trains  ") == 6
    assert "intent  " in said
    assert "train.jsonl:3" in said


def test_a_rehearsal_measures_and_keeps_nothing(
    taskloom_: Callable[..., Said], run_yaml: Path, tmp_path: Path
) -> None:  # fmt: skip
    said = taskloom_("train", run_yaml, "--dry-run", "--out", tmp_path / "out")
    for words in ("parameters: ", "longest step: ", "save and load: ", "most memory: ", "the run: 2 steps, about "):
        assert words in said
    assert not (tmp_path / "out").exists()


# --- training -----------------------------------------------------------------------------------------------------


def test_train_writes_a_finished_run_and_shows_its_scores(
    taskloom_: Callable[..., Said], run_yaml: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    said = taskloom_("train", run_yaml, "--out", out)
    assert Record.open(out).state.status == "finished"
    assert "step 2/2" in said
    assert "tasks beat their baseline outside the interval." in said
    assert f"Report: {out}/report.html" in said
    assert (out / "report.html").is_file()

    again = taskloom_("train", run_yaml, "--out", out)
    assert f"{out} is finished already; nothing to do." in again

    other = taskloom_("train", run_yaml, "--out", out, "--set", "training.max_steps=3", code=2)
    assert other.err == (
        f"`--out {out}` should hold this run, with `training.max_steps: 3`. Found `training.max_steps: 2`. "
        f"Name another folder, or delete `{out}` to begin anew.\n"
    )
    assert Record.open(out).state.status == "finished"


def test_train_names_its_folder_after_the_run_file(
    taskloom_: Callable[..., Said], run_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_yaml.rename(tmp_path / "desk.yaml")
    taskloom_("train", "desk.yaml", "--set", "training.max_steps=1", "--set", "training.eval_strategy=no")
    assert Record.open(tmp_path / "runs" / "desk").state.status == "finished"


def test_train_leaves_a_folder_of_other_things_alone(
    taskloom_: Callable[..., Said], run_yaml: Path, tmp_path: Path
) -> None:  # fmt: skip
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    assert taskloom_("train", run_yaml, "--out", tmp_path / "out", code=2).err == (
        f"`{tmp_path}/out` should be a run folder, or a folder to be made. Found a folder with other files in it. "
        "Name a new folder, so that nothing of yours is written over.\n"
    )
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]


# --- after training -----------------------------------------------------------------------------------------------


def test_evaluate_gives_the_same_scores_again(taskloom_: Callable[..., Said], finished: Path) -> None:
    before = (finished / "scores.jsonl").read_bytes()
    said = taskloom_("evaluate", finished)
    assert "similarity" in said
    assert (finished / "scores.jsonl").read_bytes() == before


def test_evaluate_scores_other_splits(taskloom_: Callable[..., Said], finished: Path) -> None:
    said = taskloom_("evaluate", finished, "--split", "validation")
    assert "intent (validation)" in said
    assert (finished / "predictions" / "validation" / "intent.jsonl").is_file()
    assert taskloom_("evaluate", finished, "--split", "tset", code=2).err == (
        "`--split` should be train, validation or test. Found `tset`. Did you mean `test`?\n"
    )


def test_a_run_folder_that_is_none_is_answered_with_the_nearest(
    taskloom_: Callable[..., Said], finished: Path
) -> None:  # fmt: skip
    wrong = finished.with_name("finishd")
    message = f"`{wrong}` should be a run folder. Found no such folder. Did you mean `finished`?\n"
    for command in (["evaluate", wrong], ["predict", wrong, "intent", "x"], ["report", wrong]):
        assert taskloom_(*command, code=2).err == message


def rows_of(said: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said.splitlines()]


def test_predict_answers_one_text(taskloom_: Callable[..., Said], finished: Path) -> None:
    (answer,) = rows_of(taskloom_("predict", finished, "intent", "I lost my card"))
    assert answer["prediction"] in answer["probabilities"]
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    (tags,) = rows_of(taskloom_("predict", finished, "slots", "I lost my card"))
    assert len(tags["prediction"]) == 4


def test_predict_answers_a_file_of_rows(
    taskloom_: Callable[..., Said], finished: Path, tiny_data: Path, tmp_path: Path
) -> None:
    file = tiny_data / "intent" / "test.jsonl"
    answers = rows_of(taskloom_("predict", finished, "intent", file))
    saved = rows_of((finished / "predictions" / "test" / "intent.jsonl").read_text(encoding="utf-8"))
    assert [answer["prediction"] for answer in answers] == [row["prediction"] for row in saved]
    out = tmp_path / "answers.jsonl"
    assert taskloom_("predict", finished, "intent", file, "--out", out) == ""
    assert rows_of(out.read_text(encoding="utf-8")) == answers


@pytest.mark.parametrize("name", ["answer", "reply", "similarity", "slots", "topics", "urgency"])
def test_predict_needs_no_answers_in_the_rows(
    name: str, taskloom_: Callable[..., Said], finished: Path, tiny_data: Path, tmp_path: Path
) -> None:
    rows = rows_of((tiny_data / name / "test.jsonl").read_text(encoding="utf-8"))[:3]
    asked = [{key: row[key] for key in row if key not in {"label", "labels", "tags", "answers"}} for row in rows]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked), encoding="utf-8")
    assert len(rows_of(taskloom_("predict", finished, name, tmp_path / "rows.jsonl"))) == 3


def test_predict_reads_standard_input(
    taskloom_: Callable[..., Said], finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = '{"text": "I lost my card"}\n{"text": "where is my order"}\n'
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(rows.encode())))
    answers = rows_of(taskloom_("predict", finished, "intent", "-"))
    (first,) = rows_of(taskloom_("predict", finished, "intent", "I lost my card"))
    assert len(answers) == 2
    assert answers[0] == first


def test_predict_reads_the_columns_that_the_run_was_trained_on(
    taskloom_: Callable[..., Said], run_yaml: Path, tiny_data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "renamed"
    folder.mkdir()
    for split in ("train", "validation", "test"):
        rows = rows_of((tiny_data / "intent" / f"{split}.jsonl").read_text(encoding="utf-8"))
        text = "".join(json.dumps({"message": {"body": row["text"]}, "goal": row["label"]}) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    columns = "tasks.intent.columns={text: message.body, label: goal}"
    short = ["--set", "training.max_steps=1", "--set", "training.eval_strategy=no"]
    taskloom_(
        "train", run_yaml, "--out", tmp_path / "out", "--set", f"tasks.intent.data={folder}", "--set", columns, *short
    )
    assert len(rows_of(taskloom_("predict", tmp_path / "out", "intent", folder / "test.jsonl"))) == 16
    # Rows under the task's own names are read as well.
    (tmp_path / "rows.jsonl").write_text('{"text": "I lost my card"}\n', encoding="utf-8")
    assert len(rows_of(taskloom_("predict", tmp_path / "out", "intent", tmp_path / "rows.jsonl"))) == 1


def test_predict_refuses_a_task_that_the_run_has_not(
    taskloom_: Callable[..., Said], finished: Path, tiny_data: Path
) -> None:  # fmt: skip
    message = "`intnt` should be a task of the run. Found `intnt`. Did you mean `intent`?\n"
    assert taskloom_("predict", finished, "intnt", "a text", code=2).err == message
    assert taskloom_("predict", finished, "intnt", tiny_data / "intent" / "test.jsonl", code=2).err == message


def test_predict_refuses_rows_without_a_column(
    taskloom_: Callable[..., Said], finished: Path, tmp_path: Path
) -> None:  # fmt: skip
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n{"txt": "b"}\n', encoding="utf-8")
    assert taskloom_("predict", finished, "intent", tmp_path / "rows.jsonl", code=2).err == (
        "`row 2` should have `text`. Found the columns ['txt'].\n"
    )


def test_predict_refuses_a_text_where_rows_of_several_columns_are_needed(
    taskloom_: Callable[..., Said], finished: Path
) -> None:
    assert taskloom_("predict", finished, "answer", "who?", code=2).err == (
        "`source` should be a file of rows with `question`, `context`. Found `who?`. "
        "Write a .jsonl file, or give rows on `-`.\n"
    )


def test_predict_refuses_a_file_that_is_missing(
    taskloom_: Callable[..., Said], finished: Path, tmp_path: Path
) -> None:  # fmt: skip
    assert taskloom_("predict", finished, "intent", tmp_path / "rows.jsonl", code=2).err == (
        f"`source` should be a file that exists, or a text. Found `{tmp_path}/rows.jsonl`. Check the path.\n"
    )


def test_report_writes_one_page(taskloom_: Callable[..., Said], finished: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert taskloom_("report", finished, "--out", page) == f"wrote {page}\n"
    assert "<html" in page.read_text(encoding="utf-8")
    (finished / "report.html").unlink()
    assert taskloom_("report", finished) == f"wrote {finished}/report.html\n"


# --- faults -------------------------------------------------------------------------------------------------------


def test_debug_shows_the_traceback_of_a_fault_of_the_user(
    taskloom_: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["taskloom", "--debug", "list", "metric"])
    with pytest.raises(taskloom.TaskloomError):
        main()


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyError("x"), 1, "Taskloom met a fault of its own: KeyError: 'x'\n"
         "Call again as `taskloom --debug …` for the traceback.\n"),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(), 1, ""),
    ],
)  # fmt: skip
def test_what_is_no_fault_of_the_user_has_its_own_exit_code(
    error: BaseException, code: int, message: str, taskloom_: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    from taskloom.cli import listing

    def fail(room: str | None) -> None:
        raise error

    monkeypatch.setattr(listing, "run_list", fail)
    assert taskloom_("list", code=code).err == message


def test_debug_shows_the_traceback_of_a_fault_of_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from taskloom.cli import listing

    def fail(room: str | None) -> None:
        raise KeyError("x")

    monkeypatch.setattr(listing, "run_list", fail)
    monkeypatch.setattr(sys, "argv", ["taskloom", "--debug", "list"])
    with pytest.raises(KeyError):
        main()
