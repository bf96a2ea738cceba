"""Calibrates a finished run: temperatures by its validation rows, what they change by its test rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from taskloom.calibration.measuring import BINS, Bin, Error, error_interval, reliability
from taskloom.calibration.temperature import at_limit, fit_temperature, mean_loss
from taskloom.errors import DataError, Fault
from taskloom.model.folder import CALIBRATION
from taskloom.preparation import InMemory
from taskloom.record import VERSION, Record, read_note, write_json
from taskloom.run import Run, reopened
from taskloom.session import Session

FILE = "calibration.json"
FITTED_ON, MEASURED_ON = "validation", "test"


@dataclass(frozen=True)
class Choices:
    """The choices that a task made on some rows.

    Attributes:
        logits: [choice, option]; minus infinity for options that a choice does not have.
        given: [choice] the option that was answered.
        right: [choice] the right one.
        row: [choice] the example of each.
    """

    logits: NDArray[np.float64]
    given: NDArray[np.int64]
    right: NDArray[np.int64]
    row: NDArray[np.int64]

    def judged(self, temperature: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Give the probability of each answer, and 1 where it is right: [choice] each."""
        chances = softmax(self.logits / temperature, axis=1)[np.arange(len(self.given)), self.given]
        return chances, (self.given == self.right).astype(np.float64)


@dataclass(frozen=True)
class Calibrated:
    """How well a task's probabilities are calibrated, before and after.

    Attributes:
        task: its name.
        temperature: what its logits are divided by.
        rows: examples that the errors are measured on.
        choices: answers in them: one an example, one a word of tagging, one a label of multi-label.
        measured_on: the split of these examples.
        loss: mean negative log-likelihood of the right options there, before and after.
        before: calibration error there, as trained.
        after: with the temperature.
        bars_before: reliability as trained.
        bars_after: with the temperature.
    """

    task: str
    temperature: float
    rows: int
    choices: int
    measured_on: str
    loss: tuple[float, float]
    before: Error
    after: Error
    bars_before: list[Bin]
    bars_after: list[Bin]

    @property
    def at_limit(self) -> bool:
        """Whether a temperature further out would have been better still."""
        return at_limit(self.temperature)

    def as_json(self) -> dict[str, Any]:
        """Give it ready for JSON."""
        return {
            "temperature": self.temperature,
            "rows": self.rows,
            "choices": self.choices,
            "measured_on": self.measured_on,
            "loss": {"before": self.loss[0], "after": self.loss[1]},
            "ece": {"before": self.before.as_json(), "after": self.after.as_json()},
            "reliability": {
                "before": [asdict(bar) for bar in self.bars_before],
                "after": [asdict(bar) for bar in self.bars_after],
            },
        }


def calibrate(
    folder: str | Path, *, rows: InMemory | None = None, resamples: int | None = None, bins: int = BINS
) -> list[Calibrated]:
    """Fit one temperature for each task that tells probabilities, and write what it changes.

    ``calibration.json`` in the run folder has the errors and the bars; ``model/calibration.json`` the temperatures,
    which every reader of the model uses from then on. Scores and answers stay as they are.

    Args:
        folder: of a finished run.
        rows: the rows in memory that the run was trained with, where it was.
        resamples: of the bootstrap; by default the run's.
        bins: of equal mass.

    Raises:
        RunFolderError: the folder holds no finished run, or its data is not what it was.
        DataError: no task tells probabilities, or none that does has validation rows.
    """
    session, record = reopened(folder, rows=rows)
    settings, seed = session.config.evaluation, session.config.training["seed"]
    options = {"resamples": resamples or settings.resamples, "level": settings.confidence, "seed": seed, "bins": bins}
    found = []
    for name in session.prepared.tasks:
        fitted = choices_of(session, name, FITTED_ON)
        if fitted is None:
            continue
        temperature = fit_temperature(fitted.logits, fitted.right)
        measured = choices_of(session, name, MEASURED_ON)
        split = MEASURED_ON if measured is not None else FITTED_ON
        found.append(_compared(name, temperature, measured or fitted, split, options))
    if not found:
        fix = "Calibrate a run with a task of classification, multi_label, multiple_choice or token_classification"
        requirement = "have a task that tells probabilities, with validation rows"
        raise DataError(Fault(str(folder), requirement, "none", fix))
    write_calibration(record, found)
    return found


def _compared(name: str, temperature: float, held: Choices, split: str, options: Mapping[str, Any]) -> Calibrated:
    before, hits = held.judged(1.0)
    after, _ = held.judged(temperature)
    return Calibrated(
        name,
        temperature,
        len(np.unique(held.row)),
        len(hits),
        split,
        (mean_loss(held.logits, held.right), mean_loss(held.logits, held.right, temperature)),
        error_interval(before, hits, held.row, **options),
        error_interval(after, hits, held.row, **options),
        reliability(before, hits, options["bins"]),
        reliability(after, hits, options["bins"]),
    )


def choices_of(session: Session, name: str, split: str) -> Choices | None:
    """Have a run's model make the choices of a task's split; None where it makes none, or has no such rows."""
    task, items = session.prepared.tasks[name], session.prepared.items[name].get(split)
    if items is None or not len(items) or task.generates or task.reads == "words":
        return None
    rows, parts = session.prepared.corpora[name].splits[split], []
    for number, (row, own, outputs) in enumerate(session.predictor().answered(name, rows, items)):
        odds = task.odds(row, own, outputs)
        if odds is None:
            return None
        known = odds.right >= 0
        parts.append((odds.logits[known], odds.given[known], odds.right[known], np.full(int(known.sum()), number)))
    width = max(part[0].shape[1] for part in parts)
    logits = [np.pad(part[0], ((0, 0), (0, width - part[0].shape[1])), constant_values=-np.inf) for part in parts]
    given, right, row_of = (np.concatenate([part[place] for part in parts]).astype(np.int64) for place in (1, 2, 3))
    choices = Choices(np.concatenate(logits).astype(np.float64), given, right, row_of)
    return choices if len(right) else None


def write_calibration(record: Record, found: list[Calibrated]) -> None:
    """Write what was found into the run folder, and the temperatures beside the model."""
    tasks = {each.task: each.as_json() for each in found}
    write_json(record.folder / FILE, {"version": VERSION, "fitted_on": FITTED_ON, "tasks": tasks})
    temperatures = {each.task: each.temperature for each in found}
    write_json(record.model / CALIBRATION, {"version": VERSION, "temperatures": temperatures})


def read_calibration(record: Record) -> dict[str, Any]:
    """Give each task's entry of calibration.json; none where nothing was calibrated."""
    tasks: dict[str, Any] = read_note(record.folder / FILE).get("tasks", {})
    return tasks


def forget(folder: str | Path) -> bool:
    """Take a run's calibration back, so that probabilities are as trained; says whether there was one."""
    record = Run(folder).record
    held = [path for path in (record.model / CALIBRATION, record.folder / FILE) if path.is_file()]
    for path in held:
        path.unlink()
    return bool(held)
