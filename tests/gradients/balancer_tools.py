"""A tiny model of several tasks, its gradients by separate passes, and a plain loop over a `Balancer`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from taskloom.gradients import BalancedStep, Balancer

TASKS = ("intent", "slots", "urgency", "mood")
WIDTH = 6


class Tiny(nn.Module):
    """A shared encoder of token numbers, and one linear head for each task."""

    def __init__(self, tasks: Sequence[str] = TASKS, *, seed: int = 0, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.shared = nn.ModuleDict(
            {
                "words": nn.Embedding(11, 7),
                "first": nn.Linear(7, 9),
                "norm": nn.LayerNorm(9),
                "last": nn.Linear(9, WIDTH),
            }
        )
        self.dropout = nn.Dropout(dropout)
        self.heads = nn.ModuleDict({name: nn.Linear(WIDTH, 2) for name in tasks})

    def forward(self, ids: Tensor) -> Tensor:
        """Give one vector for each row."""
        hidden = torch.tanh(self.shared["first"](self.dropout(self.shared["words"](ids))))
        return self.shared["last"](self.dropout(self.shared["norm"](hidden))).mean(dim=1)


@dataclass
class Rows:
    """Some rows of several tasks for one forward pass; a row's loss is its squared distance from `goal`."""

    ids: Tensor
    tasks: list[int]
    goal: Tensor

    def of(self, task: int) -> list[int]:
        return [row for row, each in enumerate(self.tasks) if each == task]


Batch = list[Rows]


def batch(counts: Mapping[str, int], *, seed: int = 0, chunks: int = 1, tasks: Sequence[str] = TASKS) -> Batch:
    """Draw a step: so many rows of each task, mixed, and cut into chunks."""
    generator = torch.Generator().manual_seed(100 + seed)
    drawn = [tasks.index(name) for name, count in counts.items() for _ in range(count)]
    order = torch.randperm(len(drawn), generator=generator).tolist()
    numbers = [drawn[place] for place in order]
    ids = torch.randint(0, 11, (len(drawn), 5), generator=generator)
    goal = torch.randn(len(drawn), 2, generator=generator) * torch.tensor([[1.0 + number] for number in numbers])
    parts = torch.arange(len(drawn)).tensor_split(chunks)
    return [Rows(ids[part], [numbers[row] for row in part.tolist()], goal[part]) for part in parts]


def row_losses(model: Tiny, rows: Rows, tasks: Sequence[str] = TASKS) -> dict[str, Tensor]:
    """Give the losses of each task's rows."""
    hidden = model(rows.ids)
    found = {}
    for number, name in enumerate(tasks):
        own = rows.of(number)
        if own:
            found[name] = (model.heads[name](hidden[own]) - rows.goal[own]).square().sum(dim=1)
    return found


def counts_of(step: Batch, tasks: Sequence[str] = TASKS) -> dict[str, int]:
    return {name: sum(len(rows.of(number)) for rows in step) for number, name in enumerate(tasks)}


def shares(model: Tiny, rows: Rows, counts: Mapping[str, int], tasks: Sequence[str] = TASKS) -> dict[str, Tensor]:
    """Give each task's share of its mean loss in the step."""
    return {name: losses.sum() / counts[name] for name, losses in row_losses(model, rows, tasks).items()}


# --- by separate passes ---------------------------------------------------------------------------------------------


@dataclass
class Separate:
    """What one plain backward pass for each task gives.

    Attributes:
        jacobian: [task, param] float64; zero for absent tasks.
        heads: task -> gradient of its head.
        losses: [task] mean losses; NaN for absent tasks.
    """

    jacobian: Tensor
    heads: dict[str, Tensor]
    losses: Tensor


def flat(parameters: Any) -> Tensor:
    """Put the gradients of some parameters into one vector; none counts as zero."""
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten().double() for p in parameters])


def separate(
    model: Tiny, step: Batch, tasks: Sequence[str] = TASKS, keep: Callable[[int], bool] | None = None
) -> Separate:
    """Run one backward pass for each task.

    Args:
        model: is left without gradients.
        step: the rows.
        tasks: names.
        keep: says by a row's place among its task's rows in the step whether it counts; all by default.
    """
    counts = counts_of(step, tasks)
    rows_of_jacobian, heads, means = [], {}, []
    for name in tasks:
        model.zero_grad()
        total, seen = torch.zeros(()), 0
        for rows in step:
            losses = row_losses(model, rows, tasks).get(name)
            if losses is not None:
                kept = [place for place in range(len(losses)) if keep is None or keep(seen + place)]
                total = total + losses[kept].sum() / counts[name]
                seen += len(losses)
        if seen:
            total.backward()
        rows_of_jacobian.append(flat(model.shared.parameters()))
        heads[name] = flat(model.heads[name].parameters())
        means.append(float(total.detach()) if seen else float("nan"))
    model.zero_grad()
    return Separate(torch.stack(rows_of_jacobian), heads, torch.tensor(means, dtype=torch.float64))


# --- by a balancer --------------------------------------------------------------------------------------------------


def balancer_of(model: Tiny, method: Any, tasks: Sequence[str] = TASKS, **options: Any) -> Balancer:
    private = {name: list(model.heads[name].parameters()) for name in tasks}
    return Balancer(model.shared.named_parameters(), tasks, method, private=private, **options)


def run(
    model: Tiny, balancer: Balancer, step: Batch, *, backward: Any = torch.autograd.backward, **options: Any
) -> BalancedStep:
    """Make one step in a plain loop, of two passes where the balancer wants two; leaves the gradients in ``.grad``."""
    counts = counts_of(step, balancer.tasks)
    taken: list[BalancedStep] = []
    for number in range(balancer.passes):
        model.zero_grad()
        measure = number + 1 < balancer.passes
        with balancer.step(measure=measure, **options) as done:
            for rows in step:
                done.rows(rows.tasks, rows.ids)
                done.backward(shares(model, rows, counts, balancer.tasks), backward)
        taken.append(done)
        if not done.sound:
            break
    return taken[-1]


def shared_gradient(model: Tiny) -> Tensor:
    return flat(model.shared.parameters())


def head_gradients(model: Tiny) -> dict[str, Tensor]:
    return {name: flat(head.parameters()) for name, head in model.heads.items()}


def off(found: Tensor, wanted: Tensor) -> float:
    """Give the relative distance of a vector from the wanted one."""
    return float((found.double() - wanted.double()).norm() / wanted.double().norm().clamp(min=1e-30))
