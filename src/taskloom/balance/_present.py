"""Which tasks a step showed, and what becomes of the others: shared by all methods."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from taskloom.balance import Balance, Statistics, Total
from taskloom.errors import ConfigError, Fault, nearest


def equal(seen: Statistics, total: Total) -> Tensor:
    """Give every present task the same weight: [task]."""
    count = len(seen.tasks)
    return torch.full((count,), 1.0 / count if total == "mean" else 1.0, dtype=torch.float64)


def is_finite(*tensors: Tensor | None) -> bool:
    """Say whether every number of every tensor is finite."""
    return all(bool(tensor.isfinite().all()) for tensor in tensors if tensor is not None)


def preference_of(seen: Statistics, tasks: Sequence[str]) -> Tensor:
    """Give the preference of the present tasks as if they were all: 1/present each where all are liked alike.

    Weights that are linear in it keep, once scaled by present/all, what each task gets in a step with all tasks.

    Args:
        seen: the step.
        tasks: all tasks of the run.

    Returns:
        [task] float64.
    """
    return seen.preference.to("cpu", torch.float64) * (len(tasks) / len(seen.tasks))


def restrict(seen: Statistics, keep: Sequence[int]) -> Statistics:
    """Give a step with only the tasks at the places `keep`."""
    if len(keep) == len(seen.tasks):
        return seen
    places = torch.tensor(keep, dtype=torch.long)

    def square(matrix: Tensor | None) -> Tensor | None:
        return None if matrix is None else matrix[places][:, places]

    return dataclasses.replace(
        seen,
        tasks=tuple(seen.tasks[place] for place in keep),
        losses=seen.losses[places],
        preference=seen.preference[places],
        gramian=square(seen.gramian),
        cross_gramian=square(seen.cross_gramian),
        jacobian=None if seen.jacobian is None else seen.jacobian[places.to(seen.jacobian.device)],
    )


def weigh_live(seen: Statistics, total: Total, solve: Callable[[Statistics], Tensor]) -> Tensor:
    """Weigh the tasks whose gradient is not zero by `solve`; the others get equal weights, as nothing depends on them.

    Args:
        seen: the step, with its Gramian.
        total: that of the method.
        solve: from a step of the live tasks to their weights.

    Returns:
        [task] float64.
    """
    weights = equal(seen, total)
    assert seen.gramian is not None, "a method that reads the Gramian is given it"
    seen = dataclasses.replace(seen, gramian=seen.gramian.to("cpu", torch.float64), losses=seen.losses.cpu())
    if not is_finite(seen.gramian, seen.losses):
        return weights
    assert seen.gramian is not None
    live = seen.gramian.diagonal().gt(0).nonzero().flatten()
    if len(live):
        found = solve(restrict(seen, live.tolist())).to("cpu", torch.float64)
        # Weights of a mean method add up over the live tasks alone, so they are scaled as for absent tasks.
        weights[live] = found * (len(live) / len(seen.tasks) if total == "mean" else 1.0)
    return weights


class Shares:
    """Numbers that add up to one over all tasks of the run, of which a step moves only those of its own tasks."""

    def __init__(self, tasks: Iterable[str]) -> None:
        names = tuple(tasks)
        self.of = dict.fromkeys(names, 1.0 / len(names))

    def present(self, tasks: Sequence[str]) -> Tensor:
        """Give the shares of some tasks as if they were all: [task] float64, adding up to 1."""
        shares = torch.tensor([self.of[task] for task in tasks], dtype=torch.float64)
        mass = shares.sum()
        return shares / mass if mass > 0 else torch.full_like(shares, 1.0 / len(tasks))

    def move(self, tasks: Sequence[str], shares: Tensor) -> None:
        """Take new shares of some tasks, which together keep what they had."""
        mass = sum(self.of[task] for task in tasks)
        self.of.update(zip(tasks, (shares * mass).tolist(), strict=True))


class Sharing(Balance):
    """A method that keeps each task's share and moves it from step to step."""

    def begin(self, tasks: Sequence[str]) -> None:
        """Begin with equal shares."""
        super().begin(tasks)
        self.shares = Shares(tasks)

    def state(self) -> dict[str, Any]:
        """Give the shares by task."""
        return {"shares": dict(self.shares.of)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take the shares back."""
        self.shares.of = dict(state["shares"])


def check_tasks(option: str, given: Mapping[str, object], tasks: Sequence[str], *, complete: bool) -> None:
    """Hold an option that maps tasks to something to the tasks of the run.

    Args:
        option: its name.
        given: its value.
        tasks: all tasks of the run.
        complete: whether every task has to be in it.

    Raises:
        ConfigError: with every task that the run lacks, and every one that is missing.
    """
    faults = [
        Fault(f"balance.{option}.{name}", "be one of the run's tasks", f"`{name}`", nearest(name, tasks))
        for name in given
        if name not in tasks
    ]
    if complete:
        faults += [
            Fault(f"balance.{option}.{name}", "be given", "nothing", f"Add `{name}: 1`")
            for name in tasks
            if name not in given
        ]
    if faults:
        raise ConfigError(*faults)
