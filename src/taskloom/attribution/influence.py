"""Which task's training moves an answer: products of the answer's gradient with the tasks' mean training gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from taskloom.attribution.aims import Aim, aims_of
from taskloom.attribution.explaining import Explainer, answered_rows
from taskloom.batches.chunks import collate
from taskloom.config import read_config
from taskloom.errors import Fault, ModelError
from taskloom.gradients import Engine
from taskloom.gradients.conflict import interval
from taskloom.model.frozen import frozen
from taskloom.prediction import asked_items
from taskloom.preparation import InMemory, Prepared, prepare
from taskloom.run import Run
from taskloom.tasks import Task
from taskloom.types import Item, Row

BATCHES, ROWS = 8, 16
"""Batches whose gradients are averaged, and rows of a task in each at most."""

LIMIT_NUMBERS = 2**28
"""Numbers of all gradients that are kept whole (1 GiB); beyond, they are sketched."""

SKETCH = 16384
LOSS, ANSWER = "loss", "answer"

Scalar = Callable[[Tensor, Mapping[str, Tensor]], Tensor]
"""From a head's output and its targets to the number whose gradient is taken."""


@dataclass(frozen=True)
class Influence:
    """What training on one task does to one row.

    Attributes:
        task: that is trained.
        product: of the two gradients: a step of plain gradient descent with rate r on the task's loss alone lowers the
            row's loss by ``r`` times this, to first order (or raises what speaks for its answer).
        low: lower end of the product's interval over batches of the task.
        high: upper end.
        cosine: of the two gradients.
    """

    task: str
    product: float
    low: float
    high: float
    cosine: float


@dataclass(frozen=True)
class Influenced:
    """One row, and what training on each task does to it.

    Attributes:
        row: which of the rows.
        of: "loss" where the row says what is right, else "answer": what speaks for the model's own answer.
        target: the answer that is spoken for; empty for a loss.
        tasks: each task's influence, the most helpful first.
    """

    row: int
    of: str
    target: str
    tasks: list[Influence]


@dataclass(frozen=True)
class _Pass:
    """One forward pass: its items, the slot of their gradient, and how its scalar comes of the output."""

    name: str
    items: list[Item]
    slot: int
    scalar: Scalar


def influence(
    run: Run, task: str, rows: Sequence[Row], *, batches: int = BATCHES, memory: InMemory | None = None
) -> list[Influenced]:
    """Say which task's training helps or harms the answers to some rows.

    Looked at are the trained parameters that all tasks share, in evaluation mode, with the weights that training ended
    with.

    Formula: ``<g_row, g_t>``, with g_row the gradient of the row's loss (of minus what speaks for the answer, where the
    row says nothing of what is right), and g_t the mean gradient of task t's loss over ``batches`` batches.

    Args:
        run: a finished run whose training data is there.
        task: the rows' task.
        rows: [example].
        batches: of each task.
        memory: the rows in memory that the run was trained with, where it was.

    Raises:
        DataError: the run has no such task, a row lacks a column, or the task's answers cannot be explained.
        ModelError: the tasks train no parameter together.

    Paper: Pruthi, Liu, Kale and Sundararajan, Estimating Training Data Influence by Tracing Gradient Descent, NeurIPS
    2020, arXiv:2002.08484, with one checkpoint, and a task in an example's place.
    """
    items = asked_items(run, task, rows)
    model, tasks, tokenizer = run.loaded()
    explainer = Explainer(model.eval(), tasks, task, tokenizer)
    prepared = prepare(read_config(run.record.run_yaml), rows=memory, splits=("train",))
    passes, parts = _training_passes(prepared, batches)
    asked, told = _row_passes(explainer, rows, items, len(passes))
    gramian = _gramian(explainer, prepared.tasks, [*passes, *asked], len(passes) + len(rows))
    return [
        Influenced(number, *told[number], _of_row(gramian, len(passes) + number, parts)) for number in range(len(rows))
    ]


def drawn_batches(items: int, batches: int, seed: int = 0) -> list[list[int]]:
    """Draw batches of training items that have no item in common: [batch][item]; fewer of few items."""
    order = np.random.default_rng(seed).permutation(items)[: batches * ROWS]
    return [part.tolist() for part in np.array_split(order, min(batches, len(order)))]


def _training_passes(prepared: Prepared, batches: int) -> tuple[list[_Pass], dict[str, slice]]:
    """Give a pass for each batch of each task, and the slots of each task's batches."""
    found: list[_Pass] = []
    parts: dict[str, slice] = {}
    for name, task in prepared.tasks.items():
        items, first = prepared.items[name]["train"], len(found)
        for batch in drawn_batches(len(items), batches):
            found.append(_Pass(name, [items[index] for index in batch], len(found), _mean_loss(task)))
        parts[name] = slice(first, len(found))
    return found, parts


def _mean_loss(task: Task) -> Scalar:
    def scalar(output: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        return task.loss(output, targets).mean()

    return scalar


def _row_passes(
    explainer: Explainer, rows: Sequence[Row], items: Sequence[Item], first: int
) -> tuple[list[_Pass], list[tuple[str, str]]]:
    """Give a pass for each row, and what its gradient is of."""
    name, task, found, told = explainer.name, explainer.tasks[explainer.name], [], []
    for number, row in enumerate(rows):
        own = [item for item in items if item["row"] == number]
        if task.fault(row) is None and task.unseen(row) is None:
            found.append(_Pass(name, own, first + number, _mean_loss(task)))
            told.append((LOSS, ""))
            continue
        answered = next(iter(answered_rows(explainer, [row], [item | {"row": 0} for item in own])))
        aims = aims_of(answered)
        found.append(_Pass(name, [aims[0].item], first + number, _against(aims)))
        told.append((ANSWER, aims[0].target if len(aims) == 1 else str(answered.prediction.value)))
    return found, told


def _against(aims: Sequence[Aim]) -> Scalar:
    """Give minus the mean of what speaks for an answer, so that a lower number is a surer answer."""

    def scalar(output: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        whole = output.unsqueeze(0)
        return -torch.stack([aim.read(whole)[0] for aim in aims]).mean()

    return scalar


def _gramian(
    explainer: Explainer, tasks: Mapping[str, Task], passes: Iterable[_Pass], slots: int
) -> NDArray[np.float64]:
    """Form every slot's gradient in one pass over all items, and give their products: [slot, slot]."""
    model = explainer.model
    shared = dict(model.shared_parameters())
    held = {name: each for name, each in shared.items() if each.requires_grad}
    if not held:
        raise ModelError(Fault("model", "train a parameter that its tasks share", "none"))
    size = sum(each.numel() for each in held.values())
    exact = size * slots <= LIMIT_NUMBERS
    engine = Engine(held, slots, statistic="jacobian" if exact else "sketch", sketch_size=SKETCH)
    device = next(model.parameters()).device
    with frozen(model, held.values()), engine.step(None if exact else torch.ones(slots)) as step:
        for each in passes:
            chunk = collate([(each.name, item) for item in each.items], tasks, explainer.padding).to(device)
            step.rows([each.slot] * len(chunk.inputs["input_ids"]), chunk.inputs)
            step.backward({each.slot: each.scalar(model(chunk)[each.name], chunk.parts[each.name].targets)})
    gramian = step.gramian()
    assert gramian is not None
    found: NDArray[np.float64] = gramian.cpu().numpy()
    return found


def _of_row(gramian: NDArray[np.float64], row: int, parts: Mapping[str, slice]) -> list[Influence]:
    """Sum up one row's products with each task's batches."""
    found = []
    for name, part in parts.items():
        seen = interval(gramian[row, part])
        norms = math.sqrt(max(gramian[row, row], 0.0) * max(gramian[part, part].mean(), 0.0))
        cosine = seen.mean / norms if norms else math.nan
        found.append(Influence(name, seen.mean, seen.low, seen.high, cosine))
    return sorted(found, key=lambda each: -each.product)


def influence_path(run: Run, task: str) -> Path:
    """Say where the influences on a task's rows lie."""
    return run.folder / "influence" / run.record.predictions(task, "test").name
