"""A task without a head of its own: every task of the type scores its choices by one direction that is never trained.

A task with a head of its own undoes flipped labels by flipping its head; tasks that share a fixed one cannot.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from taskloom.tasks._heads import pool
from taskloom.tasks.multiple_choice import MultipleChoice


class FixedHead(nn.Module):
    """Score each sequence by its cosine with a fixed direction: [sequence, token, width] -> [sequence, 1]."""

    def __init__(self, width: int, sharpness: float) -> None:
        super().__init__()
        direction = torch.randn(width, generator=torch.Generator().manual_seed(0))
        self.register_buffer("direction", sharpness * direction / direction.norm())

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Give the scores, `sharpness` times a cosine."""
        vector = nn.functional.normalize(pool(hidden, mask, "mean"), dim=-1)
        return (vector @ self.direction.to(vector)).unsqueeze(-1).float()


class Anchored(MultipleChoice):
    """Pick one of several texts by a direction that all tasks of this type share.

    Options:
        sharpness: of the scores; a sharper task has larger gradients.
    """

    def __init__(self, *, max_length: int = 48, sharpness: float = 10.0) -> None:
        super().__init__(max_length=max_length)
        self.sharpness = sharpness

    def head(self, width: int) -> nn.Module:
        """Make the fixed direction."""
        return FixedHead(width, self.sharpness)
