"""A run of all seven tasks of the help desk in a few steps of a tiny encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

TINY_TOKENS = 128
"""Tokens that the tiny encoder has places for."""

TINY_TASKS = {
    "intent": "classification",
    "slots": "token_classification",
    "urgency": "regression",
    "similarity": "similarity",
    "answer": "extractive_qa",
    "topics": "multi_label",
    "reply": "multiple_choice",
}
"""The tasks of the help desk -> their types, in the order of the run."""


def tiny_values(encoder: Path, data: Path) -> dict[str, Any]:
    """Describe a run of all seven tasks in four steps."""
    return {
        "model": {
            "name_or_path": str(encoder),
            "adapter": {"type": "lora", "r": 4, "lora_alpha": 8, "target_modules": "all-linear"},
        },
        "tasks": {
            name: {"type": kind, "data": str(data / name), "max_length": TINY_TOKENS}
            for name, kind in TINY_TASKS.items()
        },
        "mixture": {"strategy": "uniform"},
        "training": {
            "max_steps": 4,
            "per_device_train_batch_size": 14,
            "learning_rate": 1e-3,
            "logging_steps": 1,
            "eval_steps": 2,
            "save_steps": 2,
            "seed": 0,
        },
        "evaluation": {"resamples": 100},
    }
