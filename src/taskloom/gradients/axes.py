"""Which calls of torch leave another thing than rows on the first axis of their result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

_SWAPS = frozenset({"transpose", "swapaxes", "swapdims", "transpose_"})
_ALWAYS = frozenset({"masked_select", "nonzero", "take", "t", "t_", "vstack", "hstack", "unique", "flipud"})
_ALONG = frozenset({"index_select", "gather", "take_along_dim", "sort", "argsort", "topk", "select", "narrow"})
_ALONG |= {
    "unbind",
    "split",
    "chunk",
    "tensor_split",
    "flip",
    "roll",
    "cat",
    "concat",
    "stack",
    "sum",
    "mean",
    "amax",
    "amin",
}
_ALONG |= {"max", "min", "prod", "cumsum", "cumprod", "logsumexp", "unsqueeze", "squeeze", "softmax", "log_softmax"}
_OVER = frozenset({"sum", "mean", "amax", "amin", "max", "min", "prod", "cumsum", "cumprod", "logsumexp", "softmax"})
_OVER |= {"log_softmax", "std", "var", "norm", "median", "std_mean", "var_mean", "cummax", "cummin", "logcumsumexp"}
_OVER |= {"nansum", "nanmean", "aminmax", "vector_norm", "linalg_vector_norm", "linalg_norm", "normalize", "renorm"}
_AXIS_PLACE = {"norm": 2, "vector_norm": 2, "linalg_vector_norm": 2, "linalg_norm": 2, "normalize": 2, "flip": 1}
_AXIS_PLACE |= {"roll": 2, "split": 2, "chunk": 2, "tensor_split": 2, "topk": 2, "sort": 1, "argsort": 1}
_DEFAULT_AXIS = {"cat": 0, "concat": 0, "stack": 0, "split": 0, "chunk": 0, "tensor_split": 0, "unbind": 0, "roll": 0}
_DEFAULT_AXIS |= {"topk": -1, "sort": -1, "argsort": -1}


def name_of(function: Any) -> str:
    """Give the name of a torch function, the same for a function, a method and an operator."""
    return getattr(function, "__name__", "")


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Give the tensors in a value, also those in lists and tuples."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from tensors_in(each)


def moves_rows(function: Callable[..., Any], args: tuple[Any, ...], options: Mapping[str, Any], length: int) -> bool:
    """Say whether a call may leave another thing than rows on the first axis of its result.

    Args:
        function: what is called.
        args: its positional arguments.
        options: its keyword arguments.
        length: how many rows there are.
    """
    name = name_of(function)
    if name == "__getitem__":
        return _picks_rows(args[1], length)
    axes = next(tensors_in([*args, *options.values()])).dim()
    if name in _ALWAYS:
        return axes >= 1
    if name in _ALONG:
        return _along_rows(name, args, options, axes)
    return _reorders(function, name, args, options, axes)


def swaps_rows(function: Callable[..., Any], args: tuple[Any, ...], options: Mapping[str, Any]) -> bool:
    """Say whether a call swaps the first two axes of a tensor, and does nothing else."""
    if name_of(function) not in _SWAPS:
        return False
    axes = next(tensors_in([*args, *options.values()])).dim()
    swapped = [*args[1:3], *(value for value in options.values() if isinstance(value, int))]
    return axes > 1 and {axis % axes for axis in swapped} == {0, 1}


def picks_or_reorders(function: Callable[..., Any]) -> bool:
    """Say whether a call may change what is where on some axis, whichever it is."""
    return name_of(function) in _ALONG | _ALWAYS | _SWAPS | {"__getitem__", "permute", "movedim", "moveaxis", "repeat"}


def couples_rows(
    function: Callable[..., Any], args: tuple[Any, ...], options: Mapping[str, Any], *, aligned: bool
) -> bool:
    """Say whether a call lets a gradient flow from one row to others: a sum, norm or softmax over rows, or a product.

    Args:
        function: what is called.
        args: its positional arguments.
        options: its keyword arguments.
        aligned: whether rows are on the first axis; elsewhere any axis but the last may be theirs.
    """
    name = name_of(function)
    if name not in _OVER:
        return False
    first = next(tensors_in([*args, *options.values()]))
    if not first.requires_grad:
        return False
    given = options.get("dim", options.get("axis"))
    if given is None:
        place = _AXIS_PLACE.get(name, 1)
        given = args[place] if len(args) > place else None
    if isinstance(given, Tensor):
        return False  # the larger of two, by element
    axes = first.dim()
    listed = given if isinstance(given, list | tuple) else (given,)
    over = {axis % axes for axis in listed if isinstance(axis, int) and axes}
    if not over or given is None:
        return axes > 0
    return 0 in over if aligned else bool(over - {axes - 1})


def _reorders(function: Any, name: str, args: tuple[Any, ...], options: Mapping[str, Any], axes: int) -> bool:
    if name == "__get__":
        return getattr(getattr(function, "__self__", None), "__name__", "") in {"T", "H"} and axes >= 2
    if name in _SWAPS:
        swapped = [*args[1:3], *(value for value in options.values() if isinstance(value, int))]
        return axes > 1 and 0 in {axis % axes for axis in swapped}
    listed = args[1] if len(args) > 1 and isinstance(args[1], list | tuple) else args[1:]
    if name == "permute":
        return int((listed or options["dims"])[0]) % axes != 0
    if name in {"repeat", "tile"}:
        return len(listed) != axes or int(listed[0]) != 1
    return name in {"movedim", "moveaxis"}


def _along_rows(name: str, args: tuple[Any, ...], options: Mapping[str, Any], axes: int) -> bool:
    given = options.get("dim", options.get("axis", options.get("dims")))
    if given is None:
        place = _AXIS_PLACE.get(name, 1)
        given = args[place] if len(args) > place else _DEFAULT_AXIS.get(name)
    listed = given if isinstance(given, list | tuple) else (given,)
    return any(isinstance(axis, int) and axis in {0, -axes} for axis in listed)


def _picks_rows(index: Any, length: int) -> bool:
    """Say whether an index picks rows, rather than leaving the first axis whole."""
    leading = index[0] if isinstance(index, tuple) and index else index
    if isinstance(leading, Tensor) and leading.dim() and leading.numel() == leading.shape[0] == length:
        # Masks are put together by numbers of rows: all of them, in order.
        return leading.dtype == torch.bool or leading.flatten().tolist() != list(range(length))
    return not (leading is Ellipsis or (isinstance(leading, slice) and leading == slice(None)))
