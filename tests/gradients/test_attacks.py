"""Models that do odd things with rows: each is split exactly, takes separate passes by name, or is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from splitting_tools import distance, separate_passes, shared
from taskloom.gradients import Engine, GradientError

TASKS = torch.tensor([0, 0, 0, 2, 3, 3])


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.e = nn.Embedding(30, 8)
        self.a, self.b, self.n = nn.Linear(8, 8), nn.Linear(8, 8), nn.LayerNorm(8)
        self.g = nn.Parameter(torch.ones(8))


Way = Callable[[Model, Tensor], Tensor]


def ending(m: Model, x: Tensor) -> Tensor:
    return m.b(torch.relu(x))


def order(ids: Tensor) -> Tensor:
    return torch.randperm(len(ids), generator=torch.Generator().manual_seed(1))


def selected_tokens(m: Model, ids: Tensor) -> Tensor:
    x = m.e(ids).view(-1, 8)
    chosen = (torch.arange(len(x)) % 2 == 0).nonzero().flatten()
    return ending(m, torch.zeros_like(x).index_add(0, chosen, m.a(x[chosen]))).view(len(ids), -1).mean(1)


def in_place(m: Model, ids: Tensor) -> Tensor:
    x = m.a(m.e(ids))
    x += m.g
    x.mul_(m.g)
    return m.b(torch.relu_(x)).mean((1, 2))


def twice(m: Model, ids: Tensor) -> Tensor:
    x = m.e(ids)
    y = ending(m, m.a(torch.cat([x, 2 * x])))
    return y[: len(ids)].mean((1, 2)) + y[len(ids) :].mean((1, 2))


EXACT: dict[str, Way] = {
    "transposed and back": lambda m, i: ending(m, m.a(m.e(i).transpose(0, 1))).transpose(0, 1).mean((1, 2)),
    "ids transposed": lambda m, i: ending(m, m.a(m.e(i.t()))).mean((0, 2)),
    "swapped twice": lambda m, i: ending(m, m.a(m.e(i)).transpose(0, 1).transpose(1, 0)).mean((1, 2)),
    "swapped, picked, swapped": lambda m, i: ending(m, m.a(m.e(i)).transpose(0, 1)[:, order(i)].transpose(0, 1))[
        torch.argsort(order(i))
    ].mean((1, 2)),
    "rows permuted": lambda m, i: ending(m, m.a(m.e(i))[order(i)])[torch.argsort(order(i))].mean((1, 2)),
    "rows flipped": lambda m, i: ending(m, m.a(m.e(i)).flip(0)).flip(0).mean((1, 2)),
    "rows permuted and flattened": lambda m, i: (
        ending(m, m.a(m.e(i)).permute(1, 0, 2).reshape(-1, 8)).view(i.shape[1], len(i), 8).permute(1, 0, 2).mean((1, 2))
    ),
    "rows twice, one after the other": twice,
    "rows repeated": lambda m, i: ending(m, m.a(m.e(i).repeat(2, 1, 1))).view(2, len(i), -1).mean((0, 2)),
    "each row twice": lambda m, i: ending(m, m.a(m.e(i).repeat_interleave(2, 0))).view(len(i), -1).mean(1),
    "einsum": lambda m, i: ending(m, torch.einsum("bsd,ed->bse", m.e(i), m.a.weight)).mean((1, 2)),
    "bmm": lambda m, i: ending(m, torch.bmm(m.e(i), m.a.weight.expand(len(i), 8, 8))).mean((1, 2)),
    "a gate": lambda m, i: (m.g * torch.sigmoid(m.g) * m.a(m.e(i))).mean((1, 2)),
    "in place": in_place,
    "vmap": lambda m, i: torch.vmap(lambda row: ending(m, m.a(m.e(row))).mean())(i),
    "functional call": lambda m, i: torch.func.functional_call(
        m.a, {"weight": m.a.weight * 2, "bias": m.a.bias}, (m.e(i),)
    ).mean((1, 2)),
    "tokens selected": selected_tokens,
    "row by row": lambda m, i: torch.stack([ending(m, m.a(m.e(row))).mean() for row in i]),
    "unbound": lambda m, i: torch.stack([ending(m, m.a(x)).mean() for x in m.e(i).unbind(0)]),
    "a view of a weight": lambda m, i: (m.e(i) @ m.a.weight.view(4, 2, 8).reshape(8, 8)).mean((1, 2)),
    "weights without a graph": lambda m, i: functional.linear(m.e(i), m.a.weight.data, m.a.bias).mean((1, 2)),
    "cubed": lambda m, i: (m.n(m.a(m.e(i))) ** 3).mean((1, 2)),
    "pooled before the end": lambda m, i: ending(m, m.a(m.e(i)).mean(1)).mean(1),
    "evaluated batch norm": lambda m, i: (
        ending(m, functional.batch_norm(m.a(m.e(i)).flatten(0, 1), torch.zeros(8), torch.ones(8)))
        .view(len(i), -1)
        .mean(1)
    ),
}

COUPLED: dict[str, Way] = {
    "centred over rows": lambda m, i: ending(m, m.a(m.e(i)) - m.a(m.e(i)).mean(0)).mean((1, 2)),
    "centred over all": lambda m, i: ending(m, m.a(m.e(i)) - m.a(m.e(i)).mean()).mean((1, 2)),
    "divided by one norm": lambda m, i: ending(m, (x := m.a(m.e(i))) / x.norm()).mean((1, 2)),
    "softmax over rows": lambda m, i: ending(m, m.a(m.e(i)).softmax(0)).mean((1, 2)),
    "running sum over rows": lambda m, i: ending(m, m.a(m.e(i)).cumsum(0)).mean((1, 2)),
    "rows attend to rows": lambda m, i: ending(m, (x := m.a(m.e(i)).mean(1)) + (x @ x.T).softmax(-1) @ x).mean(1),
    "a row added to another": lambda m, i: ending(m, (x := m.a(m.e(i))) + x[order(i)]).mean((1, 2)),
    "batch norm": lambda m, i: (
        ending(m, functional.batch_norm(m.a(m.e(i)).flatten(0, 1), None, None, training=True)).view(len(i), -1).mean(1)
    ),
    "swapped and centred": lambda m, i: (
        ending(m, (x := m.a(m.e(i)).transpose(0, 1)) - x.mean(1, keepdim=True)).transpose(0, 1).mean((1, 2))
    ),
}


def held_against(way: Way, tokens: int) -> tuple[Model, Callable[[], dict[int, Tensor]], Tensor, Tensor]:
    torch.manual_seed(0)
    model = Model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    ids = torch.randint(30, (len(TASKS), tokens))

    def losses() -> dict[int, Tensor]:
        found = way(model, ids)
        return {int(task): found[task == TASKS].square().mean() for task in TASKS.unique()}

    return model, losses, ids, separate_passes(model, losses, 4)


@pytest.mark.parametrize("tokens", [5, 6, 12])  # as many as rows, and twice as many, could be taken for rows
@pytest.mark.parametrize("name", EXACT)
def test_odd_ways_are_exact(name: str, tokens: int) -> None:
    model, losses, ids, wanted = held_against(EXACT[name], tokens)
    engine = Engine(shared(model), 4)
    for _ in range(2):
        with engine.step() as step:
            step.rows(TASKS, ids)
            step.backward(losses())
        assert distance(step.jacobian, wanted) < 1e-5


@pytest.mark.parametrize("name", COUPLED)
def test_rows_that_change_each_other_are_refused_and_exact_by_separate_passes(name: str) -> None:
    model, losses, ids, wanted = held_against(COUPLED[name], 6)
    engine = Engine(shared(model), 4)

    def refused() -> None:
        with engine.step() as step:
            step.rows(TASKS, ids)
            step.backward(losses())

    with pytest.raises(GradientError, match="should treat each row by itself"):
        refused()
    engine.distrust([leaf.name for leaf in engine.leaves], "rows change each other")
    for _ in range(2):
        with engine.step() as step:
            step.rows(TASKS, ids)
            step.backward(losses())
        assert distance(step.jacobian, wanted) < 1e-5
