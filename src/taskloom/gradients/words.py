"""Losses of words from hidden states without all logits at once, and every task's gradient of the table of words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import handle_torch_function, has_torch_function

from taskloom.gradients.rows import Rows
from taskloom.gradients.rules import RULES, Call, Use
from taskloom.types import IGNORED

LIMIT_LOGITS = 2**24
"""Logits held at a time: 64 MiB in single precision."""


def label_losses(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, cap: float | None = None
) -> Tensor:
    """Give the negative log-likelihood of each label under ``softmax(hidden W^T + b)``.

    Logits are formed for places with a label alone, and `LIMIT_LOGITS` of them at a time: where there are more, they
    are formed again in the backward pass. In a step of `taskloom.gradients`, the table may be shared.

    Args:
        hidden: [row, place, width].
        weight: [word, width].
        bias: [word]; frozen or None.
        labels: [row, place] int64; `IGNORED` for none.
        cap: logits are bent to lie within plus and minus this, ``cap tanh(logit / cap)``; None for none.

    Returns:
        [row, place] float32, 0 where there is no label.
    """
    given = (hidden, weight) if bias is None else (hidden, weight, bias)
    if has_torch_function(given):
        losses: Tensor = handle_torch_function(label_losses, given, hidden, weight, bias, labels, cap)
        return losses
    return _apply(None, torch.zeros(0), hidden, weight, bias, labels, cap)


def _apply(
    use: Use | None, anchor: Tensor, hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, cap: Any
) -> Tensor:
    kind = hidden.device.type
    if torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
        hidden, weight = hidden.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    else:
        hidden = hidden.to(weight.dtype)
    flat = labels.flatten()
    place = (flat != IGNORED).nonzero().flatten()
    with torch.autocast(kind, enabled=False):
        losses = _LabelLosses.apply(use, anchor, hidden, weight, bias, flat[place], place, cap)  # type: ignore[no-untyped-call]
    whole: Tensor = losses.new_zeros(len(flat)).index_put((place,), losses)
    return whole.view(labels.shape)


class _LabelLosses(torch.autograd.Function):
    """``-log softmax(h W^T + b)[label]`` of chosen places."""

    @staticmethod
    def forward(
        ctx: Any,
        use: Use | None,
        _anchor: Tensor,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        right: Tensor,
        place: Tensor,
        cap: float | None,
    ) -> Tensor:
        ctx.use, ctx.cap = use, cap
        states = hidden.reshape(-1, hidden.shape[-1])
        losses = torch.empty(len(place), dtype=torch.float32, device=hidden.device)
        parts = list(_parts(len(place), weight.shape[0]))
        kept = None
        for part in parts:
            logits = _logits(states[place[part]], weight, bias, cap)
            losses[part] = functional.cross_entropy(logits, right[part], reduction="none")
            # Few enough to be kept are not formed again.
            kept = logits if len(parts) == 1 and any(ctx.needs_input_grad) else None
        ctx.save_for_backward(hidden, weight, bias, right, place, kept)
        return losses

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, right, place, kept = ctx.saved_tensors
        states = hidden.reshape(-1, hidden.shape[-1])
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[2:5]
        dh = torch.zeros_like(states) if wants_hidden else None
        dw = torch.zeros_like(weight, dtype=torch.float32) if wants_weight else None
        db = torch.zeros_like(bias, dtype=torch.float32) if wants_bias else None
        per_row = hidden[0, ..., 0].numel()
        for part in _parts(len(place), weight.shape[0]):
            held = states[place[part]]
            logits = _logits(held, weight, bias, ctx.cap) if kept is None else kept
            dz = logits.softmax(dim=1)
            dz[torch.arange(len(dz), device=dz.device), right[part]] -= 1
            dz *= dy[part].unsqueeze(1)
            if ctx.cap is not None:
                dz *= 1 - (logits / ctx.cap) ** 2
            dz = dz.to(weight.dtype)
            if dh is not None:
                dh[place[part]] = (dz @ weight).to(dh.dtype)
            if dw is not None:
                dw += dz.T @ held
            if db is not None:
                db += dz.sum(dim=0)
            if ctx.use is not None and not ctx.use.collector.muted:
                _collect(ctx.use, place[part] // per_row, dz, held)
        dh = None if dh is None else dh.view_as(hidden)
        dw = None if dw is None else dw.to(weight.dtype)
        return None, None, dh, dw, None if db is None else db.to(bias.dtype), None, None, None


def _collect(use: Use, row: Tensor, dz: Tensor, held: Tensor) -> None:
    """Hand over the table's gradient of each slot."""
    slots = [use.rows.slots[each] for each in row.tolist()]
    if slots:
        places = Rows(slots, use.rows.count)
        if use.weight:
            use.collector.products(use.weight, places, dz, held, 1)
        if use.bias:
            use.collector.sums(use.bias, places, dz, 1)


def _logits(states: Tensor, weight: Tensor, bias: Tensor | None, cap: float | None) -> Tensor:
    logits = functional.linear(states, weight, bias).float()
    return logits if cap is None else cap * torch.tanh(logits / cap)


def _parts(places: int, words: int) -> Iterator[slice]:
    size = max(1, LIMIT_LOGITS // words)
    for start in range(0, places, size):
        yield slice(start, min(start + size, places))


def _rule(call: Call) -> Tensor | None:
    names = ("hidden", "weight", "bias", "labels", "cap")
    hidden, weight, bias, labels, cap = (call.argument(place, name) for place, name in enumerate(names))
    if not call.aligned(hidden) or hidden.shape[0] != call.rows.length or weight.dim() != 2:
        return None
    if call.node_of(hidden) is not None:
        return None
    use = Use(call.collector, call.rows, call.node_of(weight), None if bias is None else call.node_of(bias))
    return _apply(use, call.collector.anchor, hidden, weight.detach(), call.value(bias), labels, cap)


RULES["label_losses"] = _rule
