"""A study of two tasks in a tiny encoder."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

TASKS = ("intent", "topics")


def study_values(run_values: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Describe a study of two tasks, two seeds and few steps."""
    run = deepcopy(run_values)
    run["tasks"] = {name: run["tasks"][name] for name in TASKS}
    run["training"] |= {"max_steps": 6, "per_device_train_batch_size": 8, "eval_steps": 3, "save_steps": 3}
    return {"run": run, "seeds": 2, **changes}
