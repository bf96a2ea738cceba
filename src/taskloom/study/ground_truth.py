"""Transfer as it is measured: tasks trained alone, in pairs, and all but one, under one budget."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from taskloom.affinity import Transfer
from taskloom.config import Config
from taskloom.errors import ConfigError, Fault
from taskloom.record import VERSION, Record, check_own, read_note, write_json
from taskloom.run import reopened
from taskloom.statistics import t_interval
from taskloom.study.budget import Budget
from taskloom.study.comparison import scores_of
from taskloom.study.members import KEPT, Member, train_members

Kind = Literal["pairs", "leave_one_out"]
FILE, LOSSES = "transfer.json", "losses.json"
UNITS = {"score": "normalised score", "loss": "relative loss"}

Runs = Mapping[tuple[str, int], Record]
Floats = NDArray[np.float64]


def measure_transfer(
    base: Config,
    folder: Path,
    kind: Kind = "pairs",
    *,
    seeds: Sequence[int] = (0, 1, 2),
    workers: int = 1,
    console: Console | None = None,
) -> dict[str, Transfer]:
    """Train what it takes to measure what each task does for each other one.

    Args:
        base: the run of all tasks.
        folder: where runs go, and the outcome as `FILE`; runs that are there already are not trained again.
        kind: "pairs": every pair against each task alone, T(T - 1) / 2 + T runs for each seed; "leave_one_out": all
            tasks against all but one, T + 1 runs.
        seeds: paired.
        workers: runs side by side.
        console: where progress is shown.

    Returns:
        "score" and "loss" -> the measured matrix, above 0 where the source helps: the difference of normalised test
        scores, and the share by which the validation loss is lower. Intervals are Student's over seeds.

    Raises:
        ConfigError: there is one task alone.
    """
    tasks = tuple(base.tasks)
    if len(tasks) < 2:
        raise ConfigError(Fault("tasks", "be two at least, or there is no transfer", f"`{tasks[0]}` alone"))
    check_own(folder, *KEPT, FILE)
    groups = groups_of(tasks, kind)
    members = [Member("+".join(group), group, {"transfer": {"every_steps": 0}}, seed)
               for seed in seeds for group in groups]  # fmt: skip
    runs = train_members(base, members, folder, budget=Budget.of(base), workers=workers, console=console)
    reads = {"score": _score, "loss": _loss}
    found = {}
    for name, read in reads.items():
        effects = np.stack([_matrix(tasks, kind, runs, seed, read, relative=name == "loss") for seed in seeds])
        ends = np.array([[t_interval(effects[:, i, j].tolist()) for j in range(len(tasks))] for i in range(len(tasks))])
        found[name] = Transfer(
            tasks, effects.mean(axis=0), ends[..., 0], ends[..., 1], kind, measured=True, unit=UNITS[name]
        )
    rows = {name: each.as_row() for name, each in found.items()}
    write_json(folder / FILE, {"version": VERSION, "kind": kind, "seeds": list(seeds), "matrices": rows})
    return found


def read_measured(folder: Path) -> dict[str, Transfer]:
    """Read what `measure_transfer` wrote; nothing where it wrote nothing."""
    return {name: Transfer.of_row(row) for name, row in read_note(folder / FILE).get("matrices", {}).items()}


def groups_of(tasks: Sequence[str], kind: Kind) -> list[tuple[str, ...]]:
    """Give the groups of tasks that have to be trained."""
    if kind == "pairs":
        return [(name,) for name in tasks] + list(itertools.combinations(tasks, 2))
    return [tuple(tasks)] + [tuple(other for other in tasks if other != name) for name in tasks]


def _matrix(
    tasks: Sequence[str], kind: Kind, runs: Runs, seed: int, read: Callable[[Record, str], float], *, relative: bool
) -> Floats:
    """Give one seed's effects: [source, target]."""
    effect = np.full((len(tasks), len(tasks)), np.nan)
    having: tuple[str, ...]
    lacking: tuple[str, ...]
    for i, j in itertools.permutations(range(len(tasks)), 2):
        source, target = tasks[i], tasks[j]
        if kind == "pairs":
            having, lacking = tuple(name for name in tasks if name in {source, target}), (target,)
        else:
            having, lacking = tuple(tasks), tuple(name for name in tasks if name != source)
        with_it, without = (read(runs["+".join(group), seed], target) for group in (having, lacking))
        effect[i, j] = (without - with_it) / max(without, 1e-6) if relative else with_it - without
    return effect


def _score(record: Record, task: str) -> float:
    """Give a task's normalised test score in a run."""
    return float(scores_of([record], task).scores[0])


def _loss(record: Record, task: str) -> float:
    """Give a task's mean validation loss in a run, worked out once."""
    path = record.folder / LOSSES
    held = read_note(path).get("validation", {})
    if task not in held:
        session, _ = reopened(record.folder)
        held = session.mean_validation_losses()
        write_json(path, {"version": VERSION, "validation": held})
    return float(held[task])
