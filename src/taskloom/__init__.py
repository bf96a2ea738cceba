"""Taskloom fine-tunes one language model on many tasks at once.

>>> import taskloom
>>> callable(taskloom.read_config)
True

Names are loaded when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskloom.errors import TaskloomError

if TYPE_CHECKING:
    from taskloom.config import load_config, read_config
    from taskloom.inspection import check, preview
    from taskloom.reports import report
    from taskloom.run import Run, evaluate, train
    from taskloom.training.trainer import Trainer

__version__ = "0.1.0"

__all__ = [
    "Run",
    "TaskloomError",
    "Trainer",
    "__version__",
    "check",
    "evaluate",
    "load_config",
    "preview",
    "read_config",
    "report",
    "train",
]

_HOMES = {
    "Run": "taskloom.run",
    "Trainer": "taskloom.training.trainer",
    "check": "taskloom.inspection",
    "evaluate": "taskloom.run",
    "load_config": "taskloom.config",
    "preview": "taskloom.inspection",
    "read_config": "taskloom.config",
    "report": "taskloom.reports",
    "train": "taskloom.run",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its home on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module `taskloom` has no `{name}`")
    import importlib

    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
