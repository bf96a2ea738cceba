"""A run from its file to its folder: train, score, write; called again, it goes on where it stopped."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import transformers
from rich.console import Console

from taskloom.affinity.probes import truncate_probes
from taskloom.config import MEMORY, Config, load_config, read_config
from taskloom.config.document import parse_document
from taskloom.cost import Meter
from taskloom.curriculum import CurriculumRecorder
from taskloom.environment import environment
from taskloom.errors import ConfigError, Fault, InterruptedRunError, RunFolderError
from taskloom.fingerprint import Change, Fingerprint, changes_since, fingerprint_of, note, refuse
from taskloom.gradients.ranks import rank, wait_for_all
from taskloom.model import MultiTaskModel, load_model
from taskloom.preparation import InMemory, Prepared, prepare
from taskloom.record import VERSION, Record, Status, write_json
from taskloom.session import Session
from taskloom.tasks import Task
from taskloom.training.callbacks import Interruption, ProgressView, StepRecorder
from taskloom.training.checkpoints import last_checkpoint
from taskloom.training.trainer import Trainer
from taskloom.types import Prediction, Row, Score

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

ConfigLike = Config | Mapping[str, Any] | str | Path


def as_config(config: ConfigLike, assignments: Sequence[str] = ()) -> Config:
    """Take a run as it comes: checked, a mapping, or the path of a run file."""
    if isinstance(config, Config):
        return config
    return load_config(config, assignments) if isinstance(config, Mapping) else read_config(config, assignments)


class Run:
    """A finished run: its record, and its model when asked for.

    Args:
        folder: the run folder.

    Raises:
        RunFolderError: it is none, or is not finished.
    """

    def __init__(self, folder: str | Path) -> None:
        self.record = Record.open(folder)
        self._loaded: tuple[MultiTaskModel, dict[str, Task], PreTrainedTokenizerFast] | None = None

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.record.folder

    @property
    def scores(self) -> list[Score]:
        """All scores, with intervals."""
        return self.record.scores()

    def loaded(self) -> tuple[MultiTaskModel, dict[str, Task], PreTrainedTokenizerFast]:
        """Give model, tasks and tokenizer, read once."""
        if self._loaded is None:
            status = self.record.state.status
            if not self.record.model.is_dir():
                fix = f"Run `taskloom train … --out {self.folder}` to its end"
                raise RunFolderError(Fault(str(self.folder), "hold a finished run", f"status {status}", fix))
            self._loaded = load_model(self.record.model)
        return self._loaded

    def predict(self, task: str, rows: Sequence[Row], *, calibrated: bool = True) -> list[Prediction]:
        """Answer rows of one task; see `taskloom.prediction.predict`."""
        from taskloom.prediction import predict

        return predict(self, task, rows, calibrated=calibrated)


def train(
    config: ConfigLike,
    out: str | Path,
    *,
    rows: InMemory | None = None,
    assignments: Sequence[str] = (),
    console: Console | None = None,
    callbacks: Sequence[transformers.TrainerCallback] = (),
    accept_changes: bool = False,
) -> Run:
    """Train a run to its end, score it, and write its folder; called again with the same run, go on.

    Args:
        config: a run file's path, a mapping, or a `Config`.
        out: the run folder.
        rows: task -> rows in memory (or split -> rows), used in place of the task's `data`.
        assignments: ``a.b=value`` overrides.
        console: where progress is shown; None for nowhere.
        callbacks: further `transformers.TrainerCallback`s.
        accept_changes: go on with an unfinished run also where its data, tokenizer, backbone or packages changed.

    Raises:
        TaskloomError: what is wrong; nothing was written before everything had been checked.
        InterruptedRunError: the user stopped it; a checkpoint is saved.
    """
    from taskloom.reports import report

    first = rank() == 0  # of several processes the first alone writes and shows; the others train beside it
    config, console = as_config(config, assignments), (console if first else None) or Console(quiet=True)
    _refuse_folds(config)
    text = _identity(config, rows)
    existing = _existing(Path(out), text)
    if existing is not None and existing.state.status == "finished":
        _say_finished(existing, console)
        return Run(out)
    prepared = prepare(config, rows=rows)
    beginning = _Beginning(text, *_compared(existing, prepared, accept=accept_changes))
    session = Session(config, prepared, Record(out).checkpoints)
    beginning.say(console)
    _say_leaks(prepared, console)
    record = (existing or Record.create(out)) if first else _Beside(out)
    with record.lock():
        _train_and_score(session, record, beginning, console, callbacks)
    if first:
        report([record.folder])
    wait_for_all()
    return Run(out)


def _say_finished(record: Record, console: Console) -> None:
    """Say that there is nothing to do, unless the run was killed while its page was written."""
    from taskloom.reports import report

    if record.report_html.is_file():
        console.print(f"{record.folder} is finished already; nothing to do.", soft_wrap=True)
    else:
        report([record.folder])


def _refuse_folds(config: Config) -> None:
    """Refuse to do by one run what takes as many as there are folds."""
    if config.evaluation.cross_validation is not None:
        fix = "Call `taskloom cross-validate`, or leave it out"
        source = config.document.source(("evaluation", "cross_validation"))
        raise ConfigError(Fault("evaluation.cross_validation", "be left out of one run", "folds", fix, source))


def _train_and_score(
    session: Session,
    record: Record,
    beginning: _Beginning,
    console: Console,
    callbacks: Sequence[transformers.TrainerCallback],
) -> None:
    """Train, and have the first process write what came of it."""
    meter = Meter()
    if not rank():
        beginning.write(record, session)
    step = _fit(session, record, console, callbacks)
    if not rank():
        session.save(record.model)
        session.score(session.config.evaluation.splits, record)
        write_json(record.cost_json, {"version": VERSION, **meter.read()})
        record.write_state("finished", step)


def evaluate(folder: str | Path, splits: Sequence[str] | None = None, *, rows: InMemory | None = None) -> list[Score]:
    """Score a finished run again; rewrites scores and predictions of these splits, and leaves those of others.

    Args:
        folder: the run folder.
        splits: which splits; by default those of the run file.
        rows: the rows in memory that the run was trained with, where it was.

    Raises:
        RunFolderError: the folder holds no finished run.
    """
    session, record = reopened(folder, rows=rows)
    wanted = list(splits or session.config.evaluation.splits)
    held = session.prepared.items.values()
    missing = [split for split in wanted if not any(split in items for items in held)]
    if missing:
        raise RunFolderError(Fault("split", "be one that the run's data has", f"`{missing[0]}`"))
    others = [score for score in record.scores() if score.split not in wanted] if record.scores_jsonl.is_file() else []
    found = session.score(wanted, record)
    if others:
        order = {
            split: place for place, split in enumerate(dict.fromkeys([*session.config.evaluation.splits, *wanted]))
        }
        record.write_scores(sorted([*others, *found], key=lambda score: order.get(score.split, len(order))))
    return found


def reopened(folder: str | Path, *, rows: InMemory | None = None) -> tuple[Session, Record]:
    """Open a finished run with its data and its trained model, on the run's device.

    Args:
        folder: the run folder.
        rows: the rows in memory that the run was trained with, where it was.

    Raises:
        RunFolderError: the folder holds no finished run, or its data teaches other labels than it was trained with.
    """
    run = Run(folder)
    model, tasks, _ = run.loaded()
    config = read_config(run.record.run_yaml)
    prepared = prepare(config, rows=rows)
    unlike = [name for name, task in prepared.tasks.items() if task.state() != tasks[name].state()]
    if unlike:
        fix = "Bring the data back to what the run was trained on"
        raise RunFolderError(
            *(Fault(f"tasks.{name}.data", "hold the labels of the run", "others", fix) for name in unlike)
        )
    session = Session(config, prepared, run.record.checkpoints, model)
    model.to(session.arguments.device)
    return session, run.record


class _Beside(Record):
    """The run folder as a process sees it that does not write there."""

    def write_state(self, status: Status, step: int) -> None:
        """Write nothing."""

    def append_step(self, row: Mapping[str, Any]) -> None:
        """Write nothing."""

    def append_decision(self, row: Mapping[str, Any]) -> None:
        """Write nothing."""

    def truncate_steps(self, step: int) -> None:
        """Write nothing."""

    def truncate_decisions(self, step: int) -> None:
        """Write nothing."""

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Leave the lock to the first process."""
        yield


def _fit(session: Session, record: Record, console: Console, callbacks: Sequence[transformers.TrainerCallback]) -> int:
    """Train from the last checkpoint or from the start; returns the last step."""
    if rank():
        wait_for_all()  # the first process clears away what a killed run left half written
    checkpoint = last_checkpoint(record.checkpoints)
    if not rank():
        wait_for_all()
    step = checkpoint.step if checkpoint else 0
    record.truncate_steps(step)
    record.truncate_decisions(step)
    truncate_probes(record.transfer, step)
    if checkpoint and checkpoint.ended(session.length.updates):
        session.trainer().take_up_end(checkpoint)
        return step
    if checkpoint:
        console.print(f"going on from step {step} of {session.length.updates}")
    judged = session.prepared.judged
    view = ProgressView(console, list(judged), {name: each.metrics[0] for name, each in judged.items()})
    trainer: Trainer | None = None
    try:
        with Interruption() as interruption:
            # Nothing of the recorder's needs the trainer before the first step ends.
            recorder = StepRecorder(record, lambda: _step_line(session, trainer) if trainer else {})
            session.add_references(record.folder)
            tell = functools.partial(console.print, style="yellow", soft_wrap=True, highlight=False)
            if session.taken is not None:
                tell(str(session.taken))
            session.begin_distillation(record.folder, tell)
            curriculum = CurriculumRecorder(record, session.begin_curriculum(record.folder, tell))
            watching = [recorder, curriculum, view, *session.probes(record.transfer), interruption, *callbacks]
            session.labelling.tell = tell
            trainer = session.trainer(watching, tell, record.append_decision)
            if checkpoint:
                session.labelling.load(checkpoint.folder)
            trainer.train(resume_from_checkpoint=str(checkpoint.folder) if checkpoint else None)
            step = trainer.state.global_step
    except Exception:
        record.write_state("failed", trainer.state.global_step if trainer else step)
        raise
    finally:
        view.close()
    if interruption.asked and step < session.length.updates:
        record.write_state("interrupted", step)
        fix = f"Call the same command again to go on; the checkpoint of step {step} is saved"
        raise InterruptedRunError(Fault(str(record.folder), "run to its end", f"a stop at step {step}", fix))
    return int(step)


def _step_line(session: Session, trainer: Trainer) -> dict[str, Any]:
    """Give the line of a step: the trainer's books, the tokens of its rectangles, and what the model's parts say."""
    return trainer.step_record | {"padded_tokens": trainer.balancing.take_padded()} | session.step_facts()


def _identity(config: Config, rows: InMemory | None) -> str:
    """Give the text of run.yaml; rows in memory are named by their digest."""
    for name in rows or {}:
        digest = hashlib.sha256(repr(rows[name]).encode()).hexdigest()[:16]  # type: ignore[index]
        config.tasks[name].data = f"{MEMORY}:{digest}"
    return config.as_yaml()


def _undigested(text: str) -> str:
    return re.sub(rf"\b{MEMORY}:[0-9a-f]{{16}}\b", MEMORY, text)


def _existing(folder: Path, text: str) -> Record | None:
    """Open the folder where it holds this very run, begun before; refuse another run's folder.

    Raises:
        RunFolderError: the folder holds another run; its first differing key is named.
    """
    record = Record(folder)
    if not record.state_json.is_file() or not record.run_yaml.is_file():
        return None
    record = Record.open(folder)
    before = record.run_yaml.read_text(encoding="utf-8")
    if before != text:
        before = _completed(record.run_yaml, before)
    # Of an unfinished run, other rows in memory are told from the fingerprint, which names their split.
    same = before == text or (record.state.status != "finished" and _undigested(before) == _undigested(text))
    if not same:
        key, old, new = _first_difference(
            parse_document(before, "run.yaml").values, parse_document(text, "run.yaml").values
        )
        fix = f"Name another folder, or delete `{folder}` to begin anew"
        raise RunFolderError(Fault(f"--out {folder}", f"hold this run, with `{key}: {new}`", f"`{key}: {old}`", fix))
    return record


def _completed(path: Path, text: str) -> str:
    """Give a run file of an earlier release with the defaults that keys have which it did not know."""
    try:
        return read_config(path).as_yaml()
    except ConfigError:  # a release that took back a key
        return text


def _first_difference(old: Any, new: Any, path: str = "") -> tuple[str, Any, Any]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *new]:
            if old.get(key) != new.get(key):
                return _first_difference(old.get(key), new.get(key), f"{path}.{key}" if path else key)
    return path, old, new


@dataclass(frozen=True)
class _Beginning:
    """What a run begins with, or goes on with: its run file as resolved, its fingerprint, and what that changed."""

    text: str
    fingerprint: Fingerprint
    changes: Sequence[Change]

    def say(self, console: Console) -> None:
        """Warn of changes that are accepted."""
        for change in self.changes:
            text = f"warning: going on with a change: {change}"
            console.print(text, style="yellow", soft_wrap=True, markup=False, highlight=False)

    def write(self, record: Record, session: Session) -> None:
        """Write the files that say what the run is."""
        record.write_run(self.text)
        write_json(record.environment_json, environment(session.model.trained_parameters()))
        write_json(record.data_json, session.prepared.data_record() | {"updates": session.length.updates})
        record.checkpoints.mkdir(exist_ok=True)
        note(record, self.fingerprint, self.changes)


def _compared(existing: Record | None, prepared: Prepared, *, accept: bool) -> tuple[Fingerprint, list[Change]]:
    """Give the run's fingerprint, and what changed since the run was begun.

    Raises:
        RunFolderError: something changed, and that is not accepted; every change is named.
    """
    fingerprint = fingerprint_of(prepared)
    changes = changes_since(existing, fingerprint) if existing else []
    if existing and changes and not accept:
        raise refuse(str(existing.folder), changes)
    return fingerprint, changes


def _say_leaks(prepared: Prepared, console: Console) -> None:
    for name, corpus in prepared.corpora.items():
        for (first, second), count in corpus.leaks.items():
            if count:
                console.print(f"warning: task {name}: {count} rows of {second} stand in {first} too", style="yellow")
