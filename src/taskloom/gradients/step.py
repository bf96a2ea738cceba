"""One optimizer step whose gradients are split by task as the backward pass forms them."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from taskloom.gradients.ledgers import JacobianLedger, Leaf, Ledger, WeightedLedger
from taskloom.gradients.rows import MARK, Rows
from taskloom.gradients.rules import Node
from taskloom.gradients.tracking import Watch

if TYPE_CHECKING:
    from taskloom.gradients.engine import Engine

Backward = Callable[..., Any]
"""Runs a backward pass from a scalar; takes ``retain_graph``."""


class GradientError(RuntimeError):
    """A step whose gradients cannot be split by task; what it would have given is not used."""


class Step:
    """One optimizer step: any number of forward and backward passes, whose gradients add up.

    Use it as a context; statistics are there after it is closed::

        with engine.step() as step:
            for inputs, task_of_row in chunks:
                step.rows(task_of_row, inputs)
                step.backward(losses(model(inputs)))   # {task: its share of the loss}
        step.write(weights)                            # .grad of the shared parameters

    Attributes:
        ledger: what the gradients became.
        muted: whether gradients are passed over, as in separate passes for some parameters.
        backward_runs: whether a backward pass runs now.
        found: parameters without a rule in this step -> what used them.
    """

    def __init__(self, engine: Engine, ledger: Ledger) -> None:
        self.engine = engine
        self.ledger = ledger
        self.muted = False
        self.backward_runs = False
        self.found: dict[str, str] = dict(engine.uncovered)
        # What every rule's output hangs on, so that it is reached by the backward pass also where no input is.
        self.anchor = torch.zeros(0, device=engine.device, requires_grad=True)
        self._leaf_of = {id(leaf.parameter): leaf for leaf in engine.leaves}
        self._nodes: list[Node] = []
        self._rows: list[Rows] = []
        self._drawn: dict[int, int] = {}
        self._watch = Watch(self)
        self._hooks: list[Any] = []
        self._arrived: dict[int, tuple[Node, Tensor]] = {}
        self._open = False

    # --- the step ---------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pause()
        if kind is None:
            self.close()

    @contextlib.contextmanager
    def watching(self) -> Iterator[Self]:
        """Watch some of the step's passes, for loops that do other things between them; `close` ends the step."""
        self._begin()
        try:
            yield self
        finally:
            self._pause()

    def close(self) -> None:
        """End the step: carry gradients of made tensors on to their parameters, and close the books."""
        self._finish()
        for rows in self._rows:
            rows.alive = False
        self._nodes.clear()

    def rows(
        self,
        task_of_row: Sequence[int] | Tensor,
        inputs: Mapping[str, Any] | Tensor,
        items: Sequence[int] | None = None,
    ) -> None:
        """Say which task each row of the next forward pass belongs to.

        Args:
            task_of_row: [row] numbers of tasks.
            inputs: what the model is about to read: tensors whose first axis is the rows'.
            items: [row] numbers of examples, where an example has several rows that no half may split.

        Raises:
            ValueError: a row has no task, a task does not exist, or an input has another number of rows.
        """
        tasks = task_of_row.tolist() if isinstance(task_of_row, Tensor) else list(task_of_row)
        tensors = [inputs] if isinstance(inputs, Tensor) else [v for v in inputs.values() if isinstance(v, Tensor)]
        unlike = [each for each in tensors if each.dim() == 0 or each.shape[0] != len(tasks)]
        if unlike or not tensors:
            found = f"{len(tasks)} tasks for an input of shape {tuple(unlike[0].shape)}" if unlike else "no input"
            raise ValueError(f"`task_of_row` should name the task of each row of the inputs. Found {found}.")
        wrong = [task for task in tasks if not 0 <= task < self.engine.tasks]
        if wrong:
            limit = self.engine.tasks - 1
            raise ValueError(f"`task_of_row` should hold numbers from 0 to {limit}. Found `{wrong[0]}`.")
        fold = self.ledger.fold
        slots = tasks if fold == 1 else self._halved(tasks, items)
        rows = Rows(slots, self.engine.tasks * fold)
        self._rows.append(rows)
        for each in tensors:
            setattr(each, MARK, rows)

    def backward(self, losses: Mapping[int, Tensor], backward: Backward = torch.autograd.backward) -> None:
        """Run the backward pass of the summed loss, and take in every task's gradient.

        Parameters that are not shared get their gradient in ``.grad`` as usual.

        Args:
            losses: task number -> its share of the loss, a scalar; tasks without rows are left out.
            backward: runs a backward pass; `accelerator.backward`, or one that scales the loss.

        Raises:
            ValueError: `rows` was not called before the forward pass.
        """
        if not self._rows:
            raise ValueError("`rows` should be called before the forward pass. Found a backward pass without rows.")
        retain = bool(self.found) or not self.engine.settled
        total = sum(losses.values(), torch.zeros((), device=self.engine.device))
        self.backward_runs = True
        try:
            backward(total, retain_graph=retain)
            surprises = {name for node, _ in self._arrived.values() for name in node.names} - set(self.found)
            self._arrived.clear()
            self.uncovered(surprises, "an operation that cannot be watched")
            if surprises and not retain:
                listed = ", ".join(f"`{name}`" for name in sorted(surprises))
                raise GradientError(f"{listed} should be used in every step as in the first one. Found another use.")
            if self.found:
                self._separate_passes(losses, backward)
        finally:
            self.backward_runs = False

    # --- what came of it --------------------------------------------------------------------------------------------

    @property
    def jacobian(self) -> Tensor:
        """Every task's gradient [task, param], float32, where the statistic is "jacobian"."""
        if not isinstance(self.ledger, JacobianLedger):
            raise ValueError(f"A step of the statistic `{self.engine.statistic}` keeps no Jacobian.")
        return self.ledger.jacobian

    def gramian(self) -> Tensor | None:
        """Give ``J J^T`` [task, task], float64, or its sketched estimate.

        None where a parameter was used twice in a step of the statistic "gramian", which is known from the next on.
        """
        return self.ledger.gramian()

    def half_gramian(self) -> Tensor:
        """Give the sketched Gramian of the halves [2 × task, 2 × task], halves of a task side by side."""
        if self.ledger.halves is None:
            raise ValueError("`halves=True` should be given to the step. Found a step without halves.")
        return (self.ledger.halves @ self.ledger.halves.T).double()

    def layers(self) -> dict[str, Tensor]:
        """Give each layer's part of the Gramian; empty with the statistic "sketch"."""
        return self.ledger.layers()

    def write(self, weights: Tensor) -> None:
        """Put ``weights @ J`` into the parameters' ``.grad``, for the statistic "jacobian".

        Args:
            weights: [task], or a combined gradient [param].
        """
        vector = weights if weights.numel() == self.engine.size and weights.numel() != self.engine.tasks else None
        combined = vector if vector is not None else weights.to(self.jacobian) @ self.jacobian
        for leaf in self.engine.leaves:
            part = combined[leaf.offset : leaf.offset + leaf.size].view_as(leaf.parameter)
            leaf.parameter.grad = part.to(leaf.parameter.dtype)

    # --- what rules and the watch tell (see `Collector` and `Watched`) ----------------------------------------------

    def products(self, node: Node, rows: Rows, left: Tensor, right: Tensor, times: int) -> None:
        """Take in products; see `Collector`."""
        if node.leaf:
            self.ledger.products(self._leaf(node), rows, left, right, times)
        else:
            self._gather(node, rows, rows.products(left, right, times))

    def sums(self, node: Node, rows: Rows, values: Tensor, times: int) -> None:
        """Take in sums; see `Collector`."""
        dense = rows.sums(values, times)
        if node.leaf:
            self.ledger.add(self._leaf(node), rows.present, dense.reshape(len(dense), -1))
        else:
            self._gather(node, rows, dense)

    def entries(self, node: Node, rows: Rows, ids: Tensor, values: Tensor) -> None:
        """Take in rows of a table; see `Collector`."""
        if node.leaf:
            self.ledger.entries(self._leaf(node), rows, ids, values)
            return
        dense = node.tensor.new_zeros(len(rows.present), *node.tensor.shape)
        ids, values = rows.arranged(ids, 1), rows.arranged(values, 1)
        for place, (_, part) in enumerate(rows.segments(1)):
            dense[place].index_add_(0, ids[part].flatten(), values[part].flatten(0, 1))
        self._gather(node, rows, dense)

    def made(self, node: Node, shown: Tensor) -> None:
        """Keep a tensor made from parameters; see `Watched`."""
        self._nodes.append(node)
        shown.register_hook(functools.partial(self._catch, node))  # type: ignore[no-untyped-call]

    def uncovered(self, names: Iterable[str], function: str) -> None:
        """Note parameters without a rule; see `Watched`."""
        for name in names:
            self.found.setdefault(name, function)

    def coupled(self, function: str) -> None:
        """Refuse a call that mixes rows, unless everything takes separate passes anyway; see `Watched`."""
        if len(self.engine.distrusted) == len(self.engine.leaves):
            return
        fix = "Freeze it, or have separate passes for everything: `engine.distrust(...)` takes all names."
        raise GradientError(f"A backbone should treat each row by itself. Found `{function}` over several rows. {fix}")

    # --- within -----------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        for leaf in self.engine.leaves:
            node = Node(leaf.parameter, frozenset({leaf.name}), leaf=True, late=False)
            if leaf.name not in self.engine.distrusted:
                setattr(leaf.parameter, MARK, node)
            catch = functools.partial(self._catch, node)
            self._hooks.append(leaf.parameter.register_hook(catch))  # type: ignore[no-untyped-call]
        self._watch.__enter__()  # type: ignore[no-untyped-call]
        self._open = True

    def _pause(self) -> None:
        self._open = False
        self._watch.__exit__(None, None, None)  # type: ignore[no-untyped-call]
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        for leaf in self.engine.leaves:
            if hasattr(leaf.parameter, MARK):
                delattr(leaf.parameter, MARK)

    def _leaf(self, node: Node) -> Leaf:
        return self._leaf_of[id(node.tensor)]

    def _gather(self, node: Node, rows: Rows, dense: Tensor) -> None:
        if node.gathered is None:
            node.gathered = torch.zeros(rows.count, *node.tensor.shape, device=dense.device)
        node.gathered.index_add_(0, torch.tensor(rows.present, device=dense.device), dense.float())

    def _halved(self, tasks: Sequence[int], items: Sequence[int] | None) -> list[int]:
        """Give each example to one half of its task, by turns over the whole step."""
        slots, last = [], None
        for row, task in enumerate(tasks):
            item = (task, row if items is None else items[row])
            if item != last:
                self._drawn[task] = self._drawn.get(task, -1) + 1
            slots.append(2 * task + self._drawn[task] % 2)
            last = item
        return slots

    def _catch(self, node: Node, gradient: Tensor) -> Tensor | None:
        """Catch what autograd brings to a parameter, or to a tensor made from some, past the rules."""
        if not self._open:
            return None
        held = self._arrived.get(id(node))
        total = gradient.detach() if held is None else held[1] + gradient.detach()
        self._arrived[id(node)] = (node, total)
        return torch.zeros_like(gradient)

    def _separate_passes(self, losses: Mapping[int, Tensor], backward: Backward) -> None:
        """Run one more backward pass for each task, for the parameters that no rule covers."""
        others = accumulating(losses.values())
        held = [(each, each.grad) for each in others if id(each) not in self._leaf_of]
        self.muted = True
        try:
            for task, loss in losses.items():
                for each, _ in held:
                    each.grad = None
                backward(loss, retain_graph=True)
                for node, gradient in self._arrived.values():
                    self._take(node, task, gradient)
                self._arrived.clear()
        finally:
            self.muted = False
            for each, gradient_before in held:
                each.grad = gradient_before

    def _take(self, node: Node, task: int, gradient: Tensor) -> None:
        """Take in one task's gradient; of halves, which separate passes do not tell apart, the first gets all."""
        slot = task * self.ledger.fold
        if node.leaf:
            self.ledger.add(self._leaf(node), [slot], gradient.flatten().unsqueeze(0))
            return
        if node.gathered is None:
            node.gathered = torch.zeros(
                self.engine.tasks * self.ledger.fold, *node.tensor.shape, device=gradient.device
            )
        node.gathered[slot] += gradient.float()

    def _finish(self) -> None:
        """Carry gradients of made tensors on to their parameters, and close the books."""
        for node in self._nodes:
            if node.gathered is None:
                continue
            leaves = [leaf for leaf in self.engine.leaves if leaf.name in node.names]
            self._note_repeated(leaves)
            parameters = [leaf.parameter for leaf in leaves]
            for slot, gradient in enumerate(node.gathered.unbind()):
                given = torch.autograd.grad(
                    node.tensor, parameters, gradient.to(node.tensor.dtype), retain_graph=True, allow_unused=True
                )
                for leaf, part in zip(leaves, given, strict=True):
                    if part is not None:
                        self.ledger.add(leaf, [slot], part.flatten().unsqueeze(0))
            node.gathered = None
        self.ledger.finish()
        if isinstance(self.ledger, WeightedLedger):
            self.engine.tied |= self.ledger.again
        self.engine.uncovered |= {n: use for n, use in self.found.items() if n not in self.engine.uncovered}
        self.engine.settled = True

    def _note_repeated(self, leaves: Sequence[Leaf]) -> None:
        """Have parameters gathered whose gradient comes slot by slot."""
        self.engine.tied |= {leaf.name for leaf in leaves}


def accumulating(losses: Iterable[Tensor]) -> list[Tensor]:
    """Find the leaves whose ``.grad`` a backward pass from some losses would add to."""
    found: dict[int, Tensor] = {}
    seen: set[Any] = set()
    waiting = [loss.grad_fn for loss in losses]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if isinstance(variable, Tensor):
            found[id(variable)] = variable
        waiting += [following for following, _ in node.next_functions]
    return list(found.values())
