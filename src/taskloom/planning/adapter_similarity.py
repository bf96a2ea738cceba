"""How alike the adapters are that tasks learn alone; a hypothesis about transfer until a run confirms it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from taskloom.affinity import Transfer
from taskloom.config import read_config
from taskloom.errors import Fault, RunFolderError
from taskloom.model.folder import ADAPTER
from taskloom.record import Record

FILE = "adapter_model.safetensors"
DOWN, UP = ".lora_A.weight", ".lora_B.weight"

Floats = NDArray[np.float32]
Pairs = dict[str, tuple[Floats, Floats]]


def adapter_similarity(folders: Sequence[Path]) -> Transfer:
    """Compare the adapters of runs of one task each, as foretold transfer.

    Formula: ``cos(ΔW_i, ΔW_j)`` with ``ΔW = (lora_alpha / r) B A`` over all layers; of inner products
    ``<B A, B' A'> = sum((B' B'^T) * (A A'^T))`` is formed layer by layer, so no ΔW is.

    Args:
        folders: finished runs of one task each, with LoRA on the same layers of the same backbone.

    Returns:
        both directions alike, without intervals.

    Raises:
        RunFolderError: a run has several tasks, or no LoRA, or one on other layers.

    Differs: the paper embeds tasks by gradients of a probe network; adapters come for free with single-task runs.

    Paper: Vu et al., Exploring and Predicting Transferability across NLP Tasks, 2020, arXiv:2005.00770.
    """
    held = [_read(folder) for folder in folders]
    names = tuple(name for name, _, _ in held)
    layers = set(held[0][1])
    for folder, (_, pairs, _) in zip(folders, held, strict=True):
        if set(pairs) != layers:
            fix = "Train the tasks with the same `model` section"
            raise RunFolderError(Fault(str(folder), f"have the layers of `{folders[0]}`", "others", fix))
    products = np.array([[one[2] * other[2] * _inner(one[1], other[1]) for other in held] for one in held])
    norms = np.sqrt(np.maximum(np.diagonal(products), 1e-30))
    effect = products / np.outer(norms, norms)
    np.fill_diagonal(effect, np.nan)
    unknown = np.full_like(effect, np.nan)
    return Transfer(names, effect, unknown, unknown, "adapter_weights", measured=False, unit="cosine")


def _inner(one: Pairs, other: Pairs) -> float:
    total = 0.0
    for layer, (down, up) in one.items():
        down_other, up_other = other[layer]
        total += float(((up.T @ up_other) * (down @ down_other.T)).sum(dtype=np.float64))
    return total


def _read(folder: Path) -> tuple[str, Pairs, float]:
    """Give a run's task, the factors of each layer, and their scale."""
    from safetensors.numpy import load_file

    record = Record.open(folder)
    config = read_config(record.run_yaml)
    if len(config.tasks) != 1:
        raise RunFolderError(Fault(str(folder), "be a run of one task", f"{len(config.tasks)}"))
    path = record.model / ADAPTER / FILE
    adapter = config.model.adapter or {}
    if adapter.get("type") != "lora" or not path.is_file():
        raise RunFolderError(Fault(str(folder), "be a finished run with `adapter: {type: lora}`", "none"))
    tensors = load_file(path)
    names = [name.removesuffix(DOWN) for name in tensors if name.endswith(DOWN)]
    pairs = {name: (tensors[name + DOWN].astype(np.float32), tensors[name + UP].astype(np.float32)) for name in names}
    return next(iter(config.tasks)), pairs, float(adapter["lora_alpha"]) / float(adapter["r"])
