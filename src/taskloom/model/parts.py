"""The parts of a sharing scheme on disk: all of them for us, and for each task as an adapter that peft loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from taskloom.errors import ModelError
from taskloom.model.sharing._routing import Routing

PARTS = Path("sharing", "parts.safetensors")
ADAPTERS = "adapters"


def save_parts(routing: Routing, backbone: Any, folder: Path, name_or_path: str) -> None:
    """Write a scheme's parts, and for each task the adapter of peft that they are to it, where they are one.

    Args:
        routing: what the scheme put into the backbone.
        backbone: with the parts in it.
        folder: of the model.
        name_or_path: the user's name of the backbone, which the adapters carry.
    """
    import peft

    held = dict(backbone.named_parameters())
    parts = {name: held[name].detach().cpu().contiguous() for name in routing.names()}
    (folder / PARTS).parent.mkdir(exist_ok=True)
    save_file(parts, str(folder / PARTS), metadata={"format": "pt"})
    for task in routing.tasks:
        try:
            plain = routing.plain_lora(task)
        except ModelError:  # the scheme's parts are no LoRA to a task
            return
        place = folder / ADAPTERS / task
        place.mkdir(parents=True, exist_ok=True)
        config = peft.LoraConfig(r=plain.r, lora_alpha=plain.lora_alpha, target_modules=plain.target_modules)
        config.base_model_name_or_path, config.inference_mode = name_or_path, True
        config.save_pretrained(str(place))
        state = {key: value.cpu() for key, value in plain.state.items()}
        save_file(state, str(place / "adapter_model.safetensors"), metadata={"format": "pt"})


def load_parts(routing: Routing, backbone: Any, folder: Path) -> None:
    """Read a scheme's parts back.

    Raises:
        KeyError: the file holds other parts, or some of another shape.
    """
    weights, held = load_file(str(folder / PARTS)), dict(backbone.named_parameters())
    wrong = sorted(set(routing.names()) ^ weights.keys())
    wrong = wrong or [name for name, value in weights.items() if held[name].shape != value.shape]
    if wrong:
        raise KeyError(f"other parts than the scheme's: {wrong[:3]}")
    with torch.no_grad():
        for name, value in weights.items():
            held[name].copy_(value)
