"""Labels that a run gives to texts itself: made at each evaluation, held by the process that trains, kept to go on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from taskloom.batches.chunks import Padding
from taskloom.config import Config
from taskloom.data.cache import Items
from taskloom.errors import ConfigError, Fault
from taskloom.evaluation import Predictor
from taskloom.model import MultiTaskModel
from taskloom.record import write_bytes
from taskloom.tasks import Task
from taskloom.tasks.pseudo_labels import PLACE, PseudoLabels
from taskloom.types import IGNORED

LABELS_FILE = "pseudo_labels.safetensors"
"""The labels in force, beside the optimizer's state in a checkpoint."""


class Labelling(TrainerCallback):
    """What gives texts without labels their labels, after each evaluation of a Trainer that has it as a callback.

    Training items are numbered before any of them is read, and labels are looked up by that number where the loss is
    formed: whatever loaders have fetched ahead, labels hold from the next step on.

    Args:
        model: as it trains.
        tasks: task name -> task.
        items: task name -> split -> items.
        padding: how inputs are filled up.
        limit_tokens: tokens of one rectangle.
        tell: says something to the user.
    """

    def __init__(
        self,
        model: MultiTaskModel,
        tasks: Mapping[str, Task],
        items: Mapping[str, Mapping[str, Items]],
        padding: Padding,
        limit_tokens: int,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.tasks = {name: task for name, task in tasks.items() if isinstance(task, PseudoLabels)}
        self.items = {name: items[name]["train"] for name in self.tasks}
        self.predictor = Predictor(model, tasks, padding, limit_tokens)
        self.tell = tell
        for name, held in self.items.items():
            held.beside[PLACE] = range(len(held))
            self.tasks[name].take(None)

    def label(self, step: int) -> dict[str, dict[str, int]]:
        """Label all texts anew by the model as it is, and put that into force.

        Args:
            step: optimizer steps so far, for what is told.

        Returns:
            task name -> label -> how many texts have it.
        """
        found = {}
        for name, task in self.tasks.items():
            labels = task.label(self.predictor.outputs(name, self.items[name]))
            task.take(labels)
            counts = Counter(labels[labels != IGNORED].tolist())
            found[name] = {str(label): counts[place] for place, label in enumerate(task.labelled.labels)}
            self.tell(f"step {step}: {sum(counts.values()):,} of {len(labels):,} texts of {name} have a label")
        return found

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Label all texts anew; what is saved after the same step has these labels."""
        self.label(state.global_step)

    def save(self, folder: Path) -> None:
        """Write what has to be there to go on bit for bit; nothing without such tasks."""
        if self.tasks:
            held = {name: task.given for name, task in self.tasks.items() if task.given is not None}
            write_bytes(folder / LABELS_FILE, save({name: given.cpu().numpy() for name, given in held.items()}))

    def load(self, folder: Path) -> None:
        """Take back what `save` wrote."""
        if self.tasks:
            held = load_file(folder / LABELS_FILE)
            for name, task in self.tasks.items():
                task.take(np.asarray(held[name]) if name in held else None)


def check_labelling(config: Config, tasks: Mapping[str, Task], evaluates: bool) -> None:
    """Refuse texts to be labelled in a run that does not evaluate while it trains: they would have no label ever.

    Raises:
        ConfigError: with every task of such texts.
    """
    faults = []
    for name, task in tasks.items():
        if isinstance(task, PseudoLabels) and not evaluates:
            source = config.document.source(("tasks", name, "type"))
            requirement = "stand in a run that evaluates while it trains, since texts are labelled then"
            fix = "Set `training.eval_steps`, and give every task validation rows"
            faults.append(Fault(f"tasks.{name}.type", requirement, "no evaluation", fix, source))
    if faults:
        raise ConfigError(*faults)
