"""A run from its file to its folder: train, score, write; called again, it goes on where it stopped."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import transformers
from rich.console import Console

from taskloom.config import MEMORY, Config, load_config, read_config
from taskloom.config.document import parse_document
from taskloom.data.cache import Items
from taskloom.environment import environment
from taskloom.errors import Fault, InterruptedRunError, RunFolderError
from taskloom.evaluation import Predictor, quick_composite, quick_scores, score_split
from taskloom.model import MultiTaskModel, build_model, load_model, save_model
from taskloom.prediction import prediction_line
from taskloom.preparation import InMemory, Prepared, check_lengths, prepare
from taskloom.record import Record, write_json, write_text
from taskloom.tasks import Task
from taskloom.training.arguments import Length, run_length, training_arguments
from taskloom.training.callbacks import Interruption, ProgressView, StepRecorder
from taskloom.training.checkpoints import last_checkpoint
from taskloom.training.objective import Objective
from taskloom.training.trainer import Trainer
from taskloom.types import Item, Prediction, Row, Score

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

ConfigLike = Config | Mapping[str, Any] | str | Path


def as_config(config: ConfigLike, assignments: Sequence[str] = ()) -> Config:
    """Take a run as it comes: checked, a mapping, or the path of a run file."""
    if isinstance(config, Config):
        return config
    return load_config(config, assignments) if isinstance(config, Mapping) else read_config(config, assignments)


@dataclass
class _First:
    """The first items of a split."""

    items: Items
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Item:
        return self.items[index]


class Session:
    """A prepared run with its model: what training, its rehearsal and evaluation share.

    Args:
        config: the run.
        prepared: its data.
        folder: where checkpoints go.
        model: a model that is trained already; None builds one.
    """

    def __init__(self, config: Config, prepared: Prepared, folder: Path, model: MultiTaskModel | None = None) -> None:
        self.config = config
        self.prepared = prepared
        self.evaluates = all("validation" in items for items in prepared.items.values())
        self.arguments = training_arguments(config.training, folder, evaluates=self.evaluates)
        self.length: Length = run_length(self.arguments, prepared.training_items())
        self.steps = prepared.plan(self.length)
        self.model = model or build_model(config.model, prepared.tasks, seed=config.training["seed"])
        check_lengths(config, prepared.tasks, self.model.places())

    def objective(self) -> Objective:
        """Make the objective of the run's weights and mixture."""
        weights = {name: section.weight for name, section in self.config.tasks.items()}
        accumulation = self.arguments.gradient_accumulation_steps
        expected = {name: rows * accumulation for name, rows in self.steps.draws.expected.items()}
        return Objective(self.prepared.tasks, weights, expected)

    def head_rates(self) -> dict[str, float]:
        """Give the learning rate of each head: the task's own, the model's for heads, or ten times the run's.

        A head begins at random where the backbone begins trained, so it has further to go.
        """
        usual = self.config.model.head_learning_rate or 10 * self.config.training["learning_rate"]
        return {name: task.learning_rate or usual for name, task in self.config.tasks.items()}

    def trainer(self, callbacks: Sequence[transformers.TrainerCallback] = ()) -> Trainer:
        """Make the Trainer."""
        stopping: list[transformers.TrainerCallback] = []
        settings = self.config.evaluation
        if settings.early_stopping_patience and self.evaluates:
            patience, threshold = settings.early_stopping_patience, settings.early_stopping_threshold
            stopping.append(transformers.EarlyStoppingCallback(patience, threshold))
        return Trainer(
            self.model,
            self.arguments,
            steps=self.steps,
            epoch_steps=self.length.epoch_steps,
            objective=self.objective(),
            evaluator=self.validate if self.evaluates else None,
            saver=self.save,
            head_rates=self.head_rates(),
            place=self.prepared.place,
            callbacks=[*stopping, *callbacks],
        )

    def validate(self) -> dict[str, float]:
        """Score the validation split without intervals: ``TASK/METRIC`` and ``composite``."""
        values = {}
        for name in self.prepared.tasks:
            limit = self.config.evaluation.limit_rows
            rows, answers = self.answers(name, "validation", limit)
            values[name] = quick_scores(self.prepared.judged[name], answers, rows)
        flat = {f"{name}/{metric}": value for name, found in values.items() for metric, value in found.items()}
        return {"composite": quick_composite(values, self.prepared.judged), **flat}

    def answers(self, name: str, split: str, limit: int | None = None) -> tuple[list[Row], list[Prediction]]:
        """Answer the first `limit` rows of a task's split, or all."""
        rows = self.prepared.corpora[name].splits[split][:limit]
        items = self.prepared.items[name][split]
        kept = _First(items, int((items.rows < len(rows)).sum()))
        predictor = Predictor(self.model, self.prepared.tasks, self.prepared.padding, self.config.batching.limit_tokens)
        return rows, predictor.answer(name, rows, kept)

    def save(self, folder: Path) -> None:
        """Write the model as it is now."""
        tasks = {
            name: (self.config.tasks[name].type, self.config.options(name), task)
            for name, task in self.prepared.tasks.items()
        }
        tokenizer = self.prepared.tokenizer
        save_model(self.model, folder, tokenizer=tokenizer, section=self.config.model, tasks=tasks)

    def score(self, splits: Sequence[str], record: Record | None) -> list[Score]:
        """Score splits with intervals, and write predictions and scores where there is a record."""
        scores = []
        for split in splits:
            predictions, rows = {}, {}
            for name in self.prepared.tasks:
                if split in self.prepared.items[name]:
                    rows[name], predictions[name] = self.answers(name, split)
            if record:
                self._write_predictions(record, split, rows, predictions)
            settings = self.config.evaluation
            scores += score_split(
                split,
                predictions,
                rows,
                self.prepared.judged,
                resamples=settings.resamples,
                confidence=settings.confidence,
                seed=self.config.training["seed"],
            )
        if record:
            record.write_scores(scores)
        return scores

    def _write_predictions(
        self,
        record: Record,
        split: str,
        rows: Mapping[str, Sequence[Row]],
        predictions: Mapping[str, Sequence[Prediction]],
    ) -> None:
        for name, answers in predictions.items():
            task, places = self.prepared.tasks[name], self.prepared.corpora[name].places[split]
            lines = [
                prediction_line(task, index, places[index], row, answer)
                for index, (row, answer) in enumerate(zip(rows[name], answers, strict=True))
            ]
            record.write_predictions(name, split, lines)


# --- the run as a whole -------------------------------------------------------------------------------------------


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

    def predict(self, task: str, rows: Sequence[Row]) -> list[Prediction]:
        """Answer rows of one task; see `taskloom.prediction.predict`."""
        from taskloom.prediction import predict

        return predict(self, task, rows)


def train(
    config: ConfigLike,
    out: str | Path,
    *,
    rows: InMemory | None = None,
    assignments: Sequence[str] = (),
    console: Console | None = None,
    callbacks: Sequence[transformers.TrainerCallback] = (),
) -> Run:
    """Train a run to its end, score it, and write its folder; called again with the same run, go on.

    Args:
        config: a run file's path, a mapping, or a `Config`.
        out: the run folder.
        rows: task -> rows in memory (or split -> rows), used in place of the task's `data`.
        assignments: ``a.b=value`` overrides.
        console: where progress is shown; None for nowhere.
        callbacks: further `transformers.TrainerCallback`s.

    Raises:
        TaskloomError: what is wrong; nothing was written before everything had been checked.
        InterruptedRunError: the user stopped it; a checkpoint is saved.
    """
    from taskloom.reports import report

    config, console = as_config(config, assignments), console or Console(quiet=True)
    text = _identity(config, rows)
    existing = _existing(Path(out), text)
    if existing is not None and existing.state.status == "finished":
        if existing.report_html.is_file():
            console.print(f"{out} is finished already; nothing to do.")
        else:  # killed while the page was written
            report([existing.folder])
        return Run(out)
    prepared = prepare(config, rows=rows)
    _say_leaks(prepared, console)
    session = Session(config, prepared, Record(out).checkpoints)
    record = existing or Record.create(out)
    with record.lock():
        _write_beginning(record, text, prepared)
        step = _fit(session, record, console, callbacks)
        session.save(record.model)
        session.score(config.evaluation.splits, record)
        record.write_state("finished", step)
    report([record.folder])
    return Run(out)


def evaluate(folder: str | Path, splits: Sequence[str] | None = None, *, rows: InMemory | None = None) -> list[Score]:
    """Score a finished run again; rewrites scores and predictions.

    Args:
        folder: the run folder.
        splits: which splits; by default those of the run file.
        rows: the rows in memory that the run was trained with, where it was.

    Raises:
        RunFolderError: the folder holds no finished run.
    """
    run = Run(folder)
    model, tasks, _ = run.loaded()
    config = read_config(run.record.run_yaml)
    wanted = list(splits or config.evaluation.splits)
    prepared = prepare(config, rows=rows)
    unlike = [name for name, task in prepared.tasks.items() if task.state() != tasks[name].state()]
    if unlike:
        fix = "Bring the data back to what the run was trained on"
        raise RunFolderError(
            *(Fault(f"tasks.{name}.data", "hold the labels of the run", "others", fix) for name in unlike)
        )
    missing = [split for split in wanted if not any(split in items for items in prepared.items.values())]
    if missing:
        raise RunFolderError(Fault("split", "be one that the run's data has", f"`{missing[0]}`"))
    session = Session(config, prepared, run.record.checkpoints, model)
    model.to(session.arguments.device)
    return session.score(wanted, run.record)


def _fit(session: Session, record: Record, console: Console, callbacks: Sequence[transformers.TrainerCallback]) -> int:
    """Train from the last checkpoint or from the start; returns the last step."""
    checkpoint = last_checkpoint(record.checkpoints)
    step = checkpoint.step if checkpoint else 0
    record.truncate_steps(step)
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
            recorder = StepRecorder(record, lambda: trainer.step_record if trainer else {})
            trainer = session.trainer([recorder, view, interruption, *callbacks])
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


def _identity(config: Config, rows: InMemory | None) -> str:
    """Give the text of run.yaml; rows in memory are named by their digest."""
    for name in rows or {}:
        digest = hashlib.sha256(repr(rows[name]).encode()).hexdigest()[:16]  # type: ignore[index]
        config.tasks[name].data = f"{MEMORY}:{digest}"
    return config.as_yaml()


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
        key, old, new = _first_difference(
            parse_document(before, "run.yaml").values, parse_document(text, "run.yaml").values
        )
        fix = f"Name another folder, or delete `{folder}` to begin anew"
        raise RunFolderError(Fault(f"--out {folder}", f"hold this run, with `{key}: {new}`", f"`{key}: {old}`", fix))
    return record


def _first_difference(old: Any, new: Any, path: str = "") -> tuple[str, Any, Any]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *new]:
            if old.get(key) != new.get(key):
                return _first_difference(old.get(key), new.get(key), f"{path}.{key}" if path else key)
    return path, old, new


def _write_beginning(record: Record, text: str, prepared: Prepared) -> None:
    write_text(record.run_yaml, text)
    write_json(record.environment_json, environment())
    write_json(record.data_json, prepared.data_record())
    record.checkpoints.mkdir(exist_ok=True)


def _say_leaks(prepared: Prepared, console: Console) -> None:
    for name, corpus in prepared.corpora.items():
        for (first, second), count in corpus.leaks.items():
            if count:
                console.print(f"warning: task {name}: {count} rows of {second} stand in {first} too", style="yellow")
