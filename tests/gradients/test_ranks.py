"""Two processes with rows of their own give the gradients of one process with all rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from splitting_tools import BACKBONES, Batch, adapted, distance, flat_gradient, one_pass, shared
from taskloom.gradients import Engine
from taskloom.gradients.ranks import add_up, add_up_number, average, average_gradients, rank, world_size
from two_processes import in_two_processes

TASKS = [0, 0, 1, 2, 0, 1, 1, 2]
"""The first half of the rows is the first process's."""


def model_of(lora: bool) -> Any:
    torch.manual_seed(0)
    model = BACKBONES["bert"](True).train()
    return adapted(model).train() if lora else model


def trained(number: int, lora: bool, statistic: Any) -> dict[str, Tensor]:
    model = model_of(lora)
    batch = Batch(model, TASKS)
    part = slice(0, 3) if number == 0 else slice(3, 8)  # of unlike sizes; the first has no row of the third task
    inputs = {name: value[part] for name, value in batch.inputs.items()}
    wrapped = torch.nn.parallel.DistributedDataParallel(model)
    engine = Engine(shared(model), 3, statistic=statistic)
    with wrapped.no_sync(), engine.step(torch.tensor([1.0, 2.0, 0.5])) as step:
        step.rows(batch.tasks[part], inputs)
        # Each process gives its share of twice the mean, since processes are averaged.
        step.backward({t: 2 * v for t, v in batch.of(wrapped(**inputs).logits, part).items()})
    if statistic == "jacobian":
        average(step.jacobian)
        step.write(torch.tensor([1.0, 2.0, 0.5]))
    else:
        average(step.ledger.sketch)
        average_gradients(parameter for _, parameter in shared(model))
    assert rank() == number
    assert world_size() == 2
    assert add_up_number(number + 1.0) == 3.0
    assert float(add_up(torch.ones(1))) == 2.0
    return {"gramian": step.gramian(), "gradient": flat_gradient(shared(model))}


@pytest.mark.parametrize(("statistic", "lora"), [("jacobian", True), ("sketch", False)])
def test_two_processes_give_the_gradients_of_one(statistic: Any, lora: bool, tmp_path: Path) -> None:
    model = model_of(lora)
    weights = torch.tensor([1.0, 2.0, 0.5])
    whole = one_pass(Engine(shared(model), 3, statistic=statistic), Batch(model, TASKS), weights=weights)
    if statistic == "jacobian":
        whole.write(weights)
    wanted = flat_gradient(shared(model))
    found = in_two_processes(lambda number: trained(number, lora, statistic), tmp_path / "two")
    assert torch.equal(found[0]["gradient"], found[1]["gradient"])
    assert distance(found[0]["gradient"], wanted) < 1e-5
    assert distance(found[0]["gramian"], whole.gramian()) < 1e-5


def test_one_process_alone_is_left_as_it_is() -> None:
    value = torch.ones(2)
    assert torch.equal(average(value), torch.ones(2))
    assert add_up_number(3.0, mean=True) == 3.0
    assert (rank(), world_size()) == (0, 1)
