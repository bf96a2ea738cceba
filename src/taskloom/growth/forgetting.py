"""What old tasks lost, or won, while shared parts were trained on."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from taskloom.bootstrap import interval, percentiles
from taskloom.evaluation import Judged, build_metric
from taskloom.growth.base import numbered
from taskloom.record import Record, write_json
from taskloom.session import Session
from taskloom.types import Prediction, Row

VERSION = 1
FILE = "forgetting.json"


@dataclass(frozen=True)
class Forgetting:
    """One score of an old task, before and after.

    Attributes:
        task: its name.
        split: which rows were answered.
        metric: the score's name.
        before: score of the run that was added to.
        after: score of the new one, on the same rows.
        difference: after less before.
        low: lower end of the difference's interval, by bootstrap over rows, the same rows for both.
        high: its upper end.
        n: rows.
    """

    task: str
    split: str
    metric: str
    before: float
    after: float
    difference: float
    low: float
    high: float
    n: int


Answers = dict[tuple[str, str], tuple[list[Row], list[Prediction]]]
"""(task, split) -> its rows and what a model says of them."""


def answers_of(session: Session, tasks: Collection[str], splits: Sequence[str]) -> Answers:
    """Answer the rows of some tasks."""
    return {
        (name, split): session.answers(name, split)
        for split in splits
        for name in tasks
        if split in session.prepared.items[name]
    }


def compare_answers(
    before: Answers, after: Answers, judged: dict[str, Judged], *, resamples: int, confidence: float, seed: int
) -> list[Forgetting]:
    """Score both, and bootstrap the differences over rows.

    Args:
        before: of the model that was added to.
        after: of the new model, for the same rows.
        judged: task name -> how it is scored.
        resamples: bootstrap samples.
        confidence: of the intervals.
        seed: of the bootstrap.
    """
    found = []
    for (name, split), (rows, answers) in before.items():
        references = [judged[name].task.reference(row) for row in rows]
        for metric_name in judged[name].metrics:
            metric = build_metric(metric_name)
            # The same seed and number of rows draw the same rows, so the two are paired sample by sample.
            old, new = (
                interval(
                    metric,
                    [answer.value for answer in each],
                    references,
                    resamples=resamples,
                    confidence=confidence,
                    seed=seed,
                )
                for each in (answers, after[name, split][1])
            )
            low, high = percentiles(new.samples - old.samples, confidence)
            difference = new.value - old.value
            found.append(
                Forgetting(name, split, metric_name, old.value, new.value, difference, low, high, len(references))
            )
    return found


def write_forgetting(record: Record, found: Sequence[Forgetting]) -> None:
    """Write what was found."""
    write_json(record.folder / FILE, {"version": VERSION, "scores": [asdict(each) for each in found]})


def read_forgetting(record: Record) -> list[Forgetting]:
    """Give what a finished folder says of forgetting; none where shared parts stayed as they were."""
    path = record.folder / FILE
    if not path.is_file():
        return []
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["scores"]
    return [Forgetting(**numbered(row)) for row in rows]
