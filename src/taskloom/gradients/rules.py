"""How each operation on a shared parameter gives the gradient of every task: one autograd function an operation.

Each function returns the gradient of its input as usual, hands the parameter's gradient, split by slot, to the step's
collector, and returns none for the parameter itself. In a batch whose rows each belong to one task the output's
gradient at a row is already that of the row's task, so that splitting costs the arithmetic of the summed gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from taskloom.gradients.rows import Rows


class Node:
    """A shared parameter, or a tensor made from shared parameters alone, such as ``1 + weight`` or ``B @ A``.

    Attributes:
        tensor: the parameter, or the made tensor with its graph back to parameters.
        names: the parameters in it.
        leaf: whether it is a parameter itself.
        late: whether it was made during the backward pass, where checkpoints compute again.
        gathered: [slot, ...] gradient of a made tensor, to be carried on to its parameters at the end.
    """

    def __init__(self, tensor: Tensor, names: frozenset[str], *, leaf: bool, late: bool) -> None:
        self.tensor = tensor
        self.names = names
        self.leaf = leaf
        self.late = late
        self.gathered: Tensor | None = None


class Collector(Protocol):
    """What takes gradients in, split by slot."""

    muted: bool
    anchor: Tensor

    def products(self, node: Node, rows: Rows, left: Tensor, right: Tensor, times: int) -> None:
        """Take in ``left[slot]^T right[slot]``; see `Rows.products`."""

    def sums(self, node: Node, rows: Rows, values: Tensor, times: int) -> None:
        """Take in the sums of rows' values of each slot; see `Rows.sums`."""

    def entries(self, node: Node, rows: Rows, ids: Tensor, values: Tensor) -> None:
        """Take in rows of an embedding: ids [row, entry], values [row, entry, width]."""


@dataclass(frozen=True)
class Use:
    """One use of parameters by one operation on rows.

    Attributes:
        collector: where gradients go.
        rows: the rows that the operation's input is aligned with.
        weight: the node of the weight; None where the weight is not shared or not trained.
        bias: the node of the bias; likewise.
    """

    collector: Collector
    rows: Rows
    weight: Node | None
    bias: Node | None = None


def _flat(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1, tensor.shape[-1])


class _Linear(torch.autograd.Function):
    """``y = x W^T + b``, or ``y = x W + b`` where `turned`."""

    @staticmethod
    def forward(
        ctx: Any, use: Use, turned: bool, _anchor: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None
    ) -> Tensor:
        ctx.use, ctx.turned = use, turned
        ctx.save_for_backward(x if use.weight or ctx.needs_input_grad[4] else None, weight)
        right = weight if turned else weight.T
        # Written into a tensor of its own: a view that leaves a function of ours could not be changed in place.
        y = x.new_empty(*x.shape[:-1], right.shape[1])
        if bias is None:
            torch.mm(_flat(x), right, out=_flat(y))
        else:
            torch.addmm(bias, _flat(x), right, out=_flat(y))
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        use, turned = ctx.use, ctx.turned
        _, _, _, wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        dx = (dy @ weight.T if turned else dy @ weight) if wants_x else None
        flat_dy = _flat(dy)
        times = flat_dy.shape[0] // use.rows.length
        collector = use.collector
        if not collector.muted:
            if use.weight:
                pair = (_flat(x), flat_dy) if turned else (flat_dy, _flat(x))
                collector.products(use.weight, use.rows, *pair, times)
            if use.bias:
                collector.sums(use.bias, use.rows, flat_dy, times)
        dw = (_flat(x).T @ flat_dy if turned else flat_dy.T @ _flat(x)) if wants_weight else None
        return None, None, None, dx, dw, flat_dy.sum(0) if wants_bias else None


class _LayerNorm(torch.autograd.Function):
    """``y = (x - mean) / sqrt(variance + eps) * weight + bias`` over the last axes."""

    @staticmethod
    def forward(
        ctx: Any, use: Use, _anchor: Tensor, x: Tensor, shape: Any, weight: Tensor, bias: Tensor | None, eps: float
    ) -> Tensor:
        ctx.use, ctx.shape, ctx.eps = use, list(shape), eps
        y = functional.layer_norm(x, shape, weight, bias, eps)
        ctx.save_for_backward(x, weight, bias)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias = ctx.saved_tensors
        use, collector = ctx.use, ctx.use.collector
        wide = torch.promote_types(x.dtype, torch.float32)
        xw, dyw, ww = x.to(wide), dy.to(wide), weight.to(wide)
        _, mean, rstd = torch.native_layer_norm(xw, ctx.shape, None, None, ctx.eps)
        dx = torch.ops.aten.native_layer_norm_backward(
            dyw, xw, ctx.shape, mean, rstd, ww, None if bias is None else bias.to(wide), [True, False, False]
        )[0].to(x.dtype)
        if not collector.muted:
            width = weight.numel()
            flat_dy = dyw.reshape(-1, width)
            times = flat_dy.shape[0] // use.rows.length
            if use.weight:
                standard = ((xw - mean) * rstd).reshape(-1, width)
                collector.sums(use.weight, use.rows, flat_dy * standard, times)
            if use.bias:
                collector.sums(use.bias, use.rows, flat_dy, times)
        return None, None, dx, None, None, None, None


class _Embedding(torch.autograd.Function):
    """Rows of a table; the row of `padding` learns nothing."""

    @staticmethod
    def forward(ctx: Any, use: Use, _anchor: Tensor, ids: Tensor, weight: Tensor, padding: int | None) -> Tensor:
        ctx.use, ctx.padding = use, padding
        ctx.save_for_backward(ids)
        return functional.embedding(ids, weight)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        (ids,) = ctx.saved_tensors
        use = ctx.use
        if not use.collector.muted:
            length = use.rows.length
            held = ids.reshape(length, -1)
            values = dy.reshape(length, held.shape[1], dy.shape[-1])
            if ctx.padding is not None:
                values = values.masked_fill((held == ctx.padding).unsqueeze(-1), 0.0)
            use.collector.entries(use.weight, use.rows, held, values)
        return None, None, None, None, None


class _Spread(torch.autograd.Function):
    """A parameter repeated for each row without being copied: [...] -> [row × times, 1, ..., 1, ...].

    Whatever the operation does with it row by row, autograd gives the gradient of each row's copy.
    """

    @staticmethod
    def forward(ctx: Any, use: Use, _anchor: Tensor, weight: Tensor, length: int, axes: int) -> Tensor:
        ctx.use, ctx.shape, ctx.times = use, weight.shape, length // use.rows.length
        whole = weight.reshape((1,) * (axes - weight.dim()) + tuple(weight.shape))
        ctx.own = whole.shape[0] == length and weight.dim() == axes
        return whole.expand(length, *whole.shape[1:])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        use, rows = ctx.use, ctx.use.rows
        if not use.collector.muted:
            if ctx.own:  # each row has values of its own: a slot's gradient is that of its rows, and zero elsewhere
                masks = dy.new_zeros(len(rows.present), dy.shape[0])
                slots = torch.zeros(dy.shape[0], dtype=torch.int64, device=dy.device)
                index = rows.arranged(torch.arange(dy.shape[0], device=dy.device), ctx.times)
                for place, (_, part) in enumerate(rows.segments(ctx.times)):
                    slots[index[part]] = place
                masks.scatter_(0, slots.unsqueeze(0), 1.0)
                split = masks.reshape(*masks.shape, *(1,) * (dy.dim() - 1)) * dy
                use.collector.sums(use.weight, Rows(rows.present, rows.count), split, 1)
            else:
                use.collector.sums(use.weight, rows, dy.reshape(dy.shape[0], *ctx.shape), ctx.times)
        return None, None, None, None, None


# --- from a call of torch to one of the functions above -------------------------------------------------------------

Marks = Callable[[Any], Rows | Node | None]
"""Gives what a value is known to depend on."""


@dataclass(frozen=True)
class Call:
    """A call of a torch function that takes shared parameters and rows together.

    Attributes:
        function: what was called.
        arguments: its positional arguments.
        options: its keyword arguments.
        rows: the rows that one of the arguments is aligned with.
        collector: where gradients go.
        node_of: gives the node of an argument, None where it is none.
    """

    function: Callable[..., Any]
    arguments: Sequence[Any]
    options: dict[str, Any]
    rows: Rows
    collector: Collector
    node_of: Callable[[Any], Node | None]

    def argument(self, place: int, name: str, default: Any = None) -> Any:
        """Give an argument by place or by name."""
        return self.arguments[place] if len(self.arguments) > place else self.options.get(name, default)

    def aligned(self, tensor: Any) -> bool:
        """Say whether a tensor depends on the rows and is aligned with them."""
        return isinstance(tensor, Tensor) and self.node_of(tensor) is None and self.rows.times(tensor) > 0

    def value(self, tensor: Tensor | None) -> Tensor | None:
        """Give a parameter's value without its graph; another tensor as it is."""
        return tensor if tensor is None or self.node_of(tensor) is None else tensor.detach()

    def cast(self, tensor: Tensor | None, dtype: torch.dtype | None) -> Tensor | None:
        """Bring a tensor to the precision that autocast has for matrix products."""
        wanted = tensor is not None and dtype is not None and tensor.is_floating_point()
        return tensor.to(dtype) if wanted and tensor is not None else tensor


Rule = Callable[[Call], Tensor | None]
"""Makes the call; None where it cannot, so that the call's parameters take the slower path."""


def _matrix_dtype(x: Tensor) -> torch.dtype | None:
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None


def _apply_linear(call: Call, x: Any, weight: Any, bias: Any, *, turned: bool) -> Tensor | None:
    if not call.aligned(x) or not isinstance(weight, Tensor) or weight.dim() != 2 or x.dim() < 2:
        return None
    if bias is not None and bias.dim() != 1:
        return None
    use = Use(call.collector, call.rows, call.node_of(weight), None if bias is None else call.node_of(bias))
    dtype = _matrix_dtype(x)
    x, weight, bias = (call.cast(call.value(each), dtype) for each in (x, weight, bias))
    return _Linear.apply(use, turned, call.collector.anchor, x, weight, bias)  # type: ignore[no-untyped-call,no-any-return]


def _linear(call: Call) -> Tensor | None:
    x, weight, bias = (call.argument(place, name) for place, name in enumerate(("input", "weight", "bias")))
    return _apply_linear(call, x, weight, bias, turned=False)


def _matmul(call: Call) -> Tensor | None:
    return _apply_linear(call, call.argument(0, "input"), call.argument(1, "other"), None, turned=True)


def _addmm(call: Call) -> Tensor | None:
    scaled = any(call.options.get(name, 1) != 1 for name in ("alpha", "beta"))
    bias, x, weight = (call.argument(place, name) for place, name in enumerate(("input", "mat1", "mat2")))
    return None if scaled else _apply_linear(call, x, weight, bias, turned=True)


def _layer_norm(call: Call) -> Tensor | None:
    x, shape = call.argument(0, "input"), call.argument(1, "normalized_shape")
    weight, bias = call.argument(2, "weight"), call.argument(3, "bias")
    if not call.aligned(x) or weight is None or x.dim() <= len(tuple(shape)):
        return None
    # A weight or bias that is trained and not shared would need its own gradient here; such a layer is not split.
    for each in (weight, bias):
        if each is not None and each.requires_grad and call.node_of(each) is None:
            return None
    use = Use(call.collector, call.rows, call.node_of(weight), None if bias is None else call.node_of(bias))
    eps = call.argument(4, "eps", 1e-5)
    arguments = (call.value(x), shape, call.value(weight), call.value(bias), eps)
    return _LayerNorm.apply(use, call.collector.anchor, *arguments)  # type: ignore[no-untyped-call,no-any-return]


def _rms_norm(call: Call) -> Tensor | None:
    x, shape, weight = call.argument(0, "input"), call.argument(1, "normalized_shape"), call.argument(2, "weight")
    if not call.aligned(x) or x.dim() <= len(tuple(shape)):
        return None
    spread = _spread(call, weight, x.shape[0], x.dim())
    return None if spread is None else functional.rms_norm(x, shape, None, call.argument(3, "eps")) * spread


def _embedding(call: Call) -> Tensor | None:
    ids, weight = call.argument(0, "input"), call.argument(1, "weight")
    odd = call.argument(3, "max_norm") is not None or call.argument(5, "scale_grad_by_freq", False)
    if odd or call.argument(6, "sparse", False) or not call.aligned(ids):
        return None
    padding = call.argument(2, "padding_idx")
    if padding is not None and padding < 0:
        padding += weight.shape[0]
    use = Use(call.collector, call.rows, call.node_of(weight))
    return _Embedding.apply(use, call.collector.anchor, ids, call.value(weight), padding)  # type: ignore[no-untyped-call,no-any-return]


def _spread(call: Call, tensor: Tensor, length: int, axes: int) -> Tensor | None:
    node = call.node_of(tensor)
    if node is None:
        return tensor
    if tensor.dim() > axes or (tensor.dim() == axes and tensor.shape[0] not in {1, length}):
        return None
    use = Use(call.collector, call.rows, node)
    return _Spread.apply(use, call.collector.anchor, call.value(tensor), length, axes)  # type: ignore[no-untyped-call,no-any-return]


def _row_by_row(call: Call) -> Tensor | None:
    """Make an operation that treats each row by itself and broadcasts: parameters are spread over the rows."""
    tensors = [each for each in (*call.arguments, *call.options.values()) if isinstance(each, Tensor)]
    axes = max(each.dim() for each in tensors)
    lengths = {each.shape[0] for each in tensors if call.aligned(each) and each.dim() == axes}
    if len(lengths) != 1:
        return None
    length = lengths.pop()
    spread: dict[int, Tensor] = {}
    for each in tensors:
        held = _spread(call, each, length, axes)
        if held is None:
            return None
        spread[id(each)] = held
    arguments = [spread.get(id(each), each) for each in call.arguments]
    options = {name: spread.get(id(each), each) for name, each in call.options.items()}
    result: Tensor = call.function(*arguments, **options)
    return result


_ELEMENTWISE = ("add", "add_", "sub", "sub_", "mul", "mul_", "multiply", "div", "div_", "true_divide", "where", "lerp")
_REVERSED = ("__radd__", "__rsub__", "rsub", "__rmul__", "__rdiv__", "__rtruediv__", "maximum", "minimum")

RULES: dict[str, Rule] = {
    "linear": _linear,
    "matmul": _matmul,
    "mm": _matmul,
    "__matmul__": _matmul,
    "addmm": _addmm,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "embedding": _embedding,
    "scaled_dot_product_attention": _row_by_row,
    **dict.fromkeys((*_ELEMENTWISE, *_REVERSED), _row_by_row),
}
"""Name of a torch function -> its rule."""
