"""Proof that old tasks answer as they did: digests of the bytes of their outputs, before and after."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taskloom.config.options import options_of
from taskloom.errors import DataError, Fault, RunFolderError, TaskloomError
from taskloom.evaluation import Predictor
from taskloom.growth.base import Base
from taskloom.model import MultiTaskModel
from taskloom.preparation import InMemory, load_corpora
from taskloom.record import Record, write_json
from taskloom.tasks import TASKS, Task
from taskloom.types import Item, Row

VERSION = 1
PROOF_ROWS = 32
"""Rows of each old task whose outputs are compared."""

FILE = "unchanged.json"


class ChangedOutputsError(TaskloomError):
    """A task that should not have changed answers otherwise than before; the fault is ours."""

    exit_code = 1


@dataclass
class Probe:
    """Rows of one task whose outputs are compared.

    Attributes:
        source: where the rows are from, in words.
        rows: as the user wrote them; of an old run's predictions without their answers.
        items: what the backbone reads of them.
    """

    source: str
    rows: Sequence[Row]
    items: list[Item]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Item:
        return self.items[index]


@dataclass(frozen=True)
class Unchanged:
    """One task's digests.

    Attributes:
        task: its name.
        rows: how many rows were compared.
        source: where they are from.
        before: sha256 of the outputs of the model that was added to.
        after: sha256 of those of the new model, as read from disk.
    """

    task: str
    rows: int
    source: str
    before: str
    after: str


def probes(base: Base, rows: InMemory | None = None) -> dict[str, Probe]:
    """Find rows of every task: the first of its validation split, else of its test split, else of the predictions.

    Args:
        base: the run.
        rows: rows in memory, of tasks that were trained on some.

    Raises:
        RunFolderError: of a task neither its data nor predictions are left.
    """
    found, faults = {}, []
    for name, task in base.tasks.items():
        source, held = _rows(base, name, rows or {})
        if not held:
            fix = "Bring the data back, or call with `--no-proof` to go without"
            requirement = "have data or predictions left to be probed with"
            faults.append(Fault(f"tasks.{name}", requirement, "neither", fix, str(base.record.folder)))
            continue
        encoded = task.encode(held, base.tokenizer)
        items = [item | {"row": index} for index, own in enumerate(encoded) for item in own]
        found[name] = Probe(source, held, items)
    if faults:
        raise RunFolderError(*faults)
    return found


def _rows(base: Base, name: str, rows: InMemory) -> tuple[str, Sequence[Row]]:
    section = base.config.tasks[name]
    task = TASKS.load(section.type)(**options_of(section))
    task.meet(base.model.family, base.tokenizer)
    memory = {name: rows[name]} if name in rows else {}
    try:
        corpus = load_corpora(base.config, {name: task}, memory)[name]
    except DataError:
        return _predicted(base.record, name)
    split = "validation" if corpus.splits.get("validation") else "test"
    return f"{split} rows", corpus.splits.get(split, [])[:PROOF_ROWS]


def _predicted(record: Record, name: str) -> tuple[str, Sequence[Row]]:
    """Take the texts of a run's predictions, where its data is gone."""
    for split in ("validation", "test", "train"):
        path = record.predictions(name, split)
        if path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines()[:PROOF_ROWS]
            return f"predictions on {split}, since the data is gone", [json.loads(line)["input"] for line in lines]
    return "", []


def digests(base: Base, model: MultiTaskModel, tasks: Mapping[str, Task], found: Mapping[str, Probe]) -> dict[str, str]:
    """Digest what a model gives for each probe: its outputs' bytes, or the texts that it writes.

    Args:
        base: the run, which says how rows are batched.
        model: the run's, or one that was made of it.
        tasks: task name -> task of that model.
        found: the probes.
    """
    predictor = Predictor(model, tasks, base.padding, base.config.batching.limit_tokens, base.tokenizer)
    result = {}
    for name, probe in found.items():
        digest = hashlib.sha256()
        if tasks[name].generates:
            for text in predictor.written(name, probe.rows, probe):
                digest.update(f"{len(text)}:{text}".encode())
        else:
            for output in predictor.outputs(name, probe):
                digest.update(f"{output.dtype}{output.shape}".encode())
                digest.update(output.tobytes())
        result[name] = digest.hexdigest()
    return result


def prove(
    record: Record, found: Mapping[str, Probe], before: Mapping[str, str], after: Mapping[str, str]
) -> list[Unchanged]:
    """Compare digests and write them down.

    Raises:
        ChangedOutputsError: a task's outputs differ.
    """
    lines = [Unchanged(name, len(probe.rows), probe.source, before[name], after[name]) for name, probe in found.items()]
    write_json(record.folder / FILE, {"version": VERSION, "tasks": {each.task: _written(each) for each in lines}})
    changed = [each for each in lines if each.before != each.after]
    if changed:
        fix = "Nothing was kept; please report this"
        raise ChangedOutputsError(
            *(Fault(f"tasks.{each.task}", "give the same outputs as before", "others", fix) for each in changed)
        )
    return lines


def _written(line: Unchanged) -> dict[str, Any]:
    return {
        "rows": line.rows,
        "source": line.source,
        "before": line.before,
        "after": line.after,
        "same": line.before == line.after,
    }


def read_proof(record: Record) -> list[Unchanged]:
    """Give what a finished folder's proof says; none where it was not asked for."""
    path = record.folder / FILE
    if not path.is_file():
        return []
    held: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["tasks"]
    return [Unchanged(name, each["rows"], each["source"], each["before"], each["after"]) for name, each in held.items()]
