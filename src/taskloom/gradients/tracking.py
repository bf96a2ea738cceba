"""Watching a forward pass: which tensors depend on rows, which on parameters alone, and which calls need a rule."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode

from taskloom.gradients.axes import couples_rows, moves_rows, name_of, picks_or_reorders, swaps_rows, tensors_in
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
        mark, nodes = _known(args, options)
        if nodes and torch.is_grad_enabled():
            if mark is None:
                return self._from_parameters(func, args, options, nodes)
            return self._together(func, args, options, mark, nodes)
        result = func(*args, **options)
        if mark is None:
            return result
        self._refuse_coupling(func, args, options)
        return _marked(result, _after(func, args, options, mark), args)

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

    def _together(self, func: Any, args: Any, options: Any, mark: Rows | Mixed, nodes: list[Node]) -> Any:
        """Make a call that takes rows and shared parameters, by its rule where there is one."""
        self._refuse_coupling(func, args, options)
        rule = RULES.get(name_of(func))
        if rule is not None and isinstance(mark, Rows):
            result = rule(Call(func, args, options, mark, self.step, _node_of))
            if result is not None:
                return _marked(result, mark)
        if isinstance(mark, Mixed) and mark.coupled and _reaches(args, options):
            self.step.coupled(name_of(func))
        self.step.uncovered({name for node in nodes for name in node.names}, name_of(func))
        return _marked(func(*_with_graphs(args), **_with_graphs(options)), _after(func, args, options, mark), args)

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


def _reaches(args: Iterable[Any], options: Mapping[str, Any]) -> bool:
    """Say whether coupled rows reach a call in a tensor with axes.

    A loss, which has none, may well be of many rows, and have a penalty on parameters added to it.
    """
    return any(each.dim() for each in _flat(args, options) if isinstance(getattr(each, MARK, None), Mixed))


def _known(args: Iterable[Any], options: Mapping[str, Any]) -> tuple[Rows | Mixed | None, list[Node]]:
    """Give what the arguments of a call depend on: rows, in line with them or not, and shared parameters.

    A tensor that no gradient flows through, such as a mask that was put together by indexing, puts nothing out of line
    beside a tensor that is aligned. Tensors that gradients flow through couple rows where one is aligned and another
    is not, or where two were put out of line in different ways.
    """
    nodes: list[Node] = []
    found: Rows | Mixed | None = None  # of tensors that a gradient flows through, or aligned ones
    loose: Mixed | None = None
    coupled = flows = False
    for tensor in _flat(args, options):
        mark = getattr(tensor, MARK, None)
        if mark is None:
            continue
        if isinstance(mark, Node):
            nodes.append(mark)
        elif not (mark if isinstance(mark, Rows) else mark.rows).alive:
            continue
        elif isinstance(mark, Mixed) and not tensor.requires_grad:
            loose = mark
        elif mark is found:
            flows = flows or tensor.requires_grad
        elif found is None:
            found, flows = mark, tensor.requires_grad
        else:
            coupled = coupled or (flows and tensor.requires_grad)
            found, flows = (mark if isinstance(mark, Mixed) or not flows else found), flows or tensor.requires_grad
    if found is None:
        return loose, nodes
    if coupled:
        found = Mixed(found if isinstance(found, Rows) else found.rows, coupled=True)
    return found, nodes


def _after(func: Any, args: Any, options: Any, mark: Rows | Mixed) -> Rows | Mixed:
    """Give the mark of what a call makes of tensors with a mark."""
    if isinstance(mark, Mixed) and mark.coupled:
        return mark
    rows = mark if isinstance(mark, Rows) else mark.rows
    if couples_rows(func, args, options, aligned=mark is rows):
        return Mixed(rows, coupled=True)
    if isinstance(mark, Mixed):
        if mark.swapped and swaps_rows(func, args, options):
            return rows if args[0].shape[1] == rows.length else Mixed(rows)
        return Mixed(rows) if mark.swapped and picks_or_reorders(func) else mark
    if not moves_rows(func, args, options, rows.length):
        return mark
    return Mixed(rows, swapped=swaps_rows(func, args, options))


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
