"""Heads that several task types share, and how sequences become vectors."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from taskloom.errors import ConfigError, Fault
from taskloom.types import Family

Pooling = Literal["auto", "mean", "first", "last"]
"""How a sequence becomes a vector; "auto" is a decoder's last token, which alone has read all, and else the mean."""


def pool(hidden: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """Make one vector of each sequence: its first or last token, or the mean of its tokens without padding.

    Args:
        hidden: [sequence, token, width].
        mask: [sequence, token], 1 where a token is real.
        pooling: which of them; "auto" has been settled before.

    Returns:
        [sequence, width].
    """
    if pooling == "first":
        return hidden[:, 0]
    if pooling == "last":
        last = (mask.sum(dim=1) - 1).clamp(min=0)
        return hidden[torch.arange(len(hidden), device=hidden.device), last]
    real = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)


def settled(pooling: Pooling, family: Family) -> Pooling:
    """Say what "auto" is in a backbone of some family.

    Raises:
        ConfigError: the first token of a decoder was asked for, which has read nothing but itself.
    """
    if pooling == "first" and family == "decoder":
        fix = "Write `last`, or leave it out"
        raise ConfigError(Fault("pooling", "be a token that has read the text", "`first` in a decoder", fix))
    if pooling == "auto":
        return "last" if family == "decoder" else "mean"
    return pooling


class PooledHead(nn.Module):
    """A linear map of each sequence's vector: [sequence, token, width] -> [sequence, outputs]."""

    def __init__(self, width: int, outputs: int, pooling: Pooling, dropout: float) -> None:
        super().__init__()
        self.pooling = pooling
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(width, outputs)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Give [sequence, outputs], float32."""
        vector = pool(hidden, mask, self.pooling)
        output: Tensor = self.linear(self.dropout(vector))
        return output.float()


class TokenHead(nn.Module):
    """A linear map of each token: [sequence, token, width] -> [sequence, token, outputs]."""

    def __init__(self, width: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(width, outputs)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Give [sequence, token, outputs], float32; padding is left for the loss to ignore."""
        output: Tensor = self.linear(self.dropout(hidden))
        return output.float()


class VectorHead(nn.Module):
    """No map at all: each sequence's vector, [sequence, token, width] -> [sequence, width]."""

    def __init__(self, pooling: Pooling) -> None:
        super().__init__()
        self.pooling = pooling

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Give [sequence, width], float32."""
        return pool(hidden, mask, self.pooling).float()


def padded(rows: list[list[int]], tokens: int, value: int) -> Tensor:
    """Stack lists of numbers into [row, tokens] int64, filled up with `value`."""
    return torch.tensor([row + [value] * (tokens - len(row)) for row in rows], dtype=torch.int64)
