"""Plans from predicted transfer against every plan there is, all of them trained.

    python benchmarks/plans.py --data FOLDER [--out runs/transfer] [--seeds 3] [--workers 2] [--quick]

Six of the real tasks of benchmarks/transfer.py, with the same rows, backbone and budget; its runs are used again where
`--out` has them. For every seed each of the 63 groups of tasks is trained, so that every way to part the six tasks has
its composite: the mean over tasks of normalised test scores. The run of all six is probed; from its probes each
estimator, and `taskloom plan`'s default with the number of groups it advises, makes its plans. A plan of one seed is
valued by the groups as that seed trained them, and as the others did, beside all plans of as many groups: their mean,
their deviation, and the best of them, which is chosen in hindsight and therefore looks better than it is. The same run
is also probed at every step, with more rows, for what better estimates would bring. What pairs measured is also made to
foretell all larger groups, by the mean, the sum, and the sum over the root of n.

Figures go to benchmarks/results/plans.json, and `python benchmarks/tables.py` puts them into docs/planning.md.
`--quick` takes three tasks, one seed and a few steps, and writes no figures.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from measuring import write
from numpy.typing import NDArray
from scipy import stats

from taskloom.affinity import read_probes
from taskloom.affinity.estimators import ESTIMATORS
from taskloom.affinity.reading import DEFAULT, read_transfers
from taskloom.planning import make_plan
from taskloom.planning.partition import Groups, best_partitions
from taskloom.record import Record
from transfer import described, train_all, values_of, write_backbone, write_data

TASKS = ("sentiment", "intent", "slots", "entities", "similarity", "ambiguity")
COUNTS = (2, 3)
DENSE = {"every_steps": 1, "rows": 16}
"""Probes of a second run of all tasks, which cost far more than a run takes by default."""

POWERS = {"sum": 0.0, "sum over root of n": 0.5, "mean": 1.0}
DRAWN = 10
"""Random plans whose mean a plan is held against, by its two standard errors."""

Scores = Mapping[tuple[int, ...], NDArray[np.float64]]


def ways(tasks: int, groups: int) -> Iterator[Groups]:
    """Give every way to part so many tasks into so many groups."""
    for owner in itertools.product(range(groups), repeat=tasks - 1):
        held = (0, *owner)
        first_seen = list(dict.fromkeys(held))
        if first_seen == list(range(groups)):
            yield tuple(tuple(task for task in range(tasks) if held[task] == group) for group in range(groups))


def composite(groups: Groups, scores: Scores) -> float:
    """Give the mean over tasks of their scores in their groups."""
    return float(np.mean(np.concatenate([scores[group] for group in groups])))


def sets(tasks: int) -> list[tuple[int, ...]]:
    """Give every group of tasks."""
    return [group for size in range(1, tasks + 1) for group in itertools.combinations(range(tasks), size)]


def folder_of(out: Path, seed: int, names: Sequence[str]) -> Path:
    """Give where the run of some tasks lies; small ones are those of benchmarks/transfer.py."""
    return out / f"{seed}-{'+'.join(names)}"


def plans_of(folder: Path, names: Sequence[str]) -> dict[str, Groups]:
    """Give the plans that a run's probes speak for."""
    probes, found = read_probes(Record(folder).transfer), {}
    order = [probes[0].tasks.index(name) for name in names]
    methods = {name: ESTIMATORS.load(name)() for name in ESTIMATORS.names()}
    for estimator, method in methods.items():
        if not method.reads(probes):
            continue
        effect = method.effect(probes)[np.ix_(order, order)]
        held = best_partitions(effect, np.ones(len(names)))
        found |= {f"{estimator}, {count}": held[count - 1].groups for count in COUNTS}
    advised = make_plan(read_transfers(folder, [DEFAULT])[DEFAULT]).best.groups
    found["advised"] = tuple(tuple(sorted(names.index(name) for name in group)) for group in advised)
    return found


def pairs_of(tasks: int, scores: Scores) -> NDArray[np.float64]:
    """Give what each task's company did for each other one: [source, target]."""
    effect = np.full((tasks, tasks), np.nan)
    for one, other in itertools.combinations(range(tasks), 2):
        effect[other, one], effect[one, other] = scores[one, other] - [scores[one,][0], scores[other,][0]]
    return effect


def by_pairs(names: Sequence[str], scores: Scores) -> dict[str, Groups]:
    """Give the plans that measured pairs speak for."""
    held = best_partitions(pairs_of(len(names), scores), np.ones(len(names)))
    return {f"measured pairs, {count}": held[count - 1].groups for count in COUNTS}


def foretold(tasks: int, scores: Scores) -> dict[str, dict[str, float]]:
    """Hold what pairs foretell of each task in each larger group, by several rules, against what the group measured."""
    effect, found = pairs_of(tasks, scores), {}
    cases = [(group, place) for group in sets(tasks) if len(group) > 2 for place in range(len(group))]
    truth = np.array([scores[group][place] - scores[group[place],][0] for group, place in cases])
    for rule, power in POWERS.items():
        gains = []
        for group, place in cases:
            others = [task for task in group if task != group[place]]
            gains.append(effect[others, group[place]].sum() / len(others) ** power)
        told = np.array(gains)
        found[rule] = {
            "spearman": float(stats.spearmanr(told, truth).statistic),
            "slope": float(told @ truth / (told @ told)),
            "error": float(np.sqrt(np.mean((told - truth) ** 2))),
        }
    return found


def valued(groups: Groups, scores: Scores) -> dict[str, float]:
    """Hold a plan against all plans of as many groups: its composite, theirs, and the best."""
    every = [composite(each, scores) for each in ways(sum(map(len, groups)), len(groups))]
    return {
        "plan": composite(groups, scores),
        "mean": float(np.mean(every)),
        "deviation": float(np.std(every)),
        "best": max(every),
        "above": float(np.mean(np.array(every) < composite(groups, scores) - 1e-12)),
    }


def averaged(scores: Sequence[Scores]) -> Scores:
    """Give every group's scores, as the mean over seeds."""
    return {group: np.mean([held[group] for held in scores], axis=0) for group in scores[0]}


def judged(out: Path, names: Sequence[str], scores: Sequence[Scores]) -> dict[str, list[dict[str, Any]]]:
    """Value every plan that a seed's run speaks for, by that seed and by the others: plan -> [seed]."""
    found: dict[str, list[dict[str, Any]]] = {}
    for seed, held in enumerate(scores):
        rest = averaged([each for other, each in enumerate(scores) if other != seed] or scores)
        plans = plans_of(folder_of(out, seed, names), names) | by_pairs(names, rest)
        plans |= {f"{plan}, dense": parted for plan, parted in plans_of(out / f"{seed}-dense", names).items()}
        for plan, parted in plans.items():
            row = {"groups": [[names[task] for task in group] for group in parted]}
            row |= {"own": valued(parted, held), "others": valued(parted, rest)}
            found.setdefault(plan, []).append(row)
    return found


def main() -> None:
    """Train what is missing, compare, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/transfer"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    out, seeds = arguments.out, range(1 if arguments.quick else arguments.seeds)
    kinds = write_data(arguments.data, out / "data", 40 if arguments.quick else None)
    write_backbone(out / "backbone")
    names = [name for name in kinds if name in TASKS][: 3 if arguments.quick else len(TASKS)]
    training = {"max_steps": 10} if arguments.quick else {}
    groups = {group: [names[task] for task in group] for group in sets(len(names))}
    wanted = {}
    for seed, held in itertools.product(seeds, groups.values()):
        values = described(kinds, held, out / "data", seed, **training)
        if len(held) < len(names):
            values["transfer"] = {"every_steps": 0}
        wanted[folder_of(out, seed, held)] = values
    for seed in seeds:
        wanted[out / f"{seed}-dense"] = described(kinds, names, out / "data", seed, **training) | {"transfer": DENSE}
    train_all(wanted, arguments.workers)
    scores = [read_scores(out, seed, groups) for seed in seeds]
    found = judged(out, names, scores)
    whole, alone = tuple(range(len(names))), [(task,) for task in range(len(names))]
    ends = {
        "together": [composite((whole,), held) for held in scores],
        "alone": [composite(alone, held) for held in scores],
    }
    for plan, rows in sorted(found.items(), key=lambda each: -np.mean([row["others"]["above"] for row in each[1]])):
        told = {key: round(float(np.mean([row["others"][key] for row in rows])), 4) for key in rows[0]["others"]}
        print(f"{plan:26} {told}")
    print(ends)
    if not arguments.quick:
        rules = foretold(len(names), averaged(scores))
        figures = {"tasks": names, "seeds": len(seeds), "plans": found, "rules": rules, **ends}
        print(f"wrote {write('plans', 'python benchmarks/plans.py --data FOLDER', figures)}")


def read_scores(out: Path, seed: int, groups: Mapping[tuple[int, ...], Sequence[str]]) -> Scores:
    """Give every group's normalised test scores, in the order of its tasks."""
    found = {}
    for group, held in groups.items():
        values = values_of(folder_of(out, seed, held))
        found[group] = np.array([values[name] for name in held])
    return found


if __name__ == "__main__":
    main()
