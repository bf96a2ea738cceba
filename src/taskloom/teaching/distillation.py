"""Lessons: what a finished run's head says of the items that another run trains on, made once in that run's life."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from taskloom.batches.chunks import Padding
from taskloom.config import Config
from taskloom.config.own_code import CODE
from taskloom.data.cache import Items
from taskloom.data.cache_key import canonical
from taskloom.errors import ConfigError, Fault, nearest
from taskloom.evaluation import Predictor
from taskloom.gradients.ranks import rank, wait_for_all
from taskloom.model import load_model
from taskloom.model.folder import TASKS_FILE
from taskloom.preparation import Prepared
from taskloom.record import write_bytes
from taskloom.room import keep_copy
from taskloom.tasks import TASKS, Floats, Task
from taskloom.tasks._soft import LESSON, Pupil
from taskloom.types import Item, Row

FOLDER = "teachers"
"""Where a run folder keeps its lessons: a file for each task that has a teacher."""

BLOCK_ROWS = 1024
"""Rows that are answered together: what heads say of every token is large, and little of it is kept."""


@dataclass(frozen=True)
class Teacher:
    """A finished run's task that teaches one of another run.

    Attributes:
        folder: the folder of its model.
        name: its task's name there.
        task: that task, as it learned from its rows; without weights.
    """

    folder: Path
    name: str
    task: Task

    def digest(self) -> str:
        """Digest every file of its model."""
        found = sha256(canonical(self.name))
        for path in sorted(path for path in self.folder.rglob("*") if path.is_file()):
            with path.open("rb") as stream:
                found.update(
                    canonical([path.relative_to(self.folder).as_posix(), file_digest(stream, "sha256").digest()])
                )
        return found.hexdigest()


class Lessons(Sequence[Floats]):
    """The lessons of one task's items, as `Items.beside` takes them.

    Args:
        values: [place of all items, label].
        sizes: how many places each item has: [item].
    """

    def __init__(self, values: Floats, sizes: NDArray[np.int64]) -> None:
        self.values = values
        self.starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])

    def __len__(self) -> int:
        return len(self.starts) - 1

    @overload
    def __getitem__(self, index: int) -> Floats: ...

    @overload
    def __getitem__(self, index: slice) -> list[Floats]: ...

    def __getitem__(self, index: int | slice) -> Floats | list[Floats]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.values[self.starts[index] : self.starts[index + 1]]


def teachers_of(config: Config, tasks: Mapping[str, Task]) -> dict[str, Teacher]:
    """Find the teacher of each task that has one, without its weights.

    Args:
        config: the run.
        tasks: task name -> task, fitted on its training rows.

    Returns:
        task name -> its teacher.

    Raises:
        ConfigError: with every teacher that is no finished run, lacks the task, or cannot teach it.
    """
    teachers, faults = {}, []
    for name, task in tasks.items():
        if isinstance(task, Pupil) and task.distillation is not None:
            found = _teacher_of(config, name, task)
            if isinstance(found, Fault):
                faults.append(found)
            else:
                teachers[name] = found
    if faults:
        raise ConfigError(*faults)
    return teachers


def _teacher_of(config: Config, name: str, task: Pupil) -> Teacher | Fault:
    assert task.distillation is not None

    def fault(key: str, requirement: str, found: str, fix: str = "") -> Fault:
        path = ("tasks", name, "distillation", key)
        return Fault(".".join(path), requirement, found, fix, config.document.source(path))

    given = Path(task.distillation.teacher).expanduser()
    folder = next((place for place in (given / "model", given) if (place / TASKS_FILE).is_file()), None)
    if folder is None:
        found = f"`{task.distillation.teacher}`, which {'holds no model' if given.is_dir() else 'is no folder'}"
        return fault("teacher", "be the folder of a finished run", found, "Train the teacher first")
    described = json.loads((folder / TASKS_FILE).read_text(encoding="utf-8"))["tasks"]
    wanted = task.distillation.task or name
    if wanted not in described:
        return fault("task", "be a task of the teacher", f"`{wanted}`", nearest(wanted, described))
    keep_copy(described[wanted]["type"], folder.parent / CODE)
    teacher = TASKS.load(described[wanted]["type"])(**described[wanted]["options"])
    teacher.restore(described[wanted]["state"])
    objection = task.objection(teacher)
    return fault("task", *objection) if objection else Teacher(folder, wanted, teacher)


def begin_distillation(
    config: Config,
    prepared: Prepared,
    folder: Path,
    device: torch.device,
    tell: Callable[[str], None] = lambda text: None,
) -> None:
    """Put each teacher's lessons beside the training items of its pupil; made once in a run's life.

    Call it once in every process that trains, at the start and when resuming, before the first item is read. Lessons
    are written to the run folder, whole or not at all, and read from there where they are of the same teacher and rows.
    Teachers answer in evaluation mode, and are let go one by one.

    Args:
        config: the run.
        prepared: its data.
        folder: the run folder.
        device: where teachers are run.
        tell: says something to the user.

    Raises:
        ConfigError: see `teachers_of`.
        ModelError: a teacher's weights cannot be read.
    """
    for name, teacher in teachers_of(config, prepared.tasks).items():
        pupil, rows = prepared.tasks[name], prepared.corpora[name].splits["train"]
        assert isinstance(pupil, Pupil)
        items, place = prepared.items[name]["train"], folder / FOLDER / f"{name}.safetensors"
        digest = _digest(teacher, pupil, rows)
        if not rank() and _read(place, digest) is None:
            tell(f"{name} is taught by {teacher.name} of {teacher.folder}")
            _write(place, digest, ask(teacher, pupil, rows, items, config.batching.limit_tokens, device))
        wait_for_all()
        lessons = _read(place, digest)
        if lessons is None:
            raise OSError(f"{place} was written and cannot be read")
        items.beside[LESSON] = lessons


def ask(
    teacher: Teacher, pupil: Pupil, rows: Sequence[Row], items: Items, limit_tokens: int, device: torch.device
) -> Lessons:
    """Have a teacher answer rows, in its own reading of them.

    Args:
        teacher: answers.
        pupil: into whose terms its answers are brought.
        rows: [example].
        items: the pupil's, one for each row.
        limit_tokens: tokens of one rectangle.
        device: where the teacher is run.
    """
    model, tasks, tokenizer = load_model(teacher.folder)
    model.to(device)
    task = tasks[teacher.name]
    padding = Padding.of(tokenizer, model.config)
    predictor = Predictor(model, {teacher.name: task}, padding, limit_tokens, tokenizer)
    values, sizes = [], []
    for start in range(0, len(rows), BLOCK_ROWS):
        taught: list[Item] = [own[0] for own in task.encode(rows[start : start + BLOCK_ROWS], tokenizer)]
        for place, output in enumerate(predictor.outputs(teacher.name, taught)):
            lesson = pupil.lesson(task, output, taught[place], items[start + place])
            values.append(lesson)
            sizes.append(len(lesson))
    return Lessons(np.concatenate(values), np.array(sizes, dtype=np.int64))


def _digest(teacher: Teacher, pupil: Pupil, rows: Sequence[Row]) -> str:
    """Digest what lessons depend on."""
    found = sha256(canonical([teacher.digest(), pupil.state()]))
    for row in rows:
        found.update(b"\n" + canonical(row))
    return found.hexdigest()


def _write(place: Path, digest: str, lessons: Lessons) -> None:
    tensors: dict[str, NDArray[Any]] = {"values": lessons.values, "sizes": np.diff(lessons.starts)}
    write_bytes(place, save(tensors, metadata={"digest": digest}))


def _read(place: Path, digest: str) -> Lessons | None:
    """Read lessons; None where there are none, or others."""
    if not place.is_file():
        return None
    try:
        with safe_open(place, framework="np") as held:
            if (held.metadata() or {}).get("digest") != digest:
                return None
            return Lessons(held.get_tensor("values"), held.get_tensor("sizes"))
    except SafetensorError:
        return None
