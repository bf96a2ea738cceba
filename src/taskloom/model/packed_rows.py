"""Whether a backbone sees in packed rows what it sees of each sequence alone: tried out before anything is trained."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from taskloom.batches.chunks import Padding, fill, sequences_of
from taskloom.batches.packing import lay
from taskloom.errors import ConfigError, Fault, said
from taskloom.model.multitask import MultiTaskModel
from taskloom.types import Chunk, Item

TOLERANCE = 1e-4
"""How far a token's hidden state in a packed row may be from the one alone, relative to its norm."""

REFUSALS = (TypeError, ValueError, RuntimeError, LookupError, AttributeError, AssertionError)
"""What a backbone raises for arguments, shapes and places it does not know."""


def check_packing(model: MultiTaskModel, longest: Item, padding: Padding, name: str) -> None:
    """Run one small chunk packed and unpacked, and refuse a backbone that tells the two apart.

    Args:
        model: the run's own; it is left as it was found.
        longest: the item with the longest sequence of the run: windows of attention show in long sequences alone.
        padding: how inputs are filled up.
        name: the user's name of the backbone.

    Raises:
        ConfigError: hidden states differ, or the backbone does not take the inputs of packed rows.
    """
    sequences = _unlike(longest)
    alone = Chunk(fill(sequences, padding), {})
    inputs, packing = lay(sequences, [[0, 1, 2], [3]], padding)
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), _single_precision(model):
            wanted = model.hidden(alone)
            try:
                found = model.hidden(Chunk(inputs, {}, packing))
            except REFUSALS as error:
                raise _refusal(f"`{name}`, which does not take them: {said(error)}") from error
    finally:
        model.train(training)
    difference = _largest(found, wanted, alone.mask)
    if not difference <= TOLERANCE:
        raise _refusal(f"`{name}`, whose hidden states differ by {difference:.1g} of their norm")


def _unlike(longest: Item) -> dict[str, list[list[int]]]:
    """Make four sequences, unlike in length and order, out of the longest one of an item."""
    held = sequences_of([longest])
    chosen = max(range(len(held["input_ids"])), key=lambda each: len(held["input_ids"][each]))
    half = (len(held["input_ids"][chosen]) + 1) // 2
    made = {}
    for key, given in held.items():
        whole = list(given[chosen])
        made[key] = [whole[:half][::-1], whole, whole[half // 2 :][::-1], whole[::-1]]
    return made


def _largest(found: Tensor, wanted: Tensor, mask: Tensor) -> float:
    """Give the largest difference of a real token's state, relative to its norm."""
    relative = (found - wanted).norm(dim=-1) / wanted.norm(dim=-1).clamp(min=1e-30)
    return float(relative[mask == 1].max())


@contextlib.contextmanager
def _single_precision(model: MultiTaskModel) -> Iterator[None]:
    """Hold a backbone that is stored in half precision in single precision: its rounding would hide a leak."""
    held = [*model.backbone.parameters(), *model.backbone.buffers()]
    kept = [tensor.data for tensor in held]
    for tensor in held:
        tensor.data = tensor.data.float() if tensor.is_floating_point() else tensor.data
    try:
        yield
    finally:
        for tensor, data in zip(held, kept, strict=True):
            tensor.data = data


def _refusal(found: str) -> ConfigError:
    requirement = "be used with a backbone that sees in packed rows what it sees of each sequence alone"
    return ConfigError(Fault("batching.packing", requirement, found, "Write `packing: false`"))
