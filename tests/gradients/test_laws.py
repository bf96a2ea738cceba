"""Laws of the engine: gradients add up, follow their tasks, and leave nothing behind."""

from __future__ import annotations

import gc
import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from splitting_tools import (
    BACKBONES,
    WORDS,
    Batch,
    adapted,
    distance,
    flat_gradient,
    one_pass,
    separate_passes,
    shared,
)
from taskloom.gradients import Engine, GradientError, Step
from taskloom.gradients.rows import MARK
from taskloom.gradients.step import accumulating

MODELS: dict[str, Any] = {}


def model_of(kind: str, *, lora: bool = False) -> Any:
    """Make a model once; tests leave it as it was."""
    key = f"{kind} {lora}"
    if key not in MODELS:
        torch.manual_seed(5)
        model = BACKBONES[kind](tie=True).train()
        MODELS[key] = adapted(model).train() if lora else model
    MODELS[key].zero_grad()
    return MODELS[key]


rows_of_tasks = st.lists(st.integers(0, 3), min_size=1, max_size=6).filter(any)


@given(
    rows=rows_of_tasks, tokens=st.integers(1, 9), seed=st.integers(0, 99), kind=st.sampled_from(["bert", "llama", "t5"])
)
@settings(max_examples=40, deadline=None)
def test_any_number_of_rows_of_any_task_in_any_order_is_split_exactly(
    rows: list[int], tokens: int, seed: int, kind: str
) -> None:
    model = model_of(kind, lora=seed % 2 == 0)
    tasks = [task for task, count in enumerate(rows) for _ in range(count)]
    order = torch.randperm(len(tasks), generator=torch.Generator().manual_seed(seed)).tolist()
    batch = Batch(model, [tasks[place] for place in order], tokens, seed)
    wanted = separate_passes(model, batch.losses, len(rows))
    step = one_pass(Engine(shared(model), len(rows)), batch)
    assert distance(step.jacobian, wanted) < 1e-5
    for task, count in enumerate(rows):
        if not count:
            assert not step.jacobian[task].any()


@given(cuts=st.sets(st.integers(1, 7), max_size=4), kind=st.sampled_from(["bert", "llama"]))
@settings(max_examples=15, deadline=None)
@pytest.mark.parametrize("statistic", ["jacobian", "sketch"])
def test_gradients_add_up_over_any_cut_into_passes(statistic: Any, cuts: set[int], kind: str) -> None:
    model = model_of(kind)
    batch = Batch(model, [0, 0, 1, 1, 1, 2, 0, 2])
    weights = torch.tensor([0.5, 2.0, 1.0])
    whole = one_pass(Engine(shared(model), 3, statistic=statistic), batch, weights=weights)
    gradient = flat_gradient(shared(model)) if statistic == "sketch" else whole.jacobian.clone()
    model.zero_grad()
    engine = Engine(shared(model), 3, statistic=statistic)
    bounds = [0, *sorted(cuts), 8]
    with engine.step(weights) as step:
        for start, stop in itertools.pairwise(bounds):
            part = slice(start, stop)
            inputs = {name: value[part] for name, value in batch.inputs.items()}
            step.rows(batch.tasks[part], inputs)
            step.backward(batch.of(model(**inputs).logits, part))
    assert distance(step.gramian(), whole.gramian()) < 1e-5
    assert distance(flat_gradient(shared(model)) if statistic == "sketch" else step.jacobian, gradient) < 1e-5


def test_the_step_may_be_left_and_taken_up_between_passes() -> None:
    model = model_of("bert")
    batch = Batch(model, [0, 1, 1, 0])
    whole = one_pass(Engine(shared(model), 2), batch).jacobian.clone()
    engine = Engine(shared(model), 2)
    step = engine.step()
    for part in (slice(0, 2), slice(2, 4)):
        inputs = {name: value[part] for name, value in batch.inputs.items()}
        with step.watching():
            step.rows(batch.tasks[part], inputs)
            step.backward(batch.of(model(**inputs).logits, part))
        with torch.inference_mode():
            model(**inputs)
    step.close()
    assert distance(step.jacobian, whole) < 1e-5


def test_several_forward_passes_may_come_before_one_backward_pass() -> None:
    model = model_of("llama")
    batch = Batch(model, [0, 1, 1, 0])
    whole = one_pass(Engine(shared(model), 2), batch).jacobian.clone()
    with Engine(shared(model), 2).step() as step:
        losses: dict[int, Tensor] = {}
        for part in (slice(0, 1), slice(1, 4)):
            inputs = {name: value[part] for name, value in batch.inputs.items()}
            step.rows(batch.tasks[part], inputs)
            for task, loss in batch.of(model(**inputs).logits, part).items():
                losses[task] = losses[task] + loss if task in losses else loss
        step.backward(losses)
    assert distance(step.jacobian, whole) < 1e-5


def test_rows_of_the_jacobian_follow_their_tasks_and_losses() -> None:
    model = model_of("bert")
    batch = Batch(model, [0, 0, 1, 2])
    before = one_pass(Engine(shared(model), 3), batch).jacobian.clone()
    batch.tasks = torch.tensor([2, 2, 0, 1])
    moved = one_pass(Engine(shared(model), 3), batch).jacobian
    assert distance(moved[[2, 0, 1]], before) < 1e-6
    plain = batch.losses
    batch.losses = lambda rows=slice(None): {t: (3.0 if t == 1 else 1.0) * v for t, v in plain(rows).items()}  # type: ignore[method-assign]
    scaled = one_pass(Engine(shared(model), 3), batch).jacobian
    assert distance(scaled, moved * torch.tensor([[1.0], [3.0], [1.0]])) < 1e-6


class Headed(nn.Module):
    """A backbone with a head for each task that no engine knows of."""

    def __init__(self, backbone: Any, tasks: int) -> None:
        super().__init__()
        self.backbone, self.config = backbone, backbone.config
        self.heads = nn.ModuleList(nn.Linear(WORDS, 1) for _ in range(tasks))

    def losses(self, batch: Batch) -> dict[int, Tensor]:
        logits = self.backbone(**batch.inputs).logits.mean(dim=1)
        return {int(t): self.heads[int(t)](logits[batch.tasks == t]).square().mean() for t in batch.tasks.unique()}


@pytest.mark.parametrize("kind", ["bert", "deberta"])  # the second takes separate passes beside the one
def test_parameters_that_are_not_shared_get_the_plain_gradient(kind: str) -> None:
    torch.manual_seed(0)
    model = Headed(model_of(kind), 2)
    batch = Batch(model, [0, 1, 1])
    sum(model.losses(batch).values(), torch.zeros(())).backward()
    heads = list(model.heads.named_parameters())
    wanted, whole = flat_gradient(heads).clone(), flat_gradient(shared(model.backbone)).clone()
    engine = Engine(shared(model.backbone), 2)
    for _ in range(2):
        model.zero_grad()
        with engine.step() as step:
            step.rows(batch.tasks, batch.inputs)
            step.backward(model.losses(batch))
        assert distance(flat_gradient(heads), wanted) < 1e-6
        assert distance(step.jacobian.sum(dim=0), whole) < 1e-5
    assert bool(engine.uncovered) == (kind == "deberta")


def test_a_step_leaves_nothing_behind_even_after_an_error() -> None:
    model = model_of("bert")
    batch = Batch(model, [0, 1])
    before = model(**batch.inputs).logits.detach().clone()
    engine = Engine(shared(model), 2)
    one_pass(engine, batch)
    inside = []

    def failing() -> None:
        with engine.step() as step:
            step.rows(batch.tasks, batch.inputs)
            inside.append(model(**batch.inputs).logits.detach())
            raise KeyError

    with pytest.raises(KeyError):
        failing()
    assert torch.equal(inside[0], before), "the forward pass is the same inside a step"
    for _, parameter in shared(model):
        assert not hasattr(parameter, MARK)
        assert not parameter._backward_hooks
    model.zero_grad()
    sum(batch.losses().values(), torch.zeros(())).backward()
    plain = flat_gradient(shared(model)).clone()
    assert distance(one_pass(engine, batch).jacobian.sum(dim=0), plain) < 1e-5


def test_no_buffer_of_tasks_times_parameters_exists_without_a_jacobian() -> None:
    model = BACKBONES["bert"](False)
    batch = Batch(model, [0, 1, 2, 3])
    size = sum(parameter.numel() for _, parameter in shared(model))
    largest = max(parameter.numel() for _, parameter in shared(model))
    for statistic in ("gramian", "sketch"):
        engine = Engine(shared(model), 4, statistic=statistic, sketch_size=64)  # type: ignore[arg-type]
        step = one_pass(engine, batch, weights=torch.ones(4))
        step.backward_runs = False
        held = [each for each in gc.get_objects() if isinstance(each, torch.Tensor)]
        assert max(each.numel() for each in held if not each.is_sparse) < max(4 * size, 10**6 + 100_000)
        assert not any(each.numel() == 4 * size for each in held)
        assert 4 * largest < 4 * size


def test_a_loss_may_have_a_penalty_on_shared_parameters() -> None:
    model = model_of("bert")
    batch = Batch(model, [0, 1])
    plain, name = batch.losses, "bert.encoder.layer.0.output.dense.weight"
    weight = dict(model.named_parameters())[name]
    batch.losses = lambda rows=slice(None): {t: v + 0.1 * weight.square().sum() for t, v in plain(rows).items()}  # type: ignore[method-assign]
    wanted = separate_passes(model, batch.losses, 2)
    engine = Engine(shared(model), 2)
    step = one_pass(engine, batch)
    assert distance(step.jacobian, wanted) < 1e-5
    assert set(engine.uncovered) == {name}


def test_a_new_way_of_use_after_the_first_step_is_refused_where_it_cannot_be_split() -> None:
    class Hidden(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
            ctx.save_for_backward(x, weight)
            return x @ weight

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
            x, weight = ctx.saved_tensors
            return grad @ weight.T, x.T @ grad

    weight = nn.Parameter(torch.randn(3, 2))
    x = torch.randn(4, 3)

    def run(engine: Engine, hidden: bool) -> Step:
        with engine.step() as step:
            step.rows([0, 0, 1, 1], x)
            y = Hidden.apply(x, weight) if hidden else x @ weight
            step.backward({0: y[:2].sum(), 1: y[2:].square().sum()})
        return step

    engine = Engine([("weight", weight)], 2)
    wanted = run(engine, hidden=False).jacobian.clone()
    with pytest.raises(GradientError, match="`weight` should be used in every step as in the first one"):
        run(engine, hidden=True)
    other = Engine([("weight", weight)], 2)
    for _ in range(2):
        assert distance(run(other, hidden=True).jacobian, wanted) < 1e-6
    assert set(other.uncovered) == {"weight"}


def test_what_a_backward_pass_adds_to_is_found() -> None:
    a, b = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    assert {id(each) for each in accumulating([(a * b.detach()).sum()])} == {id(a)}
