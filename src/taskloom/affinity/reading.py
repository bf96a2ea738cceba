"""Transfer as each estimator sees it in a run's probes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from taskloom.affinity.estimators import ESTIMATORS, Estimator
from taskloom.affinity.matrix import Matrix, Transfer
from taskloom.affinity.probes import Probe, read_probes
from taskloom.bootstrap import percentiles
from taskloom.record import Record

DEFAULT = "pair_progress"
"""The estimator that stands first; `benchmarks/transfer.py` holds each against transfer as measured."""

LEAST_PROBES = 4
"""Fewer than this give no interval."""

RESAMPLES, CONFIDENCE = 200, 0.95


def read_transfers(folder: Path | str, only: Sequence[str] = ()) -> dict[str, Transfer]:
    """Predict transfer from the probes of a run, by each estimator that can read them.

    Args:
        folder: a run folder.
        only: the estimators that are asked; by default all.

    Returns:
        estimator -> its prediction, `DEFAULT` first; empty where the run has no probes.

    Raises:
        RunFolderError: the folder is no run folder, or of another version.
    """
    probes = read_probes(Record.open(folder).transfer)
    names = sorted(ESTIMATORS.names(), key=lambda name: name != DEFAULT)
    methods = {name: ESTIMATORS.load(name)() for name in names if not only or name in only}
    return {name: estimate(probes, name, each) for name, each in methods.items() if probes and each.reads(probes)}


def estimate(probes: Sequence[Probe], name: str, estimator: Estimator, seed: int = 0) -> Transfer:
    """Predict transfer by one estimator, with intervals by bootstrap over probes.

    Args:
        probes: of one run, one at least.
        name: of the estimator.
        estimator: itself.
        seed: of the bootstrap.
    """
    effect = estimator.effect(probes)
    low = high = np.full_like(effect, np.nan)
    if len(probes) >= LEAST_PROBES:
        generator = np.random.default_rng(seed)
        drawn = generator.integers(0, len(probes), size=(RESAMPLES, len(probes)))
        samples = np.stack([estimator.effect([probes[place] for place in places]) for places in drawn])
        low, high = _ends(samples)
    return Transfer(probes[0].tasks, effect, low, high, name, measured=False, unit=estimator.unit)


def _ends(samples: Matrix) -> tuple[Matrix, Matrix]:
    tasks = samples.shape[1]
    ends = [percentiles(samples[:, source, target], CONFIDENCE) for source in range(tasks) for target in range(tasks)]
    low, high = np.array(ends).T.reshape(2, tasks, tasks)
    return low, high
