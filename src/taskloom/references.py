"""What the model said before training: log-probabilities that preference tasks compare with, kept in the run folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save

from taskloom.record import write_bytes

if TYPE_CHECKING:
    from taskloom.data.cache import Items
    from taskloom.evaluation import Predictor
    from taskloom.tasks import Task

FILE = "references.safetensors"


def add_references(
    items: Mapping[str, Mapping[str, Items]], tasks: Mapping[str, Task], predictor: Predictor | None, folder: Path
) -> None:
    """Put ``reference`` beside the items of tasks that compare with the model before training.

    A run that is resumed, and one that is scored again, reads what was measured when it began.

    Args:
        items: task name -> split -> items.
        tasks: task name -> task.
        predictor: has the model as it is before training, where the folder holds no references yet; None once it is
            trained, when only what the folder holds is read.
        folder: of the run.
    """
    wanted = {
        f"{name}/{split}": held
        for name, task in tasks.items()
        if getattr(task, "needs_reference", False)
        for split, held in items[name].items()
    }
    if not wanted:
        return
    path = folder / FILE
    found = load_file(str(path)) if path.is_file() else {}
    lacking = [key for key, held in wanted.items() if key not in found or len(found[key]) != len(held)]
    if predictor is None:
        wanted = {key: held for key, held in wanted.items() if key not in lacking}
        lacking = []
    for key in lacking:
        assert predictor is not None
        outputs = predictor.outputs(key.partition("/")[0], wanted[key])
        found[key] = torch.tensor([(-output.sum(axis=-1)).tolist() for output in outputs], dtype=torch.float32)
    if lacking:
        write_bytes(path, save(found))
    for key, held in wanted.items():
        held.beside["reference"] = found[key].tolist()
