"""Gradients and losses over the processes of a data-parallel run."""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
from torch import Tensor, distributed, nn


def world_size() -> int:
    """Give the number of processes that train together."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """Give the number of this process, from 0; its launcher's word for it where the processes have not met yet."""
    return distributed.get_rank() if world_size() > 1 else int(os.environ.get("RANK", "0"))


def wait_for_all() -> None:
    """Wait until every process has come here."""
    if world_size() > 1:
        distributed.barrier()


def add_up(tensor: Tensor) -> Tensor:
    """Add a tensor up over all processes, in place."""
    if world_size() > 1:
        distributed.all_reduce(tensor)
    return tensor


def average(tensor: Tensor) -> Tensor:
    """Average a tensor over all processes, in place."""
    size = world_size()
    if size > 1:
        distributed.all_reduce(tensor)
        tensor.div_(size)
    return tensor


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Average ``.grad`` over all processes; a parameter that has none here counts as zero.

    Every process takes part for every parameter, so that one without rows of a task does not keep the others waiting.
    """
    if world_size() == 1:
        return
    for parameter in parameters:
        if parameter.requires_grad:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            average(parameter.grad)


def add_up_number(number: float, *, mean: bool = False) -> float:
    """Add a number up over all processes, or average it."""
    size = world_size()
    if size == 1:
        return number
    held = torch.tensor([number], dtype=torch.float64)
    if distributed.get_backend() == "nccl":
        held = held.cuda()
    distributed.all_reduce(held)
    return float(held) / (size if mean else 1)
