"""Which layers serve which tasks, of a finished run, or of two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from taskloom.batches.chunks import Padding
from taskloom.errors import Fault, RunFolderError, listed
from taskloom.gradients.conflict import layer_cosines
from taskloom.model import MultiTaskModel, build_model
from taskloom.preparation import InMemory
from taskloom.record import VERSION, Record, read_note, write_json
from taskloom.representation.similarity import Matrix, likeness
from taskloom.representation.states import states_of
from taskloom.run import Run, reopened
from taskloom.session import Session
from taskloom.types import Item, Row

FILE = "layers.json"
ROWS = 128
"""Rows of a task that are read; of all tasks together where tasks are compared."""

BEFORE, RUNS, TASKS = "before", "runs", "tasks"


@dataclass(frozen=True)
class Alike:
    """How alike two representations of the same rows are in one layer.

    Attributes:
        kind: "before", a task's rows in the trained model and in the one that training began with; "runs", a task's
            rows in this run and in another; "tasks", the same rows read as one task's and as another's.
        layer: 0 for the embeddings, 1 for what the first layer makes of them, and so on.
        task: whose rows, or as whose they are read.
        other: as whose else, for the kind "tasks".
        value: linear CKA.
        low: lower end of its interval.
        high: upper end.
        n: rows.
    """

    kind: str
    layer: int
    task: str
    other: str
    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class LayerConflict:
    """The gradients of two tasks in one layer over the recorded steps: their mean cosine and its interval."""

    layer: str
    tasks: tuple[str, str]
    cosine: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Layers:
    """What is known of the layers of a run.

    Attributes:
        alike: representations.
        conflict: gradients; empty where the run recorded none.
        experts: task -> its mean gate of each expert over training; empty where there is no gate.
        parted: whether tasks have parts of their own in the backbone; where not, all read alike.
        other: the folder of the other run; empty for none.
        split: whose rows were read.
    """

    alike: list[Alike]
    conflict: list[LayerConflict]
    experts: dict[str, list[float]]
    parted: bool
    other: str
    split: str

    def as_json(self) -> dict[str, Any]:
        """Give it ready for JSON."""
        return {"version": VERSION, **asdict(self)}


def compare_layers(
    folder: str | Path,
    other: str | Path | None = None,
    *,
    rows: int = ROWS,
    resamples: int = 200,
    memory: InMemory | None = None,
) -> Layers:
    """Find out which layers serve which tasks, and write ``layers.json`` into the run folder.

    Args:
        folder: of a finished run whose data is there.
        other: of a second one with a task of the same name, for example one that was trained for it alone.
        rows: validation rows of each task (training rows where it has none).
        resamples: of the bootstrap.
        memory: the rows in memory that the run was trained with, where it was.

    Raises:
        RunFolderError: a folder holds no finished run, or the runs have no task or not as many layers in common.
    """
    beside = None if other is None else Run(other)  # what is wrong with it is said before anything is read
    session, record = reopened(folder, rows=memory)
    common = [] if beside is None else _common(beside, list(session.prepared.tasks))
    asked = {name: _rows(session, name, rows) for name in session.prepared.tasks}
    held = {name: _items(session, name, own) for name, own in asked.items()}
    alike, options = [], {"resamples": resamples, "seed": session.config.training["seed"]}
    trained = {name: states_of(session.model, session.prepared.padding, name, held[name]) for name in held}
    before = build_model(session.config.model, session.prepared.tasks, seed=session.config.training["seed"])
    before.to(session.arguments.device).eval()
    for name, items in held.items():
        states = states_of(before, session.prepared.padding, name, items)
        alike += _by_layer(BEFORE, name, "", trained[name], states, options)
    if beside is not None:
        alike += _against(beside, {name: asked[name] for name in common}, trained, options)
    parted = session.model.routing is not None or bool(session.model.own_adapters)
    if parted:
        alike += _between_tasks(session, held, rows, options)
    split = "validation" if all("validation" in own for own in session.prepared.items.values()) else "train"
    steps = record.steps()
    found = Layers(alike, conflict_by_layer(steps, list(held)), expert_load(steps), parted, str(other or ""), split)
    write_json(record.folder / FILE, found.as_json())
    return found


def _rows(session: Session, name: str, count: int) -> list[Row]:
    splits = session.prepared.corpora[name].splits
    return list((splits.get("validation") or splits["train"])[:count])


def _items(session: Session, name: str, rows: Sequence[Row]) -> list[Item]:
    return [own[0] for own in session.prepared.tasks[name].encode(rows, session.prepared.tokenizer)]


def _by_layer(
    kind: str, task: str, other: str, one: Sequence[Matrix], two: Sequence[Matrix], options: Mapping[str, Any]
) -> list[Alike]:
    found = []
    for layer, (first, second) in enumerate(zip(one, two, strict=True)):
        seen = likeness(first, second, **options)
        found.append(Alike(kind, layer, task, other, seen.value, seen.low, seen.high, seen.n))
    return found


def _common(run: Run, tasks: Sequence[str]) -> list[str]:
    """Give the tasks that another run has too."""
    _, others, _ = run.loaded()
    common = [name for name in tasks if name in others]
    if not common:
        found = f"{listed(list(others))} beside {listed(tasks)}"
        raise RunFolderError(Fault(str(run.folder), "have a task in common with the other run", found))
    return common


def _against(
    run: Run, asked: Mapping[str, list[Row]], trained: Mapping[str, list[Matrix]], options: Mapping[str, Any]
) -> list[Alike]:
    """Compare the tasks that both runs have, on the same rows, each run reading them in its own way."""
    model, tasks, tokenizer = run.loaded()
    padding, compared = Padding.of(tokenizer, model.config), []
    for name, rows in asked.items():
        items = [own[0] for own in tasks[name].encode(rows, tokenizer)]
        states = states_of(model, padding, name, items)
        if len(states) != len(trained[name]):
            found = f"{len(states) - 1} beside {len(trained[name]) - 1}"
            raise RunFolderError(Fault(str(run.folder), "have as many layers as the other run", found))
        compared += _by_layer(RUNS, name, "", trained[name], states, options)
    return compared


def _between_tasks(
    session: Session, held: Mapping[str, list[Item]], rows: int, options: Mapping[str, Any]
) -> list[Alike]:
    """Read the same rows, some of each task's, as each task in turn."""
    each = max(1, rows // len(held))
    mixed = [item for items in held.values() for item in items[:each]]
    model: MultiTaskModel = session.model
    states = {name: states_of(model, session.prepared.padding, name, mixed) for name in held}
    found = []
    for one, two in combinations(held, 2):
        found += _by_layer(TASKS, one, two, states[one], states[two], options)
    return found


def conflict_by_layer(steps: Sequence[Mapping[str, Any]], tasks: Sequence[str]) -> list[LayerConflict]:
    """Give the mean cosine of each pair of tasks in each layer over the recorded steps."""
    records = [row["conflict"] for row in steps if row.get("conflict")]
    return [
        LayerConflict(layer, pair, seen.mean, seen.low, seen.high, seen.n)
        for layer, held in layer_cosines(records, tasks).items()
        for pair, seen in held.items()
    ]


def expert_load(steps: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Give each task's mean gate of each expert over the steps that recorded it."""
    held: dict[str, list[list[float]]] = {}
    for row in steps:
        for task, load in (row.get("experts") or {}).items():
            held.setdefault(task, []).append(load)
    return {task: [float(each) for each in np.mean(loads, axis=0)] for task, loads in held.items()}


def read_layers(record: Record) -> dict[str, Any]:
    """Give what layers.json holds; nothing where layers were not looked at."""
    return read_note(record.folder / FILE)
