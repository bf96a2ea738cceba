"""What becomes of a finished run: a task that is added later, a beginning taken from another run, adapters merged.

`adding` trains the parts of one more task on a run, and proves that nothing else changed; `relatedness` measures which
of the run's tasks it may begin from; `fisher` and `forgetting` are for shared parts that are trained on, gently;
`merging` makes one run of several. `taskloom.model.start` begins a run with the weights of another.
"""

from __future__ import annotations

from typing import Any

__all__ = ["add_task", "merge", "start_from"]

_HOMES = {
    "add_task": "taskloom.growth.adding",
    "merge": "taskloom.growth.merging",
    "start_from": "taskloom.model.start",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its home on first use: a run that begins imports none of what reads finished ones."""
    if name not in _HOMES:
        raise AttributeError(f"module `taskloom.growth` has no `{name}`")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
