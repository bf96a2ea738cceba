"""Watching a forward pass: which tensors depend on rows, which on parameters alone, and which calls need a rule."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode

from taskloom.gradients.axes import moves_rows, name_of, tensors_in
from taskloom.gradients.rows import MARK, Mixed, Rows
from taskloom.gradients.rules import RULES, Call, Collector, Node


class Watched(Collector, Protocol):
    """What a watch tells of what it sees; a step of the engine."""

    backward_runs: bool

    def made(self, node: Node, shown: Tensor) -> None:
        """Keep a tensor made from parameters alone, and watch what is shown of it."""

    def uncovered(self, names: Iterable[str], function: str) -> None:
        """Note parameters that a call without a rule took."""

    def coupled(self, function: str) -> None:
        """Refuse a call that mixes rows of several tasks."""


class Watch(TorchFunctionMode):
    """Sees every call of torch while it is open; keep it open over forward and backward pass.

    The backward pass needs it where checkpoints compute again. Calls with neither rows nor shared parameters pass by.
    """

    def __init__(self, step: Watched) -> None:
        super().__init__()
        self.step = step

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Make the call, by a rule where it takes shared parameters together with rows."""
        if func in _PLAIN:
            return func(*args, **kwargs) if kwargs else func(*args)
        options = dict(kwargs) if kwargs else {}
        if func in (torch.autograd.backward, Tensor.backward):
            with self:  # calls made while a checkpoint computes again have to be seen
                return _run_backward(*args, **options)
        rows, mixed, nodes = _known(args, options)
        if nodes and torch.is_grad_enabled():
            if rows is None:
                return self._from_parameters(func, args, options, nodes)
            return _marked(self._together(func, args, options, rows, nodes, mixed), rows.mixed if mixed else rows)
        result = func(*args, **options)
        if rows is None:
            return result
        self._refuse_coupling(func, args, options)
        moved = moves_rows(func, args, options, rows.length)
        return _marked(result, rows.mixed if mixed or moved else rows, args)

    def _from_parameters(self, func: Any, args: Any, options: Any, nodes: list[Node]) -> Any:
        """Compute something of parameters alone, with a graph of its own that no other backward pass runs through.

        What the caller gets has the values, and no graph: its gradient is gathered, and carried on at the end.
        """
        first = nodes[0]
        if self.step.backward_runs and name_of(func) == "detach" and not first.leaf and not first.late:
            # A reentrant checkpoint cuts its inputs off before it computes again; the cut tensor is the same thing.
            result = func(*args, **options)
            setattr(result, MARK, first)
            return result
        if name_of(func) == "__get__" and not isinstance(result := func(*args, **options), Tensor):
            return result
        with saved_tensors_hooks(_same, _same):  # not those of a checkpoint, which would be spent by then
            result = func(*_with_graphs(args), **_with_graphs(options))
        names = frozenset().union(*(node.names for node in nodes))
        if isinstance(result, Tensor):
            return self._shown(result, names)
        if isinstance(result, list | tuple) and any(each.requires_grad for each in tensors_in(result)):
            return [self._shown(each, names) if isinstance(each, Tensor) else each for each in result]
        return result

    def _shown(self, made: Tensor, names: frozenset[str]) -> Tensor:
        if not made.requires_grad:
            return made
        node = Node(made, names, leaf=False, late=self.step.backward_runs)
        shown = made.detach().requires_grad_()
        self.step.made(node, shown)
        setattr(shown, MARK, node)
        return shown

    def _together(self, func: Any, args: Any, options: Any, rows: Rows, nodes: list[Node], mixed: bool) -> Any:
        """Make a call that takes rows and shared parameters, by its rule where there is one."""
        self._refuse_coupling(func, args, options)
        rule = RULES.get(name_of(func))
        if rule is not None and not mixed:
            call = Call(func, args, options, rows, self.step, _node_of)
            result = rule(call)
            if result is not None:
                return result
        self.step.uncovered({name for node in nodes for name in node.names}, name_of(func))
        return func(*_with_graphs(args), **_with_graphs(options))

    def _refuse_coupling(self, func: Any, args: Any, options: Any) -> None:
        if name_of(func) in _COUPLING and (args[5] if len(args) > 5 else options.get("training", False)):
            self.step.coupled(name_of(func))


_COUPLING = frozenset({"batch_norm"})
"""Functions in which the rows of a batch change each other's values."""


_LISTS = (list, tuple)

_PLAIN = frozenset(
    [
        *(getattr(Tensor, name).__get__ for name in ("shape", "dtype", "device", "requires_grad", "ndim", "is_leaf")),
        *(getattr(Tensor, name).__get__ for name in ("is_cuda", "grad_fn", "layout", "is_sparse", "is_meta")),
        *(Tensor.size, Tensor.dim, Tensor.numel, Tensor.stride, Tensor.is_floating_point, Tensor.is_contiguous),
        *(Tensor.element_size, Tensor.get_device, Tensor.data_ptr, Tensor.__len__),
    ]
)
"""Calls that give no tensor, and are half of all calls."""


def _same(tensor: Tensor) -> Tensor:
    return tensor


def _with_graphs(value: Any) -> Any:
    """Put tensors that were made from parameters in the place of what is shown of them."""
    if isinstance(value, Tensor):
        mark = getattr(value, MARK, None)
        return mark.tensor if isinstance(mark, Node) and not mark.leaf else value
    if isinstance(value, dict):
        return {key: _with_graphs(each) for key, each in value.items()}
    if type(value) in {list, tuple}:
        return type(value)(_with_graphs(each) for each in value)
    return value


def _node_of(value: Any) -> Node | None:
    mark = getattr(value, MARK, None) if isinstance(value, Tensor) else None
    return mark if isinstance(mark, Node) else None


def _known(args: Iterable[Any], options: Mapping[str, Any]) -> tuple[Rows | None, bool, list[Node]]:
    """Give what the arguments of a call depend on: rows, whether out of line with them, and shared parameters.

    A tensor that no gradient flows through, such as a mask that was put together by indexing, puts nothing out of line
    beside a tensor that is aligned.
    """
    rows: Rows | None = None
    aligned = loose = mixed = False
    nodes: list[Node] = []
    for tensor in _flat(args, options):
        mark = getattr(tensor, MARK, None)
        if mark is None:
            continue
        if isinstance(mark, Node):
            nodes.append(mark)
            continue
        held = mark if isinstance(mark, Rows) else mark.rows
        if not held.alive:
            continue
        mixed |= rows is not None and rows is not held
        rows = held
        if held is mark:
            aligned = True
        elif tensor.requires_grad:
            mixed = True
        else:
            loose = True
    return rows, mixed or (loose and not aligned), nodes


def _flat(args: Iterable[Any], options: Mapping[str, Any]) -> list[Tensor]:
    """Give the tensors of a call, also those in lists; written for speed, since every call comes through here."""
    found = [value for value in args if isinstance(value, Tensor)]
    for value in args:
        if type(value) in _LISTS:
            found += tensors_in(value)
    for value in options.values():
        if isinstance(value, Tensor):
            found.append(value)
        elif type(value) in _LISTS:
            found += tensors_in(value)
    return found


def _run_backward(
    tensors: Any, grad_tensors: Any = None, retain_graph: bool | None = None, create_graph: bool = False, **_: Any
) -> None:
    """Run autograd from scalars, as `torch.autograd.backward` does after it has asked every open mode."""
    roots = (tensors,) if isinstance(tensors, Tensor) else tuple(tensors)
    given = (grad_tensors,) if isinstance(grad_tensors, Tensor) else grad_tensors or (None,) * len(roots)
    seeds = tuple(torch.ones_like(root) if seed is None else seed for root, seed in zip(roots, given, strict=True))
    retain = create_graph if retain_graph is None else retain_graph
    engine = torch.autograd.Variable._execution_engine
    engine.run_backward(roots, seeds, retain, create_graph, (), allow_unreachable=True, accumulate_grad=True)


def _marked(result: Any, mark: Rows | Mixed, args: tuple[Any, ...] = ()) -> Any:
    """Mark what a call gave; a call that writes into its first argument marks that."""
    for made in tensors_in(args[0] if result is None and args else result):
        held = getattr(made, MARK, None)
        if not isinstance(held, Node):
            setattr(made, MARK, mark)
    return result
