"""The run folder: what is on disk, its versions, and how it is written whole or not at all.

::

    runs/NAME/
      state.json        what makes the folder a run folder: its version, how the run stands, its last step
      run.yaml          the run file as resolved, defaults included
      code/             copies of the user's own files that it names, by their digests
      environment.json  versions and device
      data.json         rows read, kept and skipped; splits made; leaks
      cost.json         seconds, memory and energy of the process that finished the run
      fingerprint.jsonl digests of data, tokenizer, backbone and versions, when the run began and at accepted changes
      curriculum.json   how difficult tasks and items were found to be, where that takes the untrained model
      steps.jsonl       one line a step, and one an evaluation; appended
      transfer/         a file for each probe of what tasks do for each other; see `taskloom.affinity.probes`
      decisions.jsonl   one line for each decision of a policy; appended, there once one was made
      scores.jsonl      one line a score
      predictions/SPLIT/TASK.jsonl
      checkpoints/  model/  report.html
      lock.json         there while a process trains here

Every line and every file of ours carries a version; readers refuse another one rather than guess. Only the standard
library is imported, so that reading a run costs no start of torch.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, Self, cast, get_args

from taskloom.errors import Fault, RunFolderError, nearest
from taskloom.lock import take_lock
from taskloom.room import copy_code
from taskloom.types import Score

VERSION = 1
"""The version of every line and file here; it rises when a reader of today would misread what is written."""

Status = Literal["running", "interrupted", "finished", "failed"]

FIX_VERSION = "Read it with the Taskloom that wrote it, or train again with this one"
FIX_NO_RUN = "`taskloom train RUN.yaml --out FOLDER` makes one"


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all: whoever reads it meets the old text or the new one, even after a kill."""
    write_bytes(path, _encoded(text))


def write_bytes(path: Path, held: bytes) -> None:
    """Write a file whole or not at all; see `write_text`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The name holds the process so that two reports of one folder, written at once, do not share a half-written file.
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as stream:
            stream.write(held)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON with its keys in the order given; NaN and infinities, which JSON lacks, become null."""
    write_text(path, json.dumps(_plain(value), ensure_ascii=False, allow_nan=False, indent=2) + "\n")


def append_line(path: Path, row: Mapping[str, Any]) -> None:
    """Append one line of JSON and hand it to the system; what a killed writer left half-written is cut off first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as stream:
        _mend_tail(path, stream.fileno())
        stream.write(_encoded(_line(row)))
        stream.flush()


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(_plain(row), ensure_ascii=False, allow_nan=False) + "\n"


def _encoded(text: str) -> bytes:
    # A lone surrogate in a user's row has no UTF-8; written as \udXXX it is what JSON itself would write.
    return text.encode("utf-8", errors="backslashreplace")


def _plain(value: Any) -> Any:
    """Give a value in JSON's own types, with null for what is not finite."""
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    # Arrays and tensors, and their single numbers, say themselves in plain types; no import of theirs is needed.
    return _plain(value.tolist()) if hasattr(value, "tolist") else value


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # not every system opens folders; there the rename alone has to do
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _mend_tail(path: Path, descriptor: int) -> None:
    """End a file at the end of its last whole line."""
    size = os.fstat(descriptor).st_size
    if not size:
        return
    with path.open("rb") as stream:
        stream.seek(size - 1)
        if stream.read(1) == b"\n":
            return
        stream.seek(0)
        tail = stream.read().rpartition(b"\n")[2]
    if _parsed(tail) is None:
        os.ftruncate(descriptor, size - len(tail))
    else:
        os.write(descriptor, b"\n")


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Give the lines of a file of JSON lines, none where the file is missing; a torn last line is left out.

    Raises:
        RunFolderError: a line is of another version, or one before the last is no JSON object.
    """
    for _, row in _raw_lines(path):
        yield row


def _raw_lines(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    if not path.is_file():
        return
    with path.open("rb") as stream:
        for number, raw in enumerate(stream, start=1):
            row = _parsed(raw)
            # An object that was cut short never parses, so a last line without its newline is torn or it is whole.
            if row is None and not raw.endswith(b"\n"):
                return
            yield raw.rstrip(b"\n"), _of_this_version(row, f"{path}:{number}")


def _truncate(path: Path, step: int) -> None:
    """Keep the lines up to a step, in a file that is replaced whole; of no lines there is no file."""
    if not path.is_file():
        return
    kept = [raw for raw, row in _raw_lines(path) if row["step"] <= step]
    if kept:
        write_text(path, "".join(f"{raw.decode()}\n" for raw in kept))
    else:
        path.unlink()


def whole_line(raw: bytes, source: str) -> dict[str, Any]:
    """Read one line that was written to its end; raises RunFolderError as `read_lines` does, about `source`."""
    return _of_this_version(_parsed(raw), source)


def _parsed(raw: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(raw)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _of_this_version(row: dict[str, Any] | None, source: str) -> dict[str, Any]:
    if row is None:
        fix = "Something else wrote to it; restore it from a copy, or train again"
        raise RunFolderError(Fault("record", "be one JSON object", "something else", fix, source))
    version = row.get("version")
    if version != VERSION:
        found = "none" if version is None else f"`{version}`"
        raise RunFolderError(Fault("version", f"be `{VERSION}`", found, FIX_VERSION, source))
    return row


def _read_json(path: Path) -> dict[str, Any]:
    return _of_this_version(_parsed(path.read_bytes()), str(path))


def _score(row: dict[str, Any]) -> Score:
    numbers = {name: math.nan if row[name] is None else float(row[name]) for name in ("value", "low", "high")}
    known = {field.name: row[field.name] for field in fields(Score) if field.name in row}
    return Score(**known | numbers)


def check_own(folder: Path, *names: str) -> None:
    """Refuse a folder that holds something else than what a command writes there.

    Args:
        folder: it need not be there.
        names: of what it may hold; names that begin with a dot it may hold too.

    Raises:
        RunFolderError: with the name of what else is there.
    """
    held = sorted(each.name for each in folder.iterdir()) if folder.is_dir() else []
    others = [name for name in held if name not in names and not name.startswith(".")]
    if others:
        fix = "Name a new folder, so that nothing of yours is written over"
        raise RunFolderError(Fault(str(folder), "be a new folder, or one of this command's", f"`{others[0]}`", fix))


def read_note(path: Path) -> dict[str, Any]:
    """Read a JSON file that some command wrote beside the run's own; nothing where there is none.

    Raises:
        RunFolderError: it is of another version, or no JSON object.
    """
    return _read_json(path) if path.is_file() else {}


@dataclass(frozen=True)
class State:
    """How a run stands.

    Attributes:
        status: "running", "interrupted", "finished" or "failed"; a killed run still says "running".
        step: the last optimizer step that was applied and recorded.
    """

    status: Status
    step: int


class Record:
    """A run folder: where its parts lie, and how they are read and written.

    Making one reads and makes nothing on disk; `Record.open` checks the folder, `Record.create` makes it.

    Attributes:
        folder: the run's folder.
        state_json, lock_json, run_yaml, code, environment_json, data_json, cost_json, fingerprint_jsonl,
            curriculum_json, steps_jsonl, decisions_jsonl, scores_jsonl, transfer, checkpoints, model, report_html: the
            paths that the module's docstring lists.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.state_json = self.folder / "state.json"
        self.lock_json = self.folder / "lock.json"
        self.run_yaml = self.folder / "run.yaml"
        self.code = self.folder / "code"
        self.environment_json = self.folder / "environment.json"
        self.data_json = self.folder / "data.json"
        self.cost_json = self.folder / "cost.json"
        self.fingerprint_jsonl = self.folder / "fingerprint.jsonl"
        self.curriculum_json = self.folder / "curriculum.json"
        self.steps_jsonl = self.folder / "steps.jsonl"
        self.decisions_jsonl = self.folder / "decisions.jsonl"
        self.scores_jsonl = self.folder / "scores.jsonl"
        self.transfer = self.folder / "transfer"
        self.checkpoints = self.folder / "checkpoints"
        self.model = self.folder / "model"
        self.report_html = self.folder / "report.html"

    @classmethod
    def open(cls, folder: Path | str) -> Self:
        """Give the record of a run that exists.

        Raises:
            RunFolderError: the folder is missing, is no run folder, or is of another version.
        """
        record = cls(folder)
        if not record.state_json.is_file():
            raise RunFolderError(_no_run(record.folder))
        _ = record.state  # refuses another version here, before anything is read by the wrong rules
        return record

    @classmethod
    def create(cls, folder: Path | str) -> Self:
        """Make a run folder, or open it where it exists already.

        Raises:
            RunFolderError: the folder holds other things, or a run of another version.
        """
        record = cls(folder)
        if record.state_json.is_file():
            return cls.open(folder)
        if record.folder.exists() and (not record.folder.is_dir() or any(record.folder.glob("[!.]*"))):
            found = "a folder with other files in it" if record.folder.is_dir() else "a file"
            fix = "Name a new folder, so that nothing of yours is written over"
            raise RunFolderError(Fault(str(folder), "be a run folder, or a folder to be made", found, fix))
        record.write_state("running", 0)
        return record

    def predictions(self, task: str, split: str) -> Path:
        """One line an example; a task's name that is a path is kept inside the folder."""
        name = task.replace("%", "%25").replace("/", "%2F").replace("\\", "%5C")
        return self.folder / "predictions" / split / f"{name}.jsonl"

    @property
    def state(self) -> State:
        """How the run stands, as last written."""
        row = _read_json(self.state_json)
        status, step = row.get("status"), row.get("step")
        if status not in get_args(Status) or not isinstance(step, int):
            requirement = f"be one of {', '.join(get_args(Status))}, with a step"
            raise RunFolderError(Fault("status", requirement, f"`{status}`", FIX_VERSION, str(self.state_json)))
        return State(cast("Status", status), step)

    def write_run(self, text: str) -> None:
        """Write the run file as resolved, and copies of the files of the user's own that it names."""
        copy_code(text, self.code)
        write_text(self.run_yaml, text)

    def write_state(self, status: Status, step: int) -> None:
        """Write how the run stands."""
        write_json(self.state_json, {"version": VERSION, "status": status, "step": step})

    def append_step(self, row: Mapping[str, Any]) -> None:
        """Append a step's or an evaluation's line, with its version first."""
        append_line(self.steps_jsonl, {"version": VERSION, **row})

    def steps(self) -> list[dict[str, Any]]:
        """Give the lines of steps and evaluations, none where nothing was written yet."""
        return list(read_lines(self.steps_jsonl))

    def truncate_steps(self, step: int) -> None:
        """Drop every line after `step`, so that a resumed run writes the file of a run that was never killed."""
        _truncate(self.steps_jsonl, step)

    def append_decision(self, row: Mapping[str, Any]) -> None:
        """Append the line of a policy's decision, with its version first."""
        append_line(self.decisions_jsonl, {"version": VERSION, **row})

    def decisions(self) -> list[dict[str, Any]]:
        """Give the lines of decisions, none where nothing was decided yet."""
        return list(read_lines(self.decisions_jsonl))

    def truncate_decisions(self, step: int) -> None:
        """Drop every decision after `step`, as `truncate_steps` does."""
        _truncate(self.decisions_jsonl, step)

    def write_scores(self, scores: Iterable[Score]) -> None:
        """Write all scores, in the order given: a task's first metric is its own in tables and verdicts."""
        write_text(self.scores_jsonl, "".join(_line({"version": VERSION, **score.as_row()}) for score in scores))

    def scores(self) -> list[Score]:
        """Give all scores, none where none were written yet; a value that was not finite is NaN."""
        return [_score(row) for row in read_lines(self.scores_jsonl)]

    def write_predictions(self, task: str, split: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write the predictions of one task on one split, each line with its version first."""
        write_text(self.predictions(task, split), "".join(_line({"version": VERSION, **row}) for row in rows))

    def data(self) -> dict[str, Any]:
        """Give what was read, kept and skipped: task name -> its facts, none where nothing was written yet."""
        tasks: dict[str, Any] = read_note(self.data_json).get("tasks", {})
        return tasks

    def curriculum(self) -> dict[str, Any]:
        """Give the difficulties that were measured, none where nothing was measured yet."""
        return read_note(self.curriculum_json)

    def environment(self) -> dict[str, Any]:
        """Give versions and device, none where nothing was written yet."""
        return (_parsed(self.environment_json.read_bytes()) or {}) if self.environment_json.is_file() else {}

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep every other process from training in this folder; in a run of many ranks only the first one locks.

        Raises:
            RunFolderError: a process trains here already, or one on another machine, which cannot be asked, may.
        """
        take_lock(self.lock_json)
        try:
            yield
        finally:
            self.lock_json.unlink(missing_ok=True)


def _no_run(folder: Path) -> Fault:
    """Say what stands where a run folder should, and which one may be meant."""
    if folder.is_dir():
        inside = nearest(folder.name, _runs_in(folder))
        return Fault(str(folder), "be a run folder", "a folder without `state.json`", inside or FIX_NO_RUN)
    found = "a file" if folder.exists() else "no such folder"
    return Fault(str(folder), "be a run folder", found, nearest(folder.name, _runs_in(folder.parent)) or FIX_NO_RUN)


def _runs_in(folder: Path) -> list[str]:
    return [path.parent.name for path in folder.glob("*/state.json")]
