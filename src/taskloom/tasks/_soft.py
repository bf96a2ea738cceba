"""Learning from what a model says beside what is written: soft targets, and how they stand beside hard ones.

A *pupil* is a task that can learn from a teacher: a run that was trained before. What the teacher's head says of a
training item is its *lesson*: [place, label], of one place, or of every word where words are tagged; in the order of
the pupil's labels, or on its scale. Lessons are made once, before training, and stand beside the items under `LESSON`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional

from taskloom.errors import listed
from taskloom.tasks import Floats, Task
from taskloom.types import Item

LESSON = "teacher"
"""The key of an item under which its lesson stands; rows that are not trained on have none."""


def _settled(folder: str) -> str:
    """Keep a folder whole, so that it is found from any other."""
    place = Path(folder).expanduser()
    return str(place.resolve()) if place.is_dir() else folder


class Distillation(BaseModel):
    """What is learned from a teacher, and how much it counts.

    Attributes:
        teacher: the folder of a finished run.
        task: its task; None for the one of the same name.
        share: of the loss, what the teacher has; the rest is left to what is written in the rows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    teacher: Annotated[str, Field(min_length=1), AfterValidator(_settled)]
    task: str | None = None
    share: float = Field(default=0.5, gt=0, le=1)


class SoftDistillation(Distillation):
    """The same of a teacher that gives probabilities.

    Attributes:
        temperature: what both sides' logits are divided by: above 1, labels that the teacher thinks unlikely count
            more.
    """

    temperature: float = Field(default=2.0, gt=0)


class Pupil(Task):
    """A task that can learn from a teacher.

    Class attributes:
        taught_by: the form of the option.

    Attributes:
        distillation: the option; None for no teacher.
    """

    taught_by: ClassVar[type[Distillation]] = SoftDistillation
    distillation: Distillation | None = None

    def learn_from(self, given: Any) -> None:
        """Take the option, as it stands in a run file or made already."""
        self.distillation = None if given is None else self.taught_by.model_validate(_plain(given))

    @abstractmethod
    def lesson(self, teacher: Task, output: Floats, taught: Item, item: Item) -> Floats:
        """Bring what a teacher says into this task's terms.

        Args:
            teacher: the teacher's task, to which this one has no `objection`.
            output: what its head gives for an item [sequence, ...].
            taught: the item, as the teacher's task encoded it.
            item: the same row's item of this task.

        Returns:
            [place, label]; not a number where the teacher says nothing.
        """

    def objection(self, teacher: Task) -> tuple[str, str] | None:
        """Say why a task cannot teach this one, as the words after "should" and what is found; None where it can."""
        if isinstance(teacher, type(self)):
            return None
        return "name a task of the same type", f"`{type(teacher).__name__}` where this is `{type(self).__name__}`"

    def lessons(self, items: Sequence[Item]) -> dict[str, Tensor]:
        """Collate the lessons of items of one place each: ``teacher`` [item, label]; nothing where there are none."""
        if self.distillation is None or not has_lessons(items):
            return {}
        return {LESSON: torch.from_numpy(np.stack([np.asarray(item[LESSON], np.float32)[0] for item in items]))}

    def blended(self, hard: Tensor, soft: Tensor) -> Tensor:
        """Give ``(1 - share) hard + share soft``."""
        assert self.distillation is not None
        return (1 - self.distillation.share) * hard + self.distillation.share * soft

    @property
    def temperature(self) -> float:
        """What logits are divided by before they are compared."""
        return float(getattr(self.distillation, "temperature", 1.0))


def _plain(given: Any) -> Any:
    return given.model_dump() if isinstance(given, BaseModel) else dict(given)


def has_lessons(items: Sequence[Item]) -> bool:
    """Say whether a teacher was asked about all of some items."""
    return all(item.get(LESSON) is not None for item in items)


def other_labels(own: Sequence[Any], others: Sequence[Any]) -> tuple[str, str] | None:
    """Say how two lists of labels differ, in the form of `Pupil.objection`; their order does not count."""
    missing = [str(label) for label in own if label not in others]
    more = [str(label) for label in others if label not in own]
    parts = [f"no {listed(missing, 6)}"] * bool(missing) + [f"{listed(more, 6)} besides"] * bool(more)
    return ("have the labels of this task", " and ".join(parts)) if parts else None


def reordered(values: Floats, own: Sequence[Any], others: Mapping[Any, int]) -> Floats:
    """Put values [..., label] in the order of the teacher's labels into that of the pupil's."""
    return np.asarray(values, dtype=np.float32)[..., [others[label] for label in own]]


def divergence(output: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Give ``T^2 KL(softmax(teacher / T) || softmax(output / T))`` over the last axis: [...] of [..., label].

    The square keeps the gradient's size about the same whatever the temperature (Hinton et al., 2015).
    """
    wanted = (teacher / temperature).log_softmax(dim=-1)
    return temperature**2 * _relative_entropy(wanted, (output / temperature).log_softmax(dim=-1))


def binary_divergence(output: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Give ``T^2 KL(sigmoid(teacher / T) || sigmoid(output / T))`` of choices between two: [..., label]."""
    wanted, said = (
        torch.stack([functional.logsigmoid(-each / temperature), functional.logsigmoid(each / temperature)], dim=-1)
        for each in (teacher, output)
    )
    return temperature**2 * _relative_entropy(wanted, said)


def _relative_entropy(wanted: Tensor, said: Tensor) -> Tensor:
    """Give ``sum p (log p - log q)`` over the last axis, of log-probabilities."""
    return (wanted.exp() * (wanted - said)).sum(dim=-1)
