"""The finished run that something is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskloom.batches.chunks import Padding
from taskloom.config import Config, read_config
from taskloom.errors import Fault, RunFolderError
from taskloom.model import MultiTaskModel
from taskloom.model.folder import TASKS_FILE
from taskloom.model.identity import file_identity
from taskloom.record import Record
from taskloom.run import Run
from taskloom.tasks import Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Described = tuple[str, dict[str, Any], Task]
"""A task's type, options and self, as `save_model` takes it."""


@dataclass
class Base:
    """A finished run, opened.

    Attributes:
        record: its folder.
        config: its run file.
        model: as trained, in evaluation mode.
        tasks: task name -> task.
        tokenizer: the backbone's.
    """

    record: Record
    config: Config
    model: MultiTaskModel
    tasks: dict[str, Task]
    tokenizer: PreTrainedTokenizerFast

    @classmethod
    def open(cls, folder: str | Path) -> Base:
        """Read a finished run and its model.

        Raises:
            RunFolderError: it is none, or is not finished.
        """
        run = Run(folder)
        status = run.record.state.status
        if status != "finished":
            fix = f"Run `taskloom train … --out {folder}` to its end"
            raise RunFolderError(Fault(str(folder), "hold a finished run", f"status {status}", fix))
        config = read_config(run.record.run_yaml)
        model, tasks, tokenizer = run.loaded()
        return cls(run.record, config, model, tasks, tokenizer)

    @property
    def padding(self) -> Padding:
        """How inputs are filled up."""
        return Padding.of(self.tokenizer, self.model.config)

    def described(self) -> dict[str, Described]:
        """Give each task as `save_model` takes it."""
        return {
            name: (self.config.tasks[name].type, self.config.options(name), task) for name, task in self.tasks.items()
        }

    def digests(self) -> dict[str, str]:
        """Digest the files of the model: what is made of it is made of these weights and no others."""
        return model_digests(self.record.model)


def model_digests(folder: Path) -> dict[str, str]:
    """Digest the weights of a model folder: file -> digest."""
    weights = [folder / TASKS_FILE, *sorted(folder.rglob("*.safetensors"))]
    return {path.relative_to(folder).as_posix(): file_identity(path) for path in weights}


def numbered(row: dict[str, Any]) -> dict[str, Any]:
    """Give numbers that JSON lacks back as what they were."""
    return {key: math.nan if value is None else value for key, value in row.items()}
