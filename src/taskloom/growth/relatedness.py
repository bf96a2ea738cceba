"""How alike two tasks are for the shared parts: the cosine of their mean gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from taskloom.batches.chunks import apart, collate
from taskloom.bootstrap import draws, percentiles
from taskloom.gradients import Engine
from taskloom.growth.base import numbered
from taskloom.model import MultiTaskModel
from taskloom.model.frozen import frozen
from taskloom.model.multitask import tasks_of_rows
from taskloom.preparation import Prepared
from taskloom.record import Record, read_note, write_json
from taskloom.types import Chunk, Item

VERSION = 1
FILE = "relatedness.json"
WARMING_STEPS, WARMING_ROWS = 30, 16
"""Steps and rows of each in which the new head alone learns: a random head's gradients say nothing of its task."""

BATCHES, ROWS = 16, 8
"""Batches over which gradients are averaged and bootstrapped, and rows of each task in one."""

SKETCH, RESAMPLES, CONFIDENCE = 16384, 1000, 0.95


@dataclass(frozen=True)
class Related:
    """How a new task's gradient lies to an old one's.

    Attributes:
        task: the old one.
        cosine: of the two mean gradients on the shared trained parameters.
        low: lower end of its interval, by bootstrap over batches.
        high: its upper end.
        parts: what of the old task fits the new one: "head", "own_adapter".
        chosen: whether the new task begins from it.
    """

    task: str
    cosine: float
    low: float
    high: float
    parts: list[str]
    chosen: bool = False


def measure(
    model: MultiTaskModel, prepared: Prepared, name: str, shared: Sequence[str], *, rate: float, seed: int
) -> list[Related]:
    """Measure how each old task is related to a new one; everything but the new head's weights is left as it was.

    Args:
        model: with the new task's head.
        prepared: data of all tasks.
        name: the new one.
        shared: names of the shared trained parameters.
        rate: learning rate of the head.
        seed: of the draws.

    Returns:
        one entry for each old task, the most related first.
    """
    wanted = set(shared)
    held = {path: each for path, each in model.backbone.named_parameters() if path in wanted}
    with frozen(model, model.heads[name].parameters()):
        _warm(model, prepared, name, rate, seed)
    with frozen(model, held.values()):
        sketches = _sketches(model, prepared, Engine(held, len(prepared.tasks), statistic="sketch", sketch_size=SKETCH))
    names = list(prepared.tasks)
    place, found = names.index(name), []
    for index, old in enumerate(names):
        if old != name:
            cosines = _cosines(sketches[:, place], sketches[:, index], seed)
            found.append(Related(old, float(cosines[0]), *percentiles(cosines[1:], CONFIDENCE), []))
    return sorted(found, key=lambda each: -each.cosine)


def _warm(model: MultiTaskModel, prepared: Prepared, name: str, rate: float, seed: int) -> None:
    """Let the new head learn a little on hidden states as they are."""
    head = model.heads[name]
    if not list(head.parameters()):
        return
    model.eval()
    head.train()
    items, generator = prepared.items[name]["train"], np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(head.parameters(), lr=rate)
    for _ in range(WARMING_STEPS):
        drawn = generator.integers(len(items), size=WARMING_ROWS)
        chunk = _chunk(prepared, [(name, items[int(index)]) for index in drawn], model)
        loss = prepared.tasks[name].loss(model(chunk)[name], chunk.parts[name].targets).mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    head.eval()


def _sketches(model: MultiTaskModel, prepared: Prepared, engine: Engine) -> NDArray[np.float64]:
    """Sketch each task's gradient in several batches: [batch, task, k]."""
    model.eval()
    numbers = {name: number for number, name in enumerate(prepared.tasks)}
    found = []
    for batch in range(BATCHES):
        drawn: dict[str | None, list[tuple[str, Item]]] = {}
        for name in prepared.tasks:
            items, owner = prepared.items[name]["train"], name if name in model.own_adapters else None
            rows = [items[(batch * ROWS + row) % len(items)] for row in range(ROWS)]
            drawn.setdefault(owner, []).extend((name, item) for item in rows)
        with engine.step(torch.ones(len(numbers))) as step:
            for held in drawn.values():
                for kind in apart(held, prepared.tasks):
                    chunk = _chunk(prepared, kind, model)
                    step.rows(tasks_of_rows(chunk, numbers), chunk.inputs)
                    outputs = model(chunk)
                    losses = {
                        numbers[name]: prepared.tasks[name].loss(outputs[name], part.targets).mean()
                        for name, part in chunk.parts.items()
                    }
                    step.backward(losses)
        ledger: Any = step.ledger
        found.append(ledger.sketch.double().cpu().numpy())
    return np.stack(found)


def _chunk(prepared: Prepared, drawn: Sequence[tuple[str, Item]], model: MultiTaskModel) -> Chunk:
    return collate(drawn, prepared.tasks, prepared.padding).to(next(model.parameters()).device)


def _cosines(new: NDArray[np.float64], old: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Give the cosine of two mean gradients [batch, k], and behind it those of bootstrap samples of batches."""
    cross, one, other = new @ old.T, new @ new.T, old @ old.T
    counts = np.concatenate([np.ones((1, len(new))), *draws(len(new), RESAMPLES, seed)])

    def products(gramian: NDArray[np.float64]) -> NDArray[np.float64]:
        held: NDArray[np.float64] = np.einsum("sb,bc,sc->s", counts, gramian, counts)
        return held

    with np.errstate(invalid="ignore", divide="ignore"):
        cosines: NDArray[np.float64] = products(cross) / np.sqrt(products(one) * products(other))
    return cosines


def write_relatedness(record: Record, found: Sequence[Related]) -> None:
    """Write what was found, and what was chosen by it."""
    write_json(record.folder / FILE, {"version": VERSION, "tasks": [asdict(each) for each in found]})


def read_relatedness(record: Record) -> list[Related]:
    """Give what was found before; none where nothing was measured."""
    return [Related(**numbered(row)) for row in read_note(record.folder / FILE).get("tasks", [])]
