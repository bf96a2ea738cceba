"""Rows and their sums, and which calls of torch leave another thing than rows on the first axis."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from taskloom.gradients import Engine
from taskloom.gradients.axes import couples_rows, moves_rows, swaps_rows, tensors_in
from taskloom.gradients.ledgers import layer_of
from taskloom.gradients.rows import Rows


@given(slots=st.lists(st.integers(0, 4), min_size=1, max_size=9), times=st.integers(1, 3), seed=st.integers(0, 50))
@settings(max_examples=60, deadline=None)
def test_sums_and_products_are_those_of_each_slot(slots: list[int], times: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    left = torch.randn(len(slots) * times, 3, generator=generator, dtype=torch.float64)
    right = torch.randn(len(slots) * times, 2, generator=generator, dtype=torch.float64)
    rows = Rows(slots, 5)
    assert rows.times(left) == times
    assert rows.present == sorted(set(slots))
    owner = torch.tensor(slots).repeat_interleave(times)
    for place, slot in enumerate(rows.present):
        torch.testing.assert_close(rows.sums(left, times)[place], left[owner == slot].sum(dim=0))
        torch.testing.assert_close(
            rows.products(left, right, times)[place], left[owner == slot].T @ right[owner == slot]
        )


def test_a_tensor_is_aligned_where_its_first_axis_is_a_multiple_of_the_rows() -> None:
    rows = Rows([0, 1, 1], 2)
    assert [rows.times(torch.zeros(size)) for size in (3, 6, 4, 0)] == [1, 2, 0, 0]
    assert rows.times(torch.zeros(())) == 0


@pytest.mark.parametrize(
    ("slots", "message"),
    [
        ([], "`slots` should name the slot of one row at least. Found none."),
        ([0, 5], "`slots` should lie between 0 and 2. Found `5`."),
    ],
)
def test_slots_that_cannot_be_are_refused(slots: list[int], message: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        Rows(slots, 3)
    assert str(raised.value) == message


class Asked(TorchFunctionMode):
    """Asks of the last call of torch what is known of it."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: dict[str, bool] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = kwargs or {}
        if next(tensors_in([*args, *options.values()]), None) is not None:  # a call that takes rows, at least
            self.answers = {
                "moves": moves_rows(func, args, options, 3),
                "couples": couples_rows(func, args, options, aligned=True),
                "swaps": swaps_rows(func, args, options),
            }
        return func(*args, **options)


MOVES = {
    "transpose": lambda x: x.transpose(0, 1),
    "negative transpose": lambda x: x.transpose(-3, 2),
    "permute": lambda x: x.permute(2, 0, 1),
    "permute of a tuple": lambda x: x.permute((1, 0, 2)),
    "T": lambda x: x[0].T,
    "index": lambda x: x[torch.tensor([2, 0, 1])],
    "mask": lambda x: x[torch.tensor([True, False, True])],
    "one row": lambda x: x[1],
    "some rows": lambda x: x[:2],
    "flip": lambda x: x.flip(0),
    "flip of all": lambda x: x.flip([0, 1]),
    "roll": lambda x: x.roll(1, 0),
    "cat": lambda x: torch.cat([x, x]),
    "stack": lambda x: torch.stack([x, x]),
    "repeat": lambda x: x.repeat(2, 1, 1),
    "select": lambda x: x.select(0, 1),
    "unbind": lambda x: x.unbind(),
    "split": lambda x: x.split(1),
    "gather": lambda x: x.gather(0, torch.zeros(3, 4, 5, dtype=torch.int64)),
    "sort": lambda x: x.sort(0),
    "unsqueeze": lambda x: x.unsqueeze(0),
    "sum over rows": lambda x: x.sum(0),
    "topk": lambda x: x.topk(2, dim=0),
    "movedim": lambda x: x.movedim(0, 1),
    "masked select": lambda x: x.masked_select(x > 0),
}
STAYS = {
    "transpose of others": lambda x: x.transpose(1, 2),
    "permute of others": lambda x: x.permute(0, 2, 1),
    "whole slice": lambda x: x[:, 1],
    "ellipsis": lambda x: x[..., :2],
    "numbers of all rows": lambda x: x[torch.arange(3), 0],
    "flip of others": lambda x: x.flip(1),
    "cat of others": lambda x: torch.cat([x, x], dim=-1),
    "sum of others": lambda x: x.sum(-1),
    "view": lambda x: x.view(3, -1),
    "repeat of others": lambda x: x.repeat(1, 2, 1),
    "add": lambda x: x + 1,
    "split of others": lambda x: x.split(2, dim=1),
    "unsqueeze of others": lambda x: x.unsqueeze(-1),
}


@pytest.mark.parametrize("name", [*MOVES, *STAYS])
def test_a_call_that_moves_rows_is_known(name: str) -> None:
    x = torch.randn(3, 4, 5)
    with Asked() as asked:
        (MOVES | STAYS)[name](x)
    assert asked.answers["moves"] == (name in MOVES)


@pytest.mark.parametrize(
    ("call", "couples"),
    [
        (lambda x: x.sum(), True),
        (lambda x: x.mean(0), True),
        (lambda x: x.mean((0, 1)), True),
        (lambda x: torch.softmax(x, 0), True),
        (lambda x: x.softmax(dim=0), True),
        (lambda x: x.cumsum(0), True),
        (lambda x: x.norm(), True),
        (lambda x: x.std(-3), True),
        (lambda x: x.amax(dim=0), True),
        (lambda x: x.mean(1), False),
        (lambda x: x.softmax(-1), False),
        (lambda x: x.sum(dim=(1, 2)), False),
        (lambda x: torch.max(x, x), False),
        (lambda x: x.detach().sum(), False),
        (lambda x: x * 2, False),
    ],
)
def test_a_call_that_lets_rows_change_each_other_is_known(call: Any, couples: bool) -> None:
    x = torch.randn(3, 4, 5, requires_grad=True)
    with Asked() as asked:
        call(x)
    assert asked.answers["couples"] == couples


def test_only_a_swap_of_the_first_two_axes_can_be_undone() -> None:
    x = torch.randn(3, 4, 5)
    found = []
    for call in (lambda x: x.transpose(0, 1), lambda x: x.swapaxes(1, 0), lambda x: x.transpose(0, 2), lambda x: x[0]):
        with Asked() as asked:
            call(x)
        found.append(asked.answers["swaps"])
    assert found == [True, True, False, False]


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("bert.encoder.layer.3.attention.self.query.weight", "layer.3"),
        ("base_model.model.model.layers.11.mlp.up_proj.lora_A.default.weight", "layers.11"),
        ("transformer.h.0.ln_1.bias", "h.0"),
        ("encoder.block.2.layer.0.SelfAttention.q.weight", "block.2"),
        ("bert.embeddings.word_embeddings.weight", "bert.embeddings.word_embeddings"),
        ("weight", "weight"),
    ],
)
def test_a_parameter_belongs_to_its_layer(name: str, layer: str) -> None:
    assert layer_of(name) == layer


def linear_step(engine: Engine, tasks: Any, x: Tensor, layer: nn.Module) -> None:
    with engine.step() as step:
        step.rows(tasks, x)
        step.backward({0: layer(x).sum()})


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (
            [0, 1],
            "`task_of_row` should name the task of each row of the inputs. Found 2 tasks for an input of shape (3, 4).",
        ),
        ([0, 1, 2], "`task_of_row` should hold numbers from 0 to 1. Found `2`."),
        ([0, -1, 1], "`task_of_row` should hold numbers from 0 to 1. Found `-1`."),
    ],
)
def test_every_row_has_to_have_a_task(tasks: list[int], message: str) -> None:
    layer = nn.Linear(4, 2)
    engine = Engine(layer.named_parameters(), 2)
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        linear_step(engine, tasks, torch.randn(3, 4), layer)
    assert str(raised.value) == message


def test_a_backward_pass_without_rows_is_refused() -> None:
    layer = nn.Linear(4, 2)

    def run() -> None:
        with Engine(layer.named_parameters(), 2).step() as step:
            step.backward({0: layer(torch.randn(3, 4)).sum()})

    with pytest.raises(ValueError, match="`rows` should be called before the forward pass"):
        run()


def test_an_engine_needs_something_to_split() -> None:
    layer = nn.Linear(2, 2).requires_grad_(False)
    for parameters, tasks in ((layer.named_parameters(), 2), (nn.Linear(2, 2).named_parameters(), 0)):
        with pytest.raises(ValueError, match="needs one trainable parameter and one task at least"):
            Engine(parameters, tasks)
    with pytest.raises(ValueError, match="`weights` should be given to a step of the statistic `sketch`"):
        Engine(nn.Linear(2, 2).named_parameters(), 2, statistic="sketch").step()
