"""Answers for rows that come without a reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from taskloom.batches.chunks import Padding
from taskloom.errors import DataError, Fault, nearest
from taskloom.evaluation import Predictor
from taskloom.types import Item, Prediction, Row

if TYPE_CHECKING:
    from taskloom.run import Run

ANSWER_COLUMNS = {"label", "labels", "tags", "answers"}
"""Columns that rows to be answered lack."""

LIMIT_TOKENS = 4096
"""Tokens of one rectangle."""


@dataclass
class _Held:
    items: list[Item]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Item:
        return self.items[index]


def predict(run: Run, task: str, rows: Sequence[Row]) -> list[Prediction]:
    """Answer rows of one task.

    Args:
        run: a finished run.
        task: the task's name.
        rows: [example] columns under the task's own names; answer columns may be absent.

    Raises:
        DataError: the run has no such task, or a row lacks a column.
    """
    model, tasks, tokenizer = run.loaded()
    if task not in tasks:
        raise DataError(Fault(task, "be a task of the run", f"`{task}`", nearest(task, tasks)))
    needed = [column for column in tasks[task].columns if column not in ANSWER_COLUMNS]
    faults = [
        Fault(f"row {number}", f"have `{column}`", f"the columns {sorted(row)}")
        for number, row in enumerate(rows, start=1)
        for column in needed
        if row.get(column) in (None, "", [])
    ]
    if faults:
        raise DataError(*faults)
    items: list[Item] = []
    for index, encoded in enumerate(tasks[task].encode(rows, tokenizer)):
        items += [item | {"row": index} for item in encoded]
    padding = Padding(int(tokenizer.pad_token_id or 0))
    return Predictor(model, tasks, padding, LIMIT_TOKENS).answer(task, rows, _Held(items))
