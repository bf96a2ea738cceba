"""On a GPU, in each precision that training knows, one pass gives what a pass for each task gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torchjd.aggregation import UPGradWeighting

from splitting_tools import (
    BACKBONES,
    Batch,
    adapted,
    checkpointed,
    distance,
    flat_gradient,
    one_pass,
    separate_passes,
    shared,
)
from taskloom.balance import BALANCES
from taskloom.balance._projector import NnlsProjector
from taskloom.gradients import Balancer, Engine

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU with CUDA")

TASKS = (0, 0, 0, 2, 3, 3)
COUNT = 4
WEIGHTS = torch.tensor([0.3, 5.0, 1.1, 0.7])
TOLERANCES = {None: 1e-5, torch.bfloat16: 2e-2, torch.float16: 5e-3}


def on_gpu(kind: str, *, lora: bool, checkpoint: bool = False) -> tuple[Any, Batch]:
    torch.manual_seed(3)
    model = BACKBONES[kind](True).train()
    if lora:
        model = adapted(model).train()
    if checkpoint:
        model = checkpointed(model, reentrant=False)
    model = model.cuda()
    batch = Batch(model, TASKS)
    batch.inputs = {name: value.cuda() for name, value in batch.inputs.items()}
    batch.labels, batch.tasks = batch.labels.cuda(), batch.tasks.cuda()
    return model, batch


def in_precision(batch: Batch, dtype: torch.dtype | None) -> None:
    """Have the batch's losses formed under autocast."""
    plain = batch.losses

    def losses(rows: slice = slice(None)) -> dict[int, Tensor]:
        with torch.autocast("cuda", dtype=dtype, enabled=dtype is not None):
            return plain(rows)

    batch.losses = losses  # type: ignore[method-assign]


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("kind", BACKBONES)
def test_gradients_are_those_of_separate_passes(kind: str, lora: bool, dtype: torch.dtype | None) -> None:
    model, batch = on_gpu(kind, lora=lora)
    in_precision(batch, dtype)
    wanted = separate_passes(model, batch.losses, COUNT)
    engine = Engine(shared(model), COUNT)
    step = one_pass(engine, batch)
    assert distance(step.jacobian, wanted) < TOLERANCES[dtype]
    step.write(WEIGHTS.cuda())
    assert distance(flat_gradient(shared(model)), WEIGHTS.to(wanted) @ wanted) < TOLERANCES[dtype]


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_checkpoints_compute_again_under_autocast(kind: str) -> None:
    model, batch = on_gpu(kind, lora=True, checkpoint=True)
    in_precision(batch, torch.bfloat16)
    wanted = separate_passes(model, batch.losses, COUNT)
    step = one_pass(Engine(shared(model), COUNT), batch)
    assert distance(step.jacobian, wanted) < TOLERANCES[torch.bfloat16]


@pytest.mark.parametrize("statistic", ["jacobian", "gramian", "sketch"])
@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_half_precision_steps_go_through_the_scaler(lora: bool, statistic: str) -> None:
    if statistic == "gramian" and lora:
        pytest.skip("the layer-wise Gramian is for full fine-tuning")
    model, batch = on_gpu("llama", lora=lora)
    in_precision(batch, torch.float16)
    parameters = shared(model)
    names = [str(task) for task in range(COUNT)]
    balancer = Balancer(parameters, names, BALANCES.load("upgrad")(), statistic=statistic)  # type: ignore[arg-type]
    jacobian = separate_passes(model, batch.losses, COUNT)[list(set(TASKS))].double()
    wanted = UPGradWeighting(projector=NnlsProjector())(jacobian @ jacobian.T) @ jacobian
    optimizer = torch.optim.SGD([parameter for _, parameter in parameters], lr=0.0)
    scaler = torch.amp.GradScaler("cuda", init_scale=2.0**10)

    def backward(loss: Tensor, **more: Any) -> None:
        scaler.scale(loss).backward(**more)

    for _ in range(2):  # where the weights are those of the last step, the second has them
        optimizer.zero_grad()
        scaler.scale(torch.zeros((), device="cuda"))  # makes its tensors
        with balancer.step(loss_scale=scaler.get_scale()) as step:
            step.rows(batch.tasks, batch.inputs)
            step.backward({names[task]: loss for task, loss in batch.losses().items()}, backward)
        scaler.unscale_(optimizer)
        found = flat_gradient(parameters)
        scaler.step(optimizer)
        scaler.update()
    assert float(functional.cosine_similarity(found.double(), wanted, dim=0)) > 0.999
    assert scaler.get_scale() == 2.0**10
