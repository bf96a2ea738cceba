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

SHORT = ("intent", "slots", "urgency")


@pytest.fixture
def few_values(run_values: dict[str, Any]) -> dict[str, Any]:
    """A run of three tasks, for tests that need not all seven."""
    run_values["tasks"] = {name: run_values["tasks"][name] for name in SHORT}
    run_values["training"]["per_device_train_batch_size"] = 6
    return run_values


@pytest.fixture
def session_of(tmp_path: Path) -> Callable[..., Session]:
    """Make a session of a run, with keys of its sections changed."""
    count = 0

    def make(values: dict[str, Any], **changes: dict[str, Any]) -> Session:
        nonlocal count
        values, count = deepcopy(values), count + 1
        for section, changed in changes.items():
            values.setdefault(section, {}).update(changed)
        config = load_config(values)
        return Session(config, prepare(config), tmp_path / f"checkpoints-{count}")

    return make
