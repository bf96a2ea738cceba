"""Losses of words are those of the whole logits, with their gradients, split by task, and with few logits at a time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from splitting_tools import BACKBONES, distance, flat_gradient, separate_passes, shared
from taskloom.gradients import Engine, words
from taskloom.gradients.words import label_losses
from taskloom.types import IGNORED

WORDS, WIDTH = 23, 8
TASKS = (0, 0, 0, 2, 3, 3)


def given(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(seed)
    hidden = torch.randn(4, 5, WIDTH, requires_grad=True)
    weight = torch.randn(WORDS, WIDTH, requires_grad=True)
    bias = torch.randn(WORDS, requires_grad=True)
    labels = torch.randint(0, WORDS, (4, 5))
    labels[0], labels[1, 2:] = IGNORED, IGNORED
    return hidden, weight, bias, labels


def plain(hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, cap: float | None) -> Tensor:
    logits = functional.linear(hidden, weight, bias)
    logits = logits if cap is None else cap * torch.tanh(logits / cap)
    return functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none", ignore_index=IGNORED)


@pytest.mark.parametrize("limit", [1, 3 * WORDS, 2**24])
@pytest.mark.parametrize("cap", [None, 2.0])
@pytest.mark.parametrize("with_bias", [False, True])
def test_losses_and_gradients_are_those_of_the_whole_logits(
    with_bias: bool, cap: float | None, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(words, "LIMIT_LOGITS", limit)
    hidden, weight, bias, labels = given()
    given_bias = bias if with_bias else None
    counts = torch.rand(4, 5)
    wanted = plain(hidden, weight, given_bias, labels, cap)
    inputs = [hidden, weight, *([bias] if with_bias else [])]
    wanted_gradients = torch.autograd.grad((wanted * counts).sum(), inputs)
    found = label_losses(hidden, weight, given_bias, labels, cap)
    assert distance(found, wanted) < 1e-6
    for one, other in zip(torch.autograd.grad((found * counts).sum(), inputs), wanted_gradients, strict=True):
        assert distance(one, other) < 1e-5


def test_places_without_a_label_cost_nothing_and_move_nothing() -> None:
    hidden, weight, bias, labels = given()
    losses = label_losses(hidden, weight, bias, labels)
    assert not losses[0].any()
    losses.sum().backward()
    assert hidden.grad is not None
    assert not hidden.grad[0].any()
    assert not label_losses(hidden, weight, bias, torch.full_like(labels, IGNORED)).any()


@pytest.mark.parametrize("dtype", [torch.bfloat16])
def test_under_autocast_losses_stay_in_single_precision(dtype: torch.dtype) -> None:
    hidden, weight, bias, labels = given()
    with torch.autocast("cpu", dtype=dtype):
        losses = label_losses(hidden, weight, bias, labels)
    assert losses.dtype == torch.float32
    assert distance(losses, plain(hidden, weight, bias, labels, None)) < 2e-2


class WithWords(nn.Module):
    """A decoder whose losses of words are formed by `label_losses`."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def losses(self, inputs: dict[str, Tensor], labels: Tensor) -> Tensor:
        states = self.model.base_model(**inputs, use_cache=False).last_hidden_state
        table = self.model.get_output_embeddings()
        return label_losses(states, table.weight, table.bias, labels).mean(dim=1)


@pytest.mark.parametrize("tie", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("limit", [40, 2**24])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_every_task_has_its_own_gradient_of_the_table(
    kind: str, limit: int, tie: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(words, "LIMIT_LOGITS", limit)
    torch.manual_seed(3)
    model = WithWords(BACKBONES[kind](tie).train())
    vocabulary = model.model.config.vocab_size
    ids = torch.randint(4, vocabulary, (len(TASKS), 6))
    labels = torch.randint(4, vocabulary, (len(TASKS), 6))
    labels[0, :3], labels[4] = IGNORED, IGNORED
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    tasks = torch.tensor(TASKS)

    def losses() -> dict[int, Tensor]:
        each = model.losses(inputs, labels)
        return {int(task): each[tasks == task].mean() for task in tasks.unique()}

    wanted = separate_passes(model, losses, 4)
    engine = Engine(shared(model), 4)
    for _ in range(2):
        model.zero_grad()
        with engine.step() as step:
            step.rows(tasks, {**inputs, "labels": labels})
            step.backward(losses())
        assert distance(step.jacobian, wanted) < 1e-5
        weights = torch.tensor([0.3, 5.0, 1.1, 0.7])
        step.write(weights)
        assert distance(flat_gradient(shared(model)), weights.to(wanted) @ wanted) < 1e-5
    assert not engine.uncovered
