"""What a probe keeps of each gradient: its sketch, as it is and in the geometry of Adam's step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from taskloom.gradients.ledgers import Leaf, Ledger
from taskloom.gradients.sketch import CountSketch


class ProbeLedger(Ledger):
    """Sketches every slot's gradient twice, and drops it: no [slot, param] buffer exists.

    Args:
        slots: tasks times sides.
        roots: parameter's name -> [size] what a gradient is multiplied with in the scaled sketch; a parameter that
            is missing has never had a gradient, and is left out of it. None scales nothing.
        sketch: makes the sketches.
        device: where gradients are.

    Attributes:
        plain: [slot, k].
        scaled: [slot, k].
    """

    def __init__(
        self, slots: int, roots: Mapping[str, Tensor] | None, *, sketch: CountSketch, device: torch.device
    ) -> None:
        super().__init__(slots, halves=False, sketch=None, device=device)
        self._sketch = sketch
        self._roots = roots
        self.plain = sketch.zeros(slots)
        self.scaled = self.plain if roots is None else sketch.zeros(slots)

    def gramian(self) -> Tensor:
        """Give the Gramian of the plain sketches: [slot, slot]."""
        return (self.plain @ self.plain.T).double()

    def _take(self, leaf: Leaf, tasks: list[int], dense: Tensor) -> None:
        dense = dense.float()
        self._sketch.add(self.plain, tasks, dense, leaf.offset)
        root = self._root(leaf)
        if root is not None:
            self._sketch.add(self.scaled, tasks, dense * root, leaf.offset)

    def _take_entries(self, leaf: Leaf, tasks: list[int], ids: Tensor, compact: Tensor) -> None:
        self._sketch.add_entries(self.plain, tasks, ids, compact, leaf.offset)
        root = self._root(leaf)
        if root is not None:
            part = root.view(-1, compact.shape[2])[ids]
            self._sketch.add_entries(self.scaled, tasks, ids, compact * part, leaf.offset)

    def _root(self, leaf: Leaf) -> Tensor | None:
        return None if self._roots is None else self._roots.get(leaf.name)


def adam_roots(optimizer: Any, leaves: list[Leaf]) -> dict[str, Tensor] | None:
    """Give the root of what Adam multiplies each coordinate of a gradient with: ``(sqrt(v) + eps) ** -0.5``.

    Args:
        optimizer: torch's, or accelerate's around it.
        leaves: the shared parameters.

    Returns:
        parameter's name -> [size]; a parameter without a step is left out. None for an optimizer that keeps no second
        moments in plain tensors.
    """
    inner = getattr(optimizer, "optimizer", optimizer)
    groups = {id(each): group for group in inner.param_groups for each in group["params"]}
    roots = {}
    for leaf in leaves:
        state, group = inner.state.get(leaf.parameter, {}), groups.get(id(leaf.parameter), {})
        second = state.get("exp_avg_sq")
        if not isinstance(second, Tensor) or second.shape != leaf.parameter.shape or "betas" not in group:
            continue
        count = float(state.get("step", 1))
        corrected = second.float() / (1 - group["betas"][1] ** count)
        roots[leaf.name] = (corrected.sqrt() + group.get("eps", 1e-8)).rsqrt().flatten()
    return roots or None
