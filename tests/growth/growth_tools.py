"""What tests of growth share: a short run of two tasks, further tasks for it, and a look at all weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

TASKS = {"intent": "classification", "urgency": "regression"}


def run_of(encoder: Path, data: Path, *, adapter: dict[str, Any] | None, **changes: Any) -> dict[str, Any]:
    """Describe a short run of two tasks."""
    return {
        "model": {"name_or_path": str(encoder), "adapter": adapter},
        "tasks": {
            name: {"type": kind, "data": str(data / name), "max_length": 64, "limit_rows": 16}
            for name, kind in TASKS.items()
        },
        "mixture": {"strategy": "uniform"},
        "training": {
            "max_steps": 4,
            "per_device_train_batch_size": 8,
            "learning_rate": 1e-2,
            "logging_steps": 1,
            "eval_steps": 2,
            "save_steps": 2,
            "seed": 0,
        },
        "evaluation": {"resamples": 100},
        **changes,
    }


def lora(**fields: Any) -> dict[str, Any]:
    return {"type": "lora", "r": 4, "lora_alpha": 8, "lora_dropout": 0.2, "target_modules": "all-linear", **fields}


def topics(data: Path, **more: Any) -> dict[str, Any]:
    """Describe a further task."""
    section = {"type": "multi_label", "data": str(data / "topics"), "max_length": 64, "limit_rows": 16}
    return {"tasks": {"topics": section}, **more}


def twin(data: Path, name: str = "twin", **more: Any) -> dict[str, Any]:
    """Describe a further task that is the intent task under another name."""
    section = {"type": "classification", "data": str(data / "intent"), "max_length": 64, "limit_rows": 16}
    return {"tasks": {name: section}, **more}


def weights_of(folder: Path) -> dict[str, Any]:
    """Read all weights of a run's model: file and name -> tensor."""
    files = sorted((folder / "model").rglob("*.safetensors"))
    return {
        f"{path.relative_to(folder / 'model')}:{name}": value
        for path in files
        for name, value in load_file(path).items()
    }


def assert_old_weights_stand(old: Path, new: Path) -> None:
    before, after = weights_of(old), weights_of(new)
    assert set(before) < set(after)
    assert all(torch.equal(value, after[name]) for name, value in before.items())
