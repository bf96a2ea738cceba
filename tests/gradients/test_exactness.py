"""Each task's gradient in one pass is that of one plain pass for each task, on every backbone and in every way."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from splitting_tools import (
    BACKBONES,
    Batch,
    adapted,
    checkpointed,
    distance,
    flat_gradient,
    half,
    one_pass,
    separate_passes,
    shared,
)
from taskloom.gradients import Engine

TASKS = (0, 0, 0, 2, 3, 3)
"""Three rows of one task, none of the second, one, two."""

COUNT = 4
WEIGHTS = torch.tensor([0.3, 5.0, 1.1, 0.7])
TOLERANCE, TOLERANCE_HALF = 1e-5, 2e-2
SEPARATE = {"deberta"}
"""Backbones some of whose parameters take separate passes: positions times rows of attention heads."""


def model_of(kind: str, *, lora: bool = False, tie: bool = True, checkpoint: str = "off", **options: Any) -> Any:
    torch.manual_seed(3)
    model = BACKBONES[kind](tie).train()
    if lora:
        model = adapted(model, **options).train()
    if checkpoint != "off":
        model = checkpointed(model, reentrant=checkpoint == "reentrant")
    return model


def assert_exact(model: Any, batch: Batch, *, tolerance: float = TOLERANCE, separate: bool | None = False) -> Engine:
    """Hold Jacobian, Gramian and combined gradient against separate passes, in two steps of one engine."""
    wanted = separate_passes(model, batch.losses, COUNT)
    assert wanted.norm() > 0
    engine = Engine(shared(model), COUNT)
    for _ in range(2):
        model.zero_grad()
        step = one_pass(engine, batch)
        assert distance(step.jacobian, wanted) < tolerance
        assert distance(step.gramian(), wanted.double() @ wanted.double().T) < tolerance
        assert not step.jacobian[1].any(), "the row of an absent task is zero"
        step.write(WEIGHTS)
        assert distance(flat_gradient(shared(model)), WEIGHTS.to(wanted) @ wanted) < tolerance
    if separate is not None:
        assert bool(engine.uncovered) == separate, engine.uncovered
    return engine


@pytest.mark.parametrize("checkpoint", ["off", "plain", "reentrant"])
@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("kind", BACKBONES)
def test_gradients_are_those_of_separate_passes(kind: str, lora: bool, checkpoint: str) -> None:
    if kind == "deberta" and checkpoint == "reentrant":
        pytest.skip("DeBERTa does not run so in plain transformers either: its layers share one graph of positions")
    model = model_of(kind, lora=lora, checkpoint=checkpoint)
    bias = kind == "t5" and not lora and checkpoint == "reentrant"  # leaves its checkpoint as an output
    assert_exact(model, Batch(model, TASKS), separate=kind in SEPARATE or bias)


@pytest.mark.parametrize("kind", BACKBONES)
def test_untied_weights_have_gradients_of_their_own(kind: str) -> None:
    model = model_of(kind, tie=False)
    assert_exact(model, Batch(model, TASKS), separate=kind in SEPARATE)


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("kind", ["bert", "llama", "gpt2", "t5"])
def test_gradients_in_half_precision_are_those_of_separate_passes_in_it(kind: str, lora: bool) -> None:
    model = model_of(kind, lora=lora)
    batch = Batch(model, TASKS)
    plain = batch.losses

    def losses(rows: slice = slice(None)) -> dict[int, Tensor]:
        with half(on=True):
            return plain(rows)

    batch.losses = losses  # type: ignore[method-assign]
    assert_exact(model, batch, tolerance=TOLERANCE_HALF)


@pytest.mark.parametrize("order", [(3, 0, 2, 0, 3, 0), (0, 2, 3, 3, 0, 0)])
@pytest.mark.parametrize("kind", ["bert", "llama", "gpt2", "t5"])
def test_rows_may_come_in_any_order(kind: str, order: tuple[int, ...]) -> None:
    model = model_of(kind)
    assert_exact(model, Batch(model, order))


@pytest.mark.parametrize("tokens", [1, 2, 6, 12])
@pytest.mark.parametrize("kind", ["bert", "t5", "gpt2"])
def test_as_many_tokens_as_rows_are_not_taken_for_rows(kind: str, tokens: int) -> None:
    model = model_of(kind)
    assert_exact(model, Batch(model, TASKS, tokens))


@pytest.mark.parametrize(
    "options",
    [
        {"use_dora": True},
        {"use_rslora": True},
        {"lora_dropout": 0.4},
        {"lora_bias": True},
        {"target_modules": ["query", "word_embeddings"]},
        {"modules_to_save": ["decoder"]},
        {"init_lora_weights": "gaussian"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_variants_of_lora_are_exact(options: dict[str, Any]) -> None:
    model = model_of("bert", lora=True, **options)
    assert_exact(model, Batch(model, TASKS), separate=None)


@pytest.mark.parametrize("trained", ["bias", "layer.1", "embeddings", "LayerNorm", "position_embeddings"])
def test_frozen_parts_stay_out(trained: str) -> None:
    model = model_of("bert")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trained in name)
    assert_exact(model, Batch(model, TASKS))


@pytest.mark.parametrize("kind", ["bert", "llama", "t5"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_either_way_of_attending_is_exact(kind: str, attention: str) -> None:
    model = model_of(kind)
    model.set_attn_implementation(attention)
    assert_exact(model, Batch(model, TASKS))


@pytest.mark.parametrize("kind", ["bert", "llama", "t5", "gpt2"])
@pytest.mark.parametrize("checkpoint", ["off", "plain", "reentrant"])
def test_the_gramian_is_summed_layer_by_layer_without_a_jacobian(kind: str, checkpoint: str) -> None:
    model = model_of(kind, checkpoint=checkpoint)
    batch = Batch(model, TASKS)
    wanted = separate_passes(model, batch.losses, COUNT)
    engine = Engine(shared(model), COUNT, statistic="gramian")
    step = one_pass(engine, batch, weights=WEIGHTS)
    if step.gramian() is None:  # a parameter was met twice, which is known from now on
        model.zero_grad()
        step = one_pass(engine, batch, weights=WEIGHTS)
    gramian = step.gramian()
    assert gramian is not None
    assert distance(gramian, wanted.double() @ wanted.double().T) < TOLERANCE
    assert distance(sum(step.layers().values(), torch.zeros(())), gramian) < 1e-12
    assert distance(flat_gradient(shared(model)), WEIGHTS.to(wanted) @ wanted) < TOLERANCE
    with pytest.raises(ValueError, match="keeps no Jacobian"):
        _ = step.jacobian


@pytest.mark.parametrize("kind", ["bert", "llama", "t5"])
def test_the_weighted_gradient_is_exact_beside_a_sketch(kind: str) -> None:
    model = model_of(kind)
    batch = Batch(model, TASKS)
    wanted = separate_passes(model, batch.losses, COUNT)
    step = one_pass(Engine(shared(model), COUNT, statistic="sketch"), batch, weights=WEIGHTS)
    assert distance(flat_gradient(shared(model)), WEIGHTS.to(wanted) @ wanted) < TOLERANCE
    assert distance(step.gramian(), wanted.double() @ wanted.double().T) < 0.2


def test_layers_add_up_to_the_gramian() -> None:
    model = model_of("bert")
    step = one_pass(Engine(shared(model), COUNT), Batch(model, TASKS))
    layers = step.layers()
    assert {"layer.0", "layer.1"} <= set(layers)
    assert distance(sum(layers.values(), torch.zeros(())), step.gramian()) < TOLERANCE


def test_double_precision_is_split_too() -> None:
    model = model_of("llama").double()
    assert_exact(model, Batch(model, TASKS))


class Exotic(nn.Module):
    """Parameters used in ways that no rule knows, beside ones that a rule does."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(30, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.recurrent = nn.GRU(8, 8, batch_first=True)
        self.convolution = nn.Conv1d(8, 8, 3, padding=1)
        self.normed = torch.nn.utils.parametrizations.weight_norm(nn.Linear(8, 8))
        self.gate = nn.Parameter(torch.tensor(0.7))
        self.prompt = nn.Parameter(torch.randn(2, 8))
        self.bilinear = nn.Parameter(torch.randn(8, 8))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.gate * self.embedding(ids)
        x = torch.cat([self.prompt.expand(x.shape[0], 2, 8), x], dim=1)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        x = self.recurrent(x)[0]
        x = self.convolution(x.transpose(1, 2)).transpose(1, 2)
        x = self.normed(x) + x
        return torch.einsum("bsd,de,bse->bs", x, self.bilinear, x).mean(dim=1)


def test_parameters_without_a_rule_take_separate_passes_and_are_named() -> None:
    torch.manual_seed(0)
    model = Exotic()
    ids, tasks = torch.randint(30, (6, 5)), torch.tensor(TASKS)

    def losses() -> dict[int, Tensor]:
        found = model(ids)
        return {int(task): found[tasks == task].square().mean() for task in tasks.unique()}

    wanted = separate_passes(model, losses, COUNT)
    engine = Engine(shared(model), COUNT)
    for _ in range(2):
        with engine.step() as step:
            step.rows(tasks, ids)
            step.backward(losses())
        assert distance(step.jacobian, wanted) < TOLERANCE
    assert {"recurrent.weight_ih_l0", "convolution.weight", "attention.in_proj_weight"} <= set(engine.uncovered)
    assert "gate" not in engine.uncovered


def test_a_real_pretrained_encoder_is_split_exactly() -> None:
    from transformers import AutoModel

    from taskloom.model.bundled import bundled_folder

    folder = bundled_folder()
    assert folder is not None
    model = AutoModel.from_pretrained(folder, add_pooling_layer=False).eval()
    ids, tasks = torch.randint(1000, 20000, (6, 12)), torch.tensor(TASKS)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    directions = torch.randn(COUNT, model.config.hidden_size)

    def losses() -> dict[int, Tensor]:
        hidden = model(**inputs).last_hidden_state.mean(dim=1)
        return {int(t): functional.softplus(hidden[tasks == t] @ directions[t]).mean() for t in tasks.unique()}

    wanted = separate_passes(model, losses, COUNT)
    engine = Engine(shared(model), COUNT)
    with engine.step() as step:
        step.rows(tasks, inputs)
        step.backward(losses())
    assert distance(step.jacobian, wanted) < TOLERANCE
    assert not engine.uncovered
