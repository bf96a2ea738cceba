"""The probes of a joint run: what gradients on training rows and on held-out rows were, every so many steps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taskloom.errors import Fault, RunFolderError
from taskloom.record import FIX_VERSION, write_bytes

VERSION = 1
"""Of a probe's file; it rises when a reader of today would misread it."""

PATTERN = "[0-9]*.safetensors"
TRAIN, HELD_OUT = 0, 1
"""Places on the axis of sides."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Probe:
    """One look at all tasks' gradients on the shared parameters, the model left as it was.

    Sketches are of one kind within a run, so that inner products between probes mean something as well.

    Attributes:
        step: the optimizer step after which it was taken.
        tasks: names, in the order of every ``task`` axis.
        rows: rows of each task on each side.
        rate: the learning rate of the shared parameters then.
        geometry: "adam" where `scaled` divides by the root of Adam's second moments, else "plain".
        seconds: what the gradients took.
        losses: [side, task] mean loss of the rows: of training rows, then of held-out rows.
        plain: [side, task, k] sketches of mean gradients.
        scaled: [side, task, k] sketches of ``g / sqrt(sqrt(v) + eps)``: their inner products are those that Adam's
            step makes.
        ahead_seconds: what looking ahead took.
        lookahead: [source, target] share by which a step on the source alone lowered the target's held-out loss; None
            where it was not asked for.
    """

    step: int
    tasks: tuple[str, ...]
    rows: int
    rate: float
    geometry: str
    seconds: float
    losses: Floats
    plain: Floats
    scaled: Floats
    lookahead: Floats | None = None
    ahead_seconds: float = 0.0

    def write(self, folder: Path) -> None:
        """Write it whole or not at all."""
        from safetensors.numpy import save

        tensors = {"losses": self.losses}
        for name in ("plain", "scaled"):
            held = getattr(self, name)
            reach = np.maximum(np.abs(held).max(axis=2, keepdims=True), 1e-30)
            # Half precision of numbers up to 1 tells a sketch to a thousandth, a twentieth of its own error.
            tensors |= {name: (held / reach).astype(np.float16), f"{name}_reach": reach.astype(np.float32)}
        if self.lookahead is not None:
            tensors["lookahead"] = self.lookahead
        facts: dict[str, Any] = {"version": VERSION, "step": self.step, "tasks": list(self.tasks), "rows": self.rows}
        facts |= {"rate": self.rate, "geometry": self.geometry, "seconds": self.seconds}
        facts |= {"ahead_seconds": self.ahead_seconds}
        ready = {name: np.ascontiguousarray(held) for name, held in tensors.items()}
        write_bytes(folder / f"{self.step:06d}.safetensors", save(ready, {"probe": json.dumps(facts)}))


def read_probes(folder: Path) -> list[Probe]:
    """Read a run's probes, in the order of their steps; none where there is no such folder.

    Args:
        folder: `Record.transfer` of the run.

    Raises:
        RunFolderError: a probe is of another version.
    """
    return [_read(path) for path in sorted(folder.glob(PATTERN))]


def _read(path: Path) -> Probe:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as stream:
        facts = json.loads((stream.metadata() or {}).get("probe", "{}"))
        if facts.get("version") != VERSION:
            found = f"`{facts.get('version')}`"
            raise RunFolderError(Fault("version", f"be `{VERSION}`", found, FIX_VERSION, str(path)))
        held: Mapping[str, Any] = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - no mapping
    sketches = {name: held[name].astype(np.float32) * held[f"{name}_reach"] for name in ("plain", "scaled")}
    facts.pop("version")
    return Probe(**{**facts, "tasks": tuple(facts["tasks"])}, losses=held["losses"], **sketches,
                 lookahead=held.get("lookahead"))  # fmt: skip


def truncate_probes(folder: Path, step: int) -> None:
    """Drop every probe after `step`, so that a resumed run writes those of a run that was never killed."""
    for path in folder.glob(PATTERN):
        if int(path.stem) > step:
            path.unlink()
