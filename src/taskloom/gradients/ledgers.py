"""What becomes of each task's gradient as the backward pass forms it: kept, or weighted, measured and dropped."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from taskloom.gradients.rows import Rows
from taskloom.gradients.sketch import CountSketch


@dataclass(frozen=True)
class Leaf:
    """One shared parameter and its place in the gradient of all of them.

    Attributes:
        name: its name in the model.
        parameter: itself.
        offset: place of its first coordinate.
        layer: the layer that it belongs to, for conflict by layer.
    """

    name: str
    parameter: nn.Parameter
    offset: int
    layer: str

    @property
    def size(self) -> int:
        """How many coordinates it has."""
        return self.parameter.numel()


def layer_of(name: str) -> str:
    """Give the layer of a parameter by its name: up to the first number in it, else its module's first words."""
    found = re.match(r"(?:.*?\.)?([A-Za-z_]+\.\d+)\.", name)
    if found:
        return found.group(1)
    return name.rpartition(".")[0].removeprefix("base_model.model.") or name


class Ledger(ABC):
    """Takes in each task's gradient, piece by piece.

    Args:
        tasks: how many tasks there are.
        halves: whether slots are halves of tasks, ``2 * task + half``.
        sketch: makes the sketch of the halves, and of the tasks where the ledger has one.
        device: where gradients are.
    """

    def __init__(self, tasks: int, *, halves: bool, sketch: CountSketch | None, device: torch.device) -> None:
        self.tasks = tasks
        self.fold = 2 if halves else 1
        self.device = device
        self.maker = sketch
        self.halves = sketch.zeros(2 * tasks) if halves and sketch else None
        self._indices: dict[tuple[int, ...], Tensor] = {}

    def products(self, leaf: Leaf, rows: Rows, left: Tensor, right: Tensor, times: int) -> None:
        """Take in ``left[slot]^T right[slot]``; see `Rows.products`."""
        dense = rows.products(left, right, times)
        self.add(leaf, rows.present, dense.reshape(len(dense), -1))

    def add(self, leaf: Leaf, slots: list[int], dense: Tensor) -> None:
        """Take in gradients of one parameter: [len(slots), size]."""
        if self.halves is not None and self.maker is not None:
            self.maker.add(self.halves, slots, dense, leaf.offset)
        tasks = sorted({slot // self.fold for slot in slots})
        if len(tasks) < len(slots):
            place = torch.tensor([tasks.index(slot // self.fold) for slot in slots], device=dense.device)
            dense = dense.new_zeros(len(tasks), dense.shape[1]).index_add_(0, place, dense)
        else:
            tasks = [slot // self.fold for slot in slots]
        self._take(leaf, tasks, dense)

    def entries(self, leaf: Leaf, rows: Rows, ids: Tensor, values: Tensor) -> None:
        """Take in rows of a table: ids [row, entry], values [row, entry, width]."""
        ids, values = rows.arranged(ids, 1), rows.arranged(values, 1)
        known, place = torch.unique(ids, return_inverse=True)
        compact = torch.zeros(len(rows.present), len(known), values.shape[2], device=values.device)
        for index, (_, part) in enumerate(rows.segments(1)):
            compact[index].index_add_(0, place[part].flatten(), values[part].flatten(0, 1).float())
        if self.halves is not None and self.maker is not None:
            self.maker.add_entries(self.halves, rows.present, known, compact, leaf.offset)
        if self.fold == 1:
            self._take_entries(leaf, rows.present, known, compact)
            return
        tasks = sorted({slot // 2 for slot in rows.present})
        index_of = torch.tensor([tasks.index(slot // 2) for slot in rows.present], device=compact.device)
        folded = compact.new_zeros(len(tasks), *compact.shape[1:]).index_add_(0, index_of, compact)
        self._take_entries(leaf, tasks, known, folded)

    def _index(self, slots: list[int]) -> Tensor:
        """Give slots as a tensor; kept, since a GPU has to wait for each that is brought to it."""
        key = tuple(slots)
        if key not in self._indices:
            self._indices[key] = torch.tensor(slots, device=self.device)
        return self._indices[key]

    @abstractmethod
    def _take(self, leaf: Leaf, tasks: list[int], dense: Tensor) -> None:
        """Take in [len(tasks), size]."""

    @abstractmethod
    def _take_entries(self, leaf: Leaf, tasks: list[int], ids: Tensor, compact: Tensor) -> None:
        """Take in [len(tasks), entry, width] of the table's rows `ids` [entry], each named once."""

    @abstractmethod
    def gramian(self) -> Tensor | None:
        """Give the Gramian [task, task], float64; None where this step does not tell it."""

    def layers(self) -> dict[str, Tensor]:
        """Give each layer's part of the Gramian, which add up to it; empty where they are not known."""
        return {}

    def finish(self) -> None:  # noqa: B027 - most ledgers have nothing left to do
        """Do what has to wait for the end of the backward pass."""


class JacobianLedger(Ledger):
    """Keeps every task's whole gradient: [task, param], float32.

    Attributes:
        jacobian: [task, param].
    """

    def __init__(
        self,
        leaves: Sequence[Leaf],
        tasks: int,
        *,
        halves: bool,
        sketch: CountSketch | None,
        device: torch.device,
        buffer: Tensor | None = None,
    ) -> None:
        super().__init__(tasks, halves=halves, sketch=sketch, device=device)
        size = sum(leaf.size for leaf in leaves)
        self.leaves = leaves
        self.jacobian = torch.empty(tasks, size, device=device) if buffer is None else buffer
        self._gramian: Tensor | None = None
        self._fresh = {leaf.name: leaf for leaf in leaves}  # whose columns still hold an older step

    def products(self, leaf: Leaf, rows: Rows, left: Tensor, right: Tensor, times: int) -> None:
        """Add products straight into the Jacobian, where nothing else reads them."""
        if self.fold != 1 or left.dtype != torch.float32 or right.dtype != torch.float32:
            super().products(leaf, rows, left, right, times)
            return
        held = self._view(leaf).view(self.tasks, left.shape[1], right.shape[1])
        left, right = rows.arranged(left, times), rows.arranged(right, times)
        first, last = rows.present[0], rows.present[-1]
        if rows.even and last - first + 1 == len(rows.present):
            parts = len(rows.present)
            one = left.view(parts, -1, left.shape[1]).transpose(1, 2)
            over = parts == self.tasks and self._fresh.pop(leaf.name, None) is not None
            if not over:
                self._ready(leaf)
            # With every task in it, the first product is written over what was there.
            held[first : last + 1].baddbmm_(one, right.view(parts, -1, right.shape[1]), beta=0 if over else 1)
            return
        self._ready(leaf)
        for task, part in rows.segments(times):
            held[task].addmm_(left[part].T, right[part])

    def gramian(self) -> Tensor:
        """Give ``J J^T``; formed once, so after the Jacobian is what it shall be."""
        if self._gramian is None:
            self._gramian = (self.jacobian @ self.jacobian.T).double()
        return self._gramian

    def layers(self) -> dict[str, Tensor]:
        """Give ``J_l J_l^T`` for each layer l."""
        found: dict[str, Tensor] = {}
        for leaf in self.leaves:
            held = self._view(leaf)
            part = (held @ held.T).double()
            found[leaf.layer] = found[leaf.layer] + part if leaf.layer in found else part
        return found

    def finish(self) -> None:
        """Clear what this step had no gradient for."""
        for leaf in list(self._fresh.values()):
            self._ready(leaf)

    def _ready(self, leaf: Leaf) -> None:
        if self._fresh.pop(leaf.name, None) is not None:
            self._view(leaf).zero_()

    def _view(self, leaf: Leaf) -> Tensor:
        return self.jacobian[:, leaf.offset : leaf.offset + leaf.size]

    def _take(self, leaf: Leaf, tasks: list[int], dense: Tensor) -> None:
        held = self._view(leaf)
        if len(tasks) == self.tasks and self._fresh.pop(leaf.name, None) is not None:
            held.copy_(dense)
            return
        self._ready(leaf)
        if tasks[-1] - tasks[0] + 1 == len(tasks):
            held[tasks[0] : tasks[-1] + 1] += dense
            return
        for place, task in enumerate(tasks):
            held[task].add_(dense[place])

    def _take_entries(self, leaf: Leaf, tasks: list[int], ids: Tensor, compact: Tensor) -> None:
        self._ready(leaf)
        for place, task in enumerate(tasks):
            self._view(leaf)[task].view(-1, compact.shape[2]).index_add_(0, ids, compact[place])


class WeightedLedger(Ledger):
    """Adds each gradient, weighted, to ``.grad``, measures it, and drops it: no [task, param] buffer exists.

    Args:
        weights: [task] weights of this step, known before it.
        exact: whether the Gramian is summed layer by layer, which needs each parameter's whole gradient at once; else
            a sketch is kept, which adds up over chunks.
        held: names of parameters that are used more than once, whose gradients are gathered until the end.

    Attributes:
        sketch: [task, k]; None where the Gramian is exact.
        again: names of parameters that were used more than once and were not among `held`: this step's exact Gramian
            is not known.
    """

    def __init__(
        self,
        tasks: int,
        weights: Tensor,
        *,
        exact: bool,
        held: set[str],
        halves: bool,
        sketch: CountSketch | None,
        device: torch.device,
    ) -> None:
        super().__init__(tasks, halves=halves, sketch=sketch, device=device)
        self.weights = weights.to(device=device, dtype=torch.float32)
        self.exact = exact
        self.held = held
        self.sketch = None if exact or sketch is None else sketch.zeros(tasks)
        self.again: set[str] = set()
        self._seen: set[str] = set()
        self._gathered: dict[str, tuple[Leaf, Tensor]] = {}
        self._layers: dict[str, Tensor] = {}

    def gramian(self) -> Tensor | None:
        """Give the sum of the layers' Gramians, or the Gramian of the sketch."""
        if self.sketch is not None:
            return (self.sketch @ self.sketch.T).double()
        if self.again:
            return None
        zero = torch.zeros(self.tasks, self.tasks, dtype=torch.float64, device=self.device)
        return sum(self._layers.values(), zero)

    def layers(self) -> dict[str, Tensor]:
        """Give each layer's exact Gramian."""
        return {} if self.again else dict(self._layers)

    def finish(self) -> None:
        """Measure the gradients that were gathered."""
        for leaf, gathered in self._gathered.values():
            self._measure(leaf, list(range(self.tasks)), gathered.flatten(1))
        self._gathered.clear()

    def _take(self, leaf: Leaf, tasks: list[int], dense: Tensor) -> None:
        dense = dense.float()
        combined = self.weights[self._index(tasks)] @ dense
        _accumulate(leaf.parameter, combined.view_as(leaf.parameter))
        if self.sketch is not None and self.maker is not None:
            self.maker.add(self.sketch, tasks, dense, leaf.offset)
        elif leaf.name in self.held:
            self._gather(leaf).index_add_(0, self._index(tasks), dense)
        elif self._first(leaf):
            self._measure(leaf, tasks, dense)

    def _take_entries(self, leaf: Leaf, tasks: list[int], ids: Tensor, compact: Tensor) -> None:
        combined = torch.tensordot(self.weights[self._index(tasks)], compact, dims=1)
        if leaf.parameter.grad is None:
            leaf.parameter.grad = torch.zeros_like(leaf.parameter)
        leaf.parameter.grad.index_add_(0, ids, combined.to(leaf.parameter.dtype))
        if self.sketch is not None and self.maker is not None:
            self.maker.add_entries(self.sketch, tasks, ids, compact, leaf.offset)
        elif leaf.name in self.held:
            held = self._gather(leaf).view(self.tasks, -1, compact.shape[2])
            for place, task in enumerate(tasks):
                held[task].index_add_(0, ids, compact[place])
        elif self._first(leaf):
            self._measure(leaf, tasks, compact.flatten(1))

    def _gather(self, leaf: Leaf) -> Tensor:
        if leaf.name not in self._gathered:
            self._gathered[leaf.name] = (leaf, torch.zeros(self.tasks, leaf.size, device=self.device))
        return self._gathered[leaf.name][1]

    def _first(self, leaf: Leaf) -> bool:
        if leaf.name in self._seen:
            self.again.add(leaf.name)
        self._seen.add(leaf.name)
        return leaf.name not in self.again

    def _measure(self, leaf: Leaf, tasks: list[int], dense: Tensor) -> None:
        part = (dense @ dense.T).double()
        if leaf.layer not in self._layers:
            self._layers[leaf.layer] = torch.zeros(self.tasks, self.tasks, dtype=torch.float64, device=self.device)
        index = self._index(tasks)
        self._layers[leaf.layer][index.unsqueeze(1), index] += part


def _accumulate(parameter: nn.Parameter, gradient: Tensor) -> None:
    gradient = gradient.to(parameter.dtype)
    parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
