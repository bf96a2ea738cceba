"""A seeded random sketch of gradients that adds up over chunks, micro-batches and ranks."""

from __future__ import annotations

import torch
from torch import Tensor

SIGNS = 1_048_583
"""How many random signs there are: a prime, so that two coordinates of one bucket never share a sign."""


class CountSketch:
    """``J S`` for a fixed random S [param, k] that is never stored: [slot, param] -> [slot, k].

    Coordinate i goes to bucket ``i mod k`` with a random sign, so that ``(J S)(J S)^T`` is an unbiased estimate of
    ``J J^T`` over the signs, with relative error about ``1 / sqrt(k)`` of the norms' product. k is the largest prime up
    to the size that was asked for: matrices lie in memory by rows, and a prime keeps the columns of one apart.

    Args:
        size: k at most.
        seed: of the signs; sketches of one seed and size can be compared and added.
        device: where gradients are.
        runs: how many runs of k coordinates are added at once; by default one on a processor, whose cache it fits, and
            on a GPU as many as there are signs. The sketch is the same.

    Attributes:
        size: k.

    Paper: Charikar, Chen and Farach-Colton, Finding frequent items in data streams, 2002, doi:10.1007/3-540-45465-9_59.
    """

    def __init__(self, size: int, seed: int = 0, device: torch.device | str = "cpu", runs: int = 0) -> None:
        if size < 2:
            raise ValueError(f"`size` should be at least 2. Found `{size}`.")
        self.size = next(prime for prime in range(size, 1, -1) if _is_prime(prime))
        generator = torch.Generator().manual_seed(seed)
        signs = torch.randint(0, 2, (SIGNS,), generator=generator, dtype=torch.int8).float() * 2 - 1
        most = max(1, SIGNS // self.size)
        self._runs = min(most, runs) or (1 if torch.device(device).type == "cpu" else most)
        # The beginning again at the end: the signs of so many runs lie in one piece.
        self._signs = torch.cat([signs, signs[: self._runs * self.size]]).to(device)

    def zeros(self, slots: int) -> Tensor:
        """Give an empty sketch [slot, k]."""
        return torch.zeros(slots, self.size, device=self._signs.device)

    def add(self, sketch: Tensor, slots: list[int], values: Tensor, offset: int) -> None:
        """Add consecutive coordinates, in place.

        Args:
            sketch: [slot, k].
            slots: which slots the values belong to.
            values: [len(slots), n] coordinates ``offset`` to ``offset + n``.
            offset: place of the first of them in the whole gradient.
        """
        values = values.float()
        part = torch.zeros(len(slots), self.size, device=sketch.device)
        start, length = 0, values.shape[1]
        while start < length:
            bucket, sign = (offset + start) % self.size, (offset + start) % SIGNS
            runs = min(self._runs, (length - start) // self.size) if bucket == 0 else 0
            if runs > 1:
                stop = start + runs * self.size
                signs = self._signs[sign : sign + stop - start].view(runs, self.size)
                part += (values[:, start:stop].reshape(len(slots), runs, self.size) * signs).sum(dim=1)
            else:
                stop = min(length, start + self.size - bucket)
                width = stop - start
                part[:, bucket : bucket + width].addcmul_(values[:, start:stop], self._signs[sign : sign + width])
            start = stop
        _add_rows(sketch, slots, part)

    def add_entries(self, sketch: Tensor, slots: list[int], ids: Tensor, values: Tensor, offset: int) -> None:
        """Add rows of a table, in place.

        Args:
            sketch: [slot, k].
            slots: which slots the values belong to.
            ids: [entry] rows of the table.
            values: [len(slots), entry, width].
            offset: place of the table's first coordinate in the whole gradient.
        """
        width = values.shape[2]
        place = (offset + ids.unsqueeze(1) * width + torch.arange(width, device=ids.device)).flatten()
        signed = values.float().flatten(1) * self._signs[place % SIGNS]
        part = torch.zeros(len(slots), self.size, device=sketch.device).index_add_(1, place % self.size, signed)
        _add_rows(sketch, slots, part)


def _add_rows(sketch: Tensor, slots: list[int], part: Tensor) -> None:
    if slots == list(range(len(sketch))):  # without an index, which a GPU would have to wait for
        sketch += part
    else:
        sketch.index_add_(0, torch.tensor(slots, device=sketch.device), part)


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))
