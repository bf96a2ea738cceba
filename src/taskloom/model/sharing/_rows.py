"""Which task each row of a forward pass is of, and parameters of which each task has one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class TaskRows:
    """The task of each row of the next forward pass, in force until it is said anew.

    So a checkpoint that computes again in the backward pass finds what its forward pass found.

    Args:
        tasks: names of tasks, by number.

    Attributes:
        tasks: as given; tasks that are added later stand at the end.
        present: numbers of the tasks that have rows, rising.
    """

    def __init__(self, tasks: Sequence[str]) -> None:
        self.tasks = list(tasks)
        self.present: tuple[int, ...] = ()
        self._numbers = torch.zeros(0, dtype=torch.int64)
        self._places = self._numbers
        self._repeated: dict[tuple[str, int, torch.device], Tensor] = {}

    def say(self, task_of_row: Tensor | Sequence[int]) -> None:
        """Say the task of each row: [row] numbers of tasks.

        Raises:
            ValueError: there is no row, or no such task.
        """
        numbers = task_of_row.tolist() if isinstance(task_of_row, Tensor) else list(task_of_row)
        wrong = [number for number in numbers if not 0 <= number < len(self.tasks)]
        if wrong or not numbers:
            found = f"`{wrong[0]}`" if wrong else "no row"
            raise ValueError(f"`task_of_row` should hold numbers from 0 to {len(self.tasks) - 1}. Found {found}.")
        self.present = tuple(sorted(set(numbers)))
        self._numbers = torch.tensor(numbers)
        self._places = torch.tensor([self.present.index(number) for number in numbers])
        self._repeated.clear()

    def places(self, x: Tensor, path: str) -> Tensor:
        """Give the place among the present tasks of each element of the first axis of `x`, a layer's input.

        Args:
            x: [row, ...], or [row × times, ...] with each row's elements together, as beams and flattened tokens have.
            path: the layer's name, for the message.

        Raises:
            ValueError: the first axis of `x` is no whole multiple of the rows.
        """
        return self._repeat("places", self._places, x, path)

    def numbers(self, x: Tensor, path: str) -> Tensor:
        """Give the number of the task of each element of the first axis of `x`; see `places`."""
        return self._repeat("numbers", self._numbers, x, path)

    def check(self, x: Tensor, path: str) -> None:
        """Refuse an input whose first axis is no whole multiple of the rows; see `places`."""
        count, length = len(self._numbers), x.shape[0]
        if not count:
            raise ValueError("The task of each row should be said before a forward pass. Found that none was.")
        if not length or length % count:
            raise ValueError(
                f"`{path}` should read the {count} rows whose tasks were said, or a whole multiple of them. "
                f"Found an input of shape {tuple(x.shape)}."
            )

    def _repeat(self, kind: str, values: Tensor, x: Tensor, path: str) -> Tensor:
        self.check(x, path)
        key = (kind, x.shape[0] // len(values), x.device)
        if key not in self._repeated:
            self._repeated[key] = values.repeat_interleave(key[1]).to(x.device)
        return self._repeated[key]


class ByTask(nn.Module):
    """A parameter of each task, all of one shape.

    Each is a parameter by itself, so that one of a task without rows in a step gets no gradient, and a new task leaves
    those of others as they are. A forward pass stacks those of the present tasks.
    """

    def put(self, task: str, value: Tensor) -> None:
        """Give a task its parameter."""
        self.register_parameter(_key(task), nn.Parameter(value))

    def of(self, task: str) -> Tensor:
        """Give a task's parameter; zeros where it has none."""
        held = self._parameters.get(_key(task))
        if held is None:
            return torch.zeros_like(next(self.parameters()), requires_grad=False)
        return held

    def has(self, task: str) -> bool:
        """Say whether a task has one."""
        return _key(task) in self._parameters

    def owners(self) -> dict[str, str]:
        """Give the name of each parameter here -> its task."""
        return {name: name.removeprefix(_PREFIX) for name in self._parameters}

    def stacked(self, rows: TaskRows) -> Tensor:
        """Give the parameters of the present tasks: [present, ...]."""
        return torch.stack([self.of(rows.tasks[number]) for number in rows.present])

    def gathered(self, rows: TaskRows, x: Tensor, path: str) -> Tensor:
        """Give each row its task's parameter: [row, ...]; of one task alone [1, ...], which broadcasts."""
        stacked = self.stacked(rows)
        return stacked if len(rows.present) == 1 else stacked.index_select(0, rows.places(x, path))

    def project(self, rows: TaskRows, x: Tensor, path: str) -> Tensor:
        """Multiply each row by its task's matrix [out, in]: [row, token, in] -> [row, token, out]."""
        if len(rows.present) == 1:
            return functional.linear(x, self.of(rows.tasks[rows.present[0]]))
        return torch.bmm(x, self.gathered(rows, x, path).transpose(1, 2))


_PREFIX = "of_"
"""What stands before a task's name, so that none can be that of something torch's modules have."""


def _key(task: str) -> str:
    return f"{_PREFIX}{task}"
