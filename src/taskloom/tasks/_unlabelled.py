"""Tasks over texts without labels, which train the head of another task of the run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field
from torch import Tensor, nn

from taskloom.errors import ConfigError, Fault, nearest
from taskloom.tasks import Floats, Task
from taskloom.tasks._text import text_fault
from taskloom.tasks.classification import Classification, softmax
from taskloom.types import Item, Prediction, Row

Threshold = Annotated[float, Field(gt=0, lt=1)]


class UnlabelledTask(Task):
    """A task whose rows are texts without labels, and whose head is that of a `classification` beside it.

    It answers with how much in doubt the head is: {"nll": the entropy of its probabilities, "tokens": 1}, from which
    `perplexity` makes the number of labels among which it hesitates. That says nothing of whether it is right, so by
    default it has no part in the composite score.

    Class attributes:
        importance: in the composite score, where the run file says nothing.

    Attributes:
        of: the name of the task whose head it shares; None until `share_heads` has found the only one there is.
        threshold: the probability of its likeliest label from which a text is learned from.
        other: that task, from `share`.
    """

    columns = {"text": "the text"}
    optional_columns = {"text_pair": "a second text, judged together with the first"}
    identity_columns = ("text", "text_pair")
    predicts = "loss"
    default_metrics = ("perplexity",)
    importance: ClassVar[float] = 0.0

    def __init__(self, *, of: str | None, threshold: float, max_length: int) -> None:
        super().__init__(max_length=max_length)
        self.of = of
        self.threshold = threshold
        self.other: Classification | None = None

    def share(self, other: Task) -> None:
        """Meet the task whose head this one shares; its labels are looked at later.

        Raises:
            ConfigError: it is no `classification`.
        """
        if not isinstance(other, Classification):
            found = f"`{self.of}`, a `{type(other).__name__}`"
            raise ConfigError(Fault("of", "name a task of the type `classification`", found))
        self.other = other

    @property
    def labelled(self) -> Classification:
        """The task whose head this one shares."""
        assert self.other is not None, "`share` comes first"
        return self.other

    def state(self) -> dict[str, Any]:
        """Give whose head it shares, which tasks that are added later do not change."""
        return {"of": self.of}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take that back."""
        self.of = state["of"]

    def fault(self, row: Row) -> str | None:
        """Find empty texts."""
        return text_fault(row, "text", optional=("text_pair",))

    def head(self, width: int) -> nn.Module:
        """Make a head like the other task's; a model that has that one uses it in this one's place."""
        return self.labelled.head(width)

    def choices(self) -> int | None:
        """Count the labels."""
        return self.labelled.choices()

    def decode(self, row: Row, items: Sequence[Item], outputs: Sequence[Floats]) -> Prediction:
        """Give how much in doubt the head is of the text as it stands, with its likeliest label."""
        probabilities = softmax(outputs[0][0].astype(np.float64))
        best = int(probabilities.argmax())
        doubt = -float(np.sum(probabilities * np.log(np.maximum(probabilities, 1e-300))))
        detail = {"label": self.labelled.labels[best], "probability": round(float(probabilities[best]), 6)}
        return Prediction({"nll": round(doubt, 6), "tokens": 1}, detail)

    def reference(self, row: Row) -> Any:
        """Give the text; there is nothing right to compare with."""
        return row["text"]

    def baseline(self, train: Sequence[Row], rows: Sequence[Row]) -> list[Any]:
        """Hesitate among all labels alike."""
        return [{"nll": math.log(len(self.labelled.labels)), "tokens": 1}] * len(rows)


def sure(output: Tensor, threshold: float) -> Tensor:
    """Say of which items the likeliest label has a probability from `threshold` on: [item], of logits [item, label]."""
    chances: Tensor = output.detach().softmax(dim=-1).amax(dim=-1)
    return chances >= threshold


def shared_heads(tasks: Mapping[str, Task]) -> dict[str, str]:
    """Give the tasks that share the head of another, after `share_heads`: task name -> that other's."""
    return {name: task.of for name, task in tasks.items() if isinstance(task, UnlabelledTask) and task.of is not None}


def share_heads(tasks: Mapping[str, Task]) -> None:
    """Have tasks without labels meet those whose heads they share, before heads are made or rows are read.

    Args:
        tasks: task name -> task.

    Raises:
        ConfigError: with every task that shares what it cannot.
    """
    able = [name for name, task in tasks.items() if isinstance(task, Classification)]
    faults: list[Fault] = []
    for name, task in tasks.items():
        if not isinstance(task, UnlabelledTask):
            continue
        if task.of is None and len(able) == 1:
            task.of = able[0]
        if task.of is None or task.of not in tasks:
            found = "nothing" if task.of is None else f"`{task.of}`"
            fix = nearest(task.of or "", able) or "Add a task of the type `classification`"
            faults.append(Fault(f"tasks.{name}.of", "name a task of the run", found, fix))
            continue
        try:
            task.share(tasks[task.of])
        except ConfigError as error:
            faults += [replace(fault, where=f"tasks.{name}.of") for fault in error.faults]
    if faults:
        raise ConfigError(*faults)
