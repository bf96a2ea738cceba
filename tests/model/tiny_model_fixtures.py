"""Fixtures that the tests of this folder ask for by `pytest_plugins`."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from taskloom.config import load_config
from taskloom.preparation import prepare
from taskloom.session import Session

KEPT = ("intent", "slots", "answer")


@pytest.fixture
def make_session(run_values: dict[str, Any], tmp_path: Path) -> Callable[..., Session]:
    """Make a session of one step over three tasks, with the keys of `model:` changed."""

    def make(**model: Any) -> Session:
        values = deepcopy(run_values)
        values["tasks"] = {name: {**values["tasks"][name], "limit_rows": 8} for name in KEPT}
        values["model"] |= model
        values["training"] |= {
            "max_steps": 1,
            "per_device_train_batch_size": 6,
            "learning_rate": 0.05,
            "warmup_steps": 0,
        }
        values["training"] |= {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False}
        config = load_config(values)
        return Session(config, prepare(config), tmp_path / "checkpoints")

    return make
