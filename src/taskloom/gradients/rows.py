"""Which rows of a batch belong to which task, and sums over them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

MARK = "_taskloom_mark"
"""The attribute by which a tensor tells that it depends on rows (`Rows`), or on parameters alone (`Node`)."""


class Rows:
    """The rows of one forward pass, each with a slot: its task, or one of the two halves of its task.

    A tensor is *aligned* with the rows where its first axis is the rows', or the rows' times a whole number with each
    row's elements together, as after ``x.view(-1, width)``.

    Args:
        slots: the slot of each row.
        count: how many slots there are; slots without a row are fine.

    Attributes:
        length: number of rows.
        count: number of slots.
        slots: the slot of each row.
        present: slots that have rows, rising.
        alive: whether the step that made these rows still runs; marks of an older step mean nothing.
    """

    def __init__(self, slots: Sequence[int] | Tensor, count: int) -> None:
        given = slots.tolist() if isinstance(slots, Tensor) else list(slots)
        if not given:
            raise ValueError("`slots` should name the slot of one row at least. Found none.")
        wrong = [slot for slot in given if not 0 <= slot < count]
        if wrong:
            raise ValueError(f"`slots` should lie between 0 and {count - 1}. Found `{wrong[0]}`.")
        self.slots = given
        self.length = len(given)
        self.count = count
        order = sorted(range(len(given)), key=given.__getitem__)
        self._order = None if order == list(range(len(given))) else order
        self._bounds: list[tuple[int, int, int]] = []
        for place, row in enumerate(order):
            if self._bounds and self._bounds[-1][0] == given[row]:
                slot, start, _ = self._bounds[-1]
                self._bounds[-1] = (slot, start, place + 1)
            else:
                self._bounds.append((given[row], place, place + 1))
        self.present = [slot for slot, _, _ in self._bounds]
        sizes = {stop - start for _, start, stop in self._bounds}
        self.even = sizes.pop() if len(sizes) == 1 else 0
        self.alive = True
        self._index: dict[tuple[int, torch.device], Tensor] = {}

    def times(self, tensor: Tensor) -> int:
        """Give how many elements of the first axis belong to each row; 0 where the tensor is not aligned."""
        if tensor.dim() == 0 or tensor.shape[0] == 0 or tensor.shape[0] % self.length:
            return 0
        return tensor.shape[0] // self.length

    def arranged(self, tensor: Tensor, times: int) -> Tensor:
        """Bring the first axis of an aligned tensor into the order of the slots."""
        if self._order is None:
            return tensor
        key = (times, tensor.device)
        if key not in self._index:
            rows = torch.tensor(self._order, device=tensor.device)
            steps = torch.arange(times, device=tensor.device)
            self._index[key] = (rows.unsqueeze(1) * times + steps).flatten()
        return tensor.index_select(0, self._index[key])

    def segments(self, times: int) -> Iterator[tuple[int, slice]]:
        """Give each present slot with its place on the first axis of an arranged tensor."""
        for slot, start, stop in self._bounds:
            yield slot, slice(start * times, stop * times)

    def sums(self, tensor: Tensor, times: int) -> Tensor:
        """Add up the elements of each present slot.

        Args:
            tensor: [row × times, ...], aligned.
            times: from `times`.

        Returns:
            [present, ...], float32 at least.
        """
        tensor = self.arranged(tensor, times)
        wide = torch.promote_types(tensor.dtype, torch.float32)
        if self.even:
            grouped = tensor.reshape(len(self.present), self.even * times, *tensor.shape[1:])
            return grouped.sum(dim=1, dtype=wide)
        return torch.stack([tensor[place].sum(dim=0, dtype=wide) for _, place in self.segments(times)])

    def products(self, left: Tensor, right: Tensor, times: int) -> Tensor:
        """Give ``left[slot]^T right[slot]`` of each present slot.

        Args:
            left: [row × times, m], aligned.
            right: [row × times, n], aligned.
            times: from `times`.

        Returns:
            [present, m, n] in the dtype of the two.
        """
        left, right = self.arranged(left, times), self.arranged(right, times)
        if self.even:
            parts = len(self.present)
            grouped = (each.reshape(parts, self.even * times, each.shape[1]) for each in (left, right))
            one, other = grouped
            return torch.bmm(one.transpose(1, 2), other)
        result = left.new_empty(len(self.present), left.shape[1], right.shape[1])
        for place, (_, part) in enumerate(self.segments(times)):
            torch.mm(left[part].T, right[part], out=result[place])
        return result


class Mixed:
    """The mark of a tensor that depends on rows and is not aligned with them, and of all that is made from it alone.

    Attributes:
        rows: the rows.
        coupled: whether values of one row depend on another's, so that a gradient may reach rows of other tasks.
        swapped: whether the rows are on the second axis, and come back in line when the first two are swapped again.
    """

    def __init__(self, rows: Rows, *, coupled: bool = False, swapped: bool = False) -> None:
        self.rows = rows
        self.coupled = coupled
        self.swapped = swapped
