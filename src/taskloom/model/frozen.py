"""A model of which only some parameters are looked at, for a while."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def frozen(model: nn.Module, but: Iterable[nn.Parameter] = ()) -> Iterator[None]:
    """Have no gradient formed of any parameter, some left out; after it flags are as they were, and gradients gone.

    Args:
        model: whose parameters.
        but: those that gradients are formed of.
    """
    flags = {parameter: parameter.requires_grad for parameter in model.parameters()}
    try:
        model.requires_grad_(False)
        for parameter in but:
            parameter.requires_grad_(True)
        yield
    finally:
        for parameter, flag in flags.items():
            parameter.requires_grad_(flag)
            parameter.grad = None
