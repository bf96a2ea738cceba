"""Answers for rows that come without a reference, and the line that tells of an answer beside its reference."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from taskloom.batches.chunks import Padding
from taskloom.data.columns import GROUP, PROTECTED
from taskloom.errors import DataError, Fault, nearest
from taskloom.evaluation import Predictor
from taskloom.types import Item, Prediction, Row

if TYPE_CHECKING:
    from taskloom.run import Run
    from taskloom.tasks import Task

LIMIT_TOKENS = 4096
"""Tokens of one rectangle."""


def _fault(task: Task, row: Row, number: int) -> Fault | None:
    """Find what keeps a row from being answered; that its answer is absent or wrong does not."""
    complaint = task.question_fault(row)
    if complaint is None:
        return None
    lacks = any(complaint == f"have `{column}`" for column in task.columns)
    return Fault(f"row {number}", complaint, f"the columns {sorted(row)}" if lacks else "")


def predict(run: Run, task: str, rows: Sequence[Row], *, calibrated: bool = True) -> list[Prediction]:
    """Answer rows of one task.

    Args:
        run: a finished run.
        task: the task's name.
        rows: [example] columns under the task's own names; answer columns may be absent.
        calibrated: whether probabilities are those of the run's calibration, where it has one, and not as trained.

    Raises:
        DataError: the run has no such task, or a row lacks a column.
    """
    items = asked_items(run, task, rows)
    model, tasks, tokenizer = run.loaded()
    if not calibrated:
        plain = copy.copy(tasks[task])
        plain.calibration = 1.0
        tasks = {**tasks, task: plain}
    padding = Padding.of(tokenizer, model.config)
    return Predictor(model, tasks, padding, LIMIT_TOKENS, tokenizer).answer(task, rows, items)


def asked_items(run: Run, task: str, rows: Sequence[Row]) -> list[Item]:
    """Check rows of one task, whose answers may be absent, and encode them.

    Returns:
        [item], each with its ``row``.

    Raises:
        DataError: the run has no such task, or a row lacks a column.
    """
    _, tasks, tokenizer = run.loaded()
    if task not in tasks:
        raise DataError(Fault(task, "be a task of the run", f"`{task}`", nearest(task, tasks)))
    faults = [fault for number, row in enumerate(rows, start=1) if (fault := _fault(tasks[task], row, number))]
    if faults:
        raise DataError(*faults)
    items: list[Item] = []
    for index, encoded in enumerate(tasks[task].encode(rows, tokenizer)):
        items += [item | {"row": index} for item in encoded]
    return items


def prediction_line(task: Task, index: int, place: str, row: Row, answer: Prediction) -> dict[str, Any]:
    """Give one line of predictions: what was asked, said and right, and the row's group where it has one."""
    reference = task.reference(row)
    group = row.get(PROTECTED, row.get(GROUP))
    return {
        "row": index,
        "place": place,
        "input": task.asked(row),
        "prediction": answer.value,
        "reference": reference,
        "right": _right(task.predicts, answer.value, reference),
        "detail": answer.detail,
        **({} if group is None else {"group": group}),
    }


def _right(kind: str, value: Any, reference: Any) -> bool | None:
    """Say whether an answer is right; None where there is only near and far."""
    if kind in {"number", "loss"}:
        return None
    if kind == "labels":
        return set(value) == set(reference)
    if kind == "text":
        from taskloom.metrics.exact_match import ExactMatch

        return ExactMatch().score([value], [reference]) == 1.0
    return bool(value == reference)
