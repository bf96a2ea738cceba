"""Probes made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from taskloom.affinity import Probe


def made_probe(
    train: Any, held_out: Any, *, step: int = 20, losses: Any = None, rate: float = 1.0, lookahead: Any = None
) -> Probe:
    """Make a probe of sketches that are the gradients themselves: [task, k] on each side."""
    sides = np.stack([np.asarray(train), np.asarray(held_out)]).astype(np.float32)
    count = sides.shape[1]
    held = np.ones((2, count)) if losses is None else np.stack([np.ones(count), np.asarray(losses)])
    names = tuple("abcdefghijkl"[:count])
    ahead = None if lookahead is None else np.asarray(lookahead, dtype=np.float32)
    return Probe(step, names, 8, rate, "adam", 0.1, held.astype(np.float32), sides, sides, ahead)


def drawn_probes(tasks: int, count: int, width: int = 12, seed: int = 0, *, ahead: bool = True) -> list[Probe]:
    """Draw probes of noisy gradients around fixed ones."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(tasks, width))
    found = []
    for place in range(count):
        train, held_out = (centres + generator.normal(size=centres.shape) for _ in range(2))
        losses = generator.uniform(0.5, 2.0, size=tasks)
        lookahead = generator.normal(size=(tasks, tasks)) if ahead else None
        rate = float(generator.uniform(0.1, 1.0))
        found.append(made_probe(train, held_out, step=20 * place, losses=losses, rate=rate, lookahead=lookahead))
    return found
