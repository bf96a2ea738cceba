"""The checkpoints of a run folder: which one a run is taken up from, and whether training had ended there."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STATE_FILE = "trainer_state.json"
"""What transformers writes last into a checkpoint."""

EARLY_STOPPING = "EarlyStoppingCallback"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was written whole.

    Attributes:
        folder: where it is.
        state: transformers' TrainerState, as plain values.
    """

    folder: Path
    state: dict[str, Any]

    @property
    def step(self) -> int:
        """The optimizer step after which it was written."""
        return int(self.state["global_step"])

    def ended(self, updates: int) -> bool:
        """Say whether training was over here: after all its steps, or because the score no longer rose."""
        return self.step >= updates or any(
            each["attributes"]["early_stopping_patience_counter"] >= each["args"]["early_stopping_patience"]
            for each in patience(self.state.get("stateful_callbacks", {}))
        )


def patience(callbacks: dict[str, Any]) -> list[dict[str, Any]]:
    """Give what a state holds of early stopping: ``args`` and ``attributes`` of each of its callbacks."""
    held = callbacks.get(EARLY_STOPPING, [])
    return held if isinstance(held, list) else [held]


def last_checkpoint(folder: Path) -> Checkpoint | None:
    """Find the newest checkpoint that was written whole; later ones that a killed process left half are removed."""
    places = [path for path in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    for path in sorted(places, key=_step_of, reverse=True):
        try:
            state = json.loads((path / STATE_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            shutil.rmtree(path, ignore_errors=True)
            continue
        return Checkpoint(path, state)
    return None


def _step_of(path: Path) -> int:
    return int(path.name.rpartition("-")[2])
