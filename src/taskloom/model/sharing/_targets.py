"""Finding the layers of a backbone that a scheme puts parts into, and putting others in their place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from taskloom.errors import Fault, ModelError, listed, nearest

ALL_LINEAR = "all-linear"
"""The word for every linear layer but the one that gives words."""

WHERE = "model.sharing.target_modules"


def widths(layer: nn.Module) -> tuple[int, int]:
    """Give how wide a linear layer's input and output are."""
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    width: Any = layer.weight
    return int(width.shape[0]), int(width.shape[1])


def linear_layers(backbone: nn.Module) -> dict[str, nn.Module]:
    """Give a backbone's linear layers by path, without the output embeddings.

    Layers within torch's own attention are left out: it reads their weights past them.
    """
    held: Any = backbone
    output = held.get_output_embeddings() if hasattr(backbone, "get_output_embeddings") else None
    inside = {
        id(each)
        for module in backbone.modules()
        if isinstance(module, nn.MultiheadAttention)
        for each in module.modules()
    }
    return {
        path: module
        for path, module in backbone.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not output and id(module) not in inside
    }


def matching(backbone: nn.Module, wanted: str | Sequence[str]) -> dict[str, nn.Module]:
    """Give the linear layers that `wanted` names: by the ends of their paths, or all of them.

    Raises:
        ModelError: a name matches none.
    """
    layers = linear_layers(backbone)
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    if names == [ALL_LINEAR] and layers:
        return layers
    requirement, found = "match linear layers of the backbone", "none"
    for name in names:
        if not any(_ends(path, name) for path in layers):
            ends = sorted({path.rpartition(".")[2] for path in layers})
            found = f"`{name}`"
            raise ModelError(Fault(WHERE, requirement, found, nearest(name, [*ends, ALL_LINEAR])))
    if not names:
        raise ModelError(Fault(WHERE, requirement, found, f"`{ALL_LINEAR}` takes all of them"))
    return {path: layer for path, layer in layers.items() if any(_ends(path, name) for name in names)}


OUTPUTS = {
    "attention": (
        *("attention.output.dense", "attn.Wo", "o_proj", "out_proj", "attn.c_proj", "crossattention.c_proj"),
        *("SelfAttention.o", "EncDecAttention.o", "attention.out_lin", "attention.dense"),
    ),
    "feed-forward": (
        *("output.dense", "mlp.Wo", "down_proj", "fc2", "mlp.c_proj", "wo", "ffn.lin2", "dense_4h_to_h"),
        *("feed_forward.output_dense", "ffn_output"),
    ),
}
"""The last linear layer of each kind of block -> the ends of its path in the families that transformers has."""


def block_outputs(backbone: nn.Module, wanted: Sequence[str] | None) -> dict[str, nn.Module]:
    """Give the last linear layers of attention and feed-forward blocks.

    Raises:
        ModelError: `wanted` is absent, and one of the two kinds cannot be found.
    """
    if wanted is not None:
        return matching(backbone, wanted)
    layers = linear_layers(backbone)
    found: dict[str, set[str]] = {
        kind: {path for path in layers if any(_ends(path, end) for end in ends)} for kind, ends in OUTPUTS.items()
    }
    found["feed-forward"] -= found["attention"]
    for kind, paths in found.items():
        if not paths:
            ends = sorted({path.rpartition(".")[2] for path in layers})
            requirement = "name the last linear layers of the backbone's attention and feed-forward blocks"
            fix = f"Its linear layers are {listed(ends)}; give the ends of the names of those"
            raise ModelError(Fault(WHERE, requirement, f"no value, and no {kind} block known here", fix))
    return {path: layer for path, layer in layers.items() if any(path in paths for paths in found.values())}


def replace(backbone: nn.Module, layers: dict[str, nn.Module], make: Callable[[str, nn.Module], nn.Module]) -> None:
    """Put what `make` gives for a path and its layer in the layer's place, wherever the layer stands."""
    made = {id(layer): make(path, layer) for path, layer in layers.items()}
    places = [(path, id(layer)) for path, layer in backbone.named_modules(remove_duplicate=False)]
    for path, key in places:
        if key in made:
            parent, _, name = path.rpartition(".")
            setattr(backbone.get_submodule(parent), name, made[key])


def _ends(path: str, name: str) -> bool:
    return path == name or path.endswith(f".{name}")
