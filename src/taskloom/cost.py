"""What a process used: time, memory, and energy where the machine tells it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

POWERCAP = Path("/sys/class/powercap")
"""Where Linux tells the energy of a processor's packages, to those who may read it."""


class Meter:
    """Measures from when it was made.

    Args:
        powercap: where energy counters lie.
    """

    def __init__(self, powercap: Path = POWERCAP) -> None:
        self.powercap = powercap
        self._started = time.monotonic()
        self._joules = self._counters()

    def read(self) -> dict[str, Any]:
        """Give ``seconds``, ``peak_memory_bytes`` and ``energy_joules`` so far.

        Memory is the most that the process held, on a GPU the most that tensors held there; None where the system does
        not tell. Energy is that of the processor's packages, whatever else ran on them; None where it is not readable.
        """
        now = self._counters()
        known = [path for path in self._joules if path in now]
        used = sum(_passed(self._joules[path], now[path], path) for path in known)
        return {
            "seconds": round(time.monotonic() - self._started, 1),
            "peak_memory_bytes": peak_memory(),
            "energy_joules": round(used, 1) if known else None,
        }

    def _counters(self) -> dict[Path, int]:
        """Give the energy counters of packages, in microjoules."""
        found = {}
        for path in sorted(self.powercap.glob("intel-rapl:[0-9]*/energy_uj")):
            if path.parent.name.count(":") == 1:  # parts of a package are in it already
                try:
                    found[path] = int(path.read_text(encoding="utf-8"))
                except (OSError, ValueError):  # only the administrator may read it
                    continue
        return found


def _passed(before: int, after: int, path: Path) -> float:
    """Give joules between two readings of a counter that begins anew at its greatest value."""
    if after >= before:
        return (after - before) / 1e6
    limit = int((path.parent / "max_energy_range_uj").read_text(encoding="utf-8"))
    return (after + limit - before) / 1e6


def peak_memory() -> int | None:
    """Give the most memory that was held, in bytes; None where the system does not tell."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    import sys

    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(held if sys.platform == "darwin" else held * 1024)
