"""What each layer of a backbone makes of rows: one vector a row and layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from taskloom.batches.chunks import Padding, fill, sequences_of
from taskloom.evaluation import like_lengths
from taskloom.model import MultiTaskModel
from taskloom.prediction import LIMIT_TOKENS
from taskloom.types import Chunk, Item, Part


def states_of(model: MultiTaskModel, padding: Padding, name: str, items: Sequence[Item]) -> list[NDArray[np.float64]]:
    """Run items through the backbone as rows of one task, in evaluation mode.

    Args:
        model: whose backbone it is.
        padding: how inputs are filled up.
        name: of the task whose parts of the backbone the rows go through.
        items: of any task; the first sequence of each is read, as a text without an answer.

    Returns:
        [layer] of [item, width]: the mean over an item's tokens, of the embeddings first and of each layer then.
    """
    alone = [_alone(item) for item in items]
    lengths = np.array([len(item["input_ids"][0]) for item in alone], dtype=np.int64)
    held: dict[int, NDArray[np.float64]] = {}
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    with torch.no_grad(), _watched(model) as seen:
        for group in like_lengths(lengths, np.ones_like(lengths), LIMIT_TOKENS):
            _run(model, padding, name, [alone[index] for index in group], device)
            states, mask = seen.pop()
            real = mask.unsqueeze(-1).to(states.dtype)
            pooled = (states * real).sum(dim=2) / real.sum(dim=1)
            for place, index in enumerate(group):
                held[index] = pooled[:, place].double().cpu().numpy()
    model.train(was_training)
    whole = np.stack([held[index] for index in range(len(items))], axis=1)
    return list(whole)


def _alone(item: Item) -> Item:
    keys = [key for key in ("input_ids", "token_type_ids") if item.get(key)]
    return {key: [item[key][0]] for key in keys}


def _run(model: MultiTaskModel, padding: Padding, name: str, items: Sequence[Item], device: Any) -> None:
    """Have the backbone read items in the way of one task; no head is asked."""
    inputs = fill(sequences_of(items), padding)
    part = Part(torch.arange(len(items)), [1] * len(items), {}, items)  # rows of no task would go another way
    model.route(name, len(items))
    with model.adapted(name):
        model.hidden(Chunk(inputs, {name: part}).to(device))


@contextmanager
def _watched(model: MultiTaskModel) -> Iterator[list[tuple[torch.Tensor, torch.Tensor]]]:
    """Catch the states of all layers of each forward pass: [layer, row, token, width], and the mask [row, token]."""
    body = model.body()
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def ask(_module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {**kwargs, "output_hidden_states": True}

    def keep(_module: Any, _args: Any, kwargs: dict[str, Any], output: Any) -> None:
        seen.append((torch.stack([each.float() for each in output.hidden_states]), kwargs["attention_mask"]))

    handles = [
        body.register_forward_pre_hook(ask, with_kwargs=True),
        body.register_forward_hook(keep, with_kwargs=True),
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
