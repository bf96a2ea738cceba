"""Ten tasks of which five share a planted structure: does the plan find them, and do grouped adapters gain by it?

    python benchmarks/structure.py [--out runs/structure] [--seeds 3] [--workers 2] [--quick]

A text is five words; its label is which sign most of their values have. Five tasks (`kin`) have the same values of
words, five (`lone`) have values of their own, so that the same words mean something else in each. Every task has 150
rows, too few to learn all words alone. One run with one adapter for all tasks is probed; the plans that its probes make
are trained with an adapter for each group, beside the planted groups, random groups of the same sizes, and an adapter
for each task. Ranks add up to about the same, so that all have as many trained parameters; one adapter more has the
rank of a single group.

Figures go to benchmarks/results/structure.json, and `python benchmarks/tables.py` puts them into docs/sharing.md.
`--quick` takes one seed and a few steps, and writes no figures.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from measuring import write
from sklearn.metrics import adjusted_rand_score

from taskloom.affinity.reading import read_transfers
from taskloom.planning import make_plan
from taskloom.record import Record, write_text
from taskloom.statistics import t_interval
from transfer import train_all, values_of, write_backbone

KIN, LONE = [f"kin_{number}" for number in range(5)], [f"lone_{number}" for number in range(5)]
TASKS = KIN + LONE
WORDS, LENGTH = 120, 5
ROWS = {"train": 150, "validation": 150, "test": 400}
STEPS, ROWS_PER_STEP = 240, 8
PROBES = {"every_steps": 8, "rows": 16}
"""Many more than a run takes by default: what can be seen at all is the question here, and not what it costs."""

RANK, GROUP_RANK = 12, 2
"""Of the one adapter, and of each of six groups."""

TRAINED = ("pair_progress", "linearised")
"""The estimators whose plans are trained too."""

Groups = Sequence[Sequence[str]]


def write_data(folder: Path) -> None:
    """Write each task's rows: words drawn at random, and the sign that most of their values have."""
    from transformers import AutoTokenizer

    known = AutoTokenizer.from_pretrained(folder.parent / "backbone").get_vocab()
    plain = sorted((place, word) for word, place in known.items() if word.isascii() and word.isalpha())
    words = np.array([word for _, word in plain if len(word) > 3][:WORDS])
    shared = np.random.default_rng(0).permutation(np.resize([-1, 1], WORDS))
    for number, name in enumerate(TASKS):
        generator = np.random.default_rng(number + 1)
        values = shared if name in KIN else generator.permutation(shared)
        for split, count in ROWS.items():
            drawn = generator.integers(0, WORDS, size=(count, LENGTH))
            rows = [{"text": " ".join(words[row]), "label": "yes" if values[row].sum() > 0 else "no"} for row in drawn]
            write_text(folder / name / f"{split}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def described(data: Path, seed: int, groups: Groups | None, steps: int, rank: int = RANK) -> dict[str, Any]:
    """Describe a run with an adapter for each group, ranks as they add up to `rank`; None for one adapter, probed."""
    model: dict[str, Any] = {"name_or_path": str(data.resolve().parent / "backbone")}
    if groups is None:
        model["adapter"] = {"type": "lora", "r": rank, "lora_alpha": 2 * rank, "target_modules": "all-linear"}
    else:
        rank = max(1, rank // len(groups))
        named = {f"group_{place}": list(group) for place, group in enumerate(groups)}
        model["sharing"] = {"scheme": "groups", "r": rank, "lora_alpha": 2 * rank, "groups": named}
    kind = {"type": "classification", "per_device_train_batch_size": ROWS_PER_STEP}
    return {
        "model": model,
        "data_root": str(data.resolve()),
        "tasks": {name: {**kind, "data": name} for name in TASKS},
        "training": {
            "max_steps": steps,
            "learning_rate": 2e-3,
            "eval_strategy": "no",
            "load_best_model_at_end": False,
            "save_strategy": "no",
            "seed": seed,
        },
        "transfer": PROBES if groups is None and rank == RANK else {"every_steps": 0},
        "evaluation": {"splits": ["test"], "resamples": 100},
    }


def planned(folder: Path) -> dict[str, dict[str, Groups]]:
    """Give the groups that a run's probes speak for by each estimator: as many as are advised, and six."""
    counts = {"advised": None, "six groups": 1 + len(LONE)}
    return {
        estimator: {name: make_plan(transfer, k=k).best.groups for name, k in counts.items()}
        for estimator, transfer in read_transfers(folder).items()
    }


def shuffled(groups: Groups, seed: int) -> Groups:
    """Give groups of the same sizes with tasks drawn at random."""
    order = list(np.random.default_rng(seed).permutation(TASKS))
    return [[str(order.pop()) for _ in group] for group in groups]


def agreement(groups: Groups) -> float:
    """Give the adjusted Rand index of groups with the planted ones: 1 where they are the same, 0 by chance."""
    owner = {name: place for place, group in enumerate(groups) for name in group}
    truth = [0 if name in KIN else 1 + place for place, name in enumerate(TASKS)]
    return float(adjusted_rand_score(truth, [owner[name] for name in TASKS]))


def together(groups: Groups) -> int:
    """Give how many of the five kin are in one group, at most."""
    return max(len(set(group) & set(KIN)) for group in groups)


def grouped(plans: Sequence[Mapping[str, Mapping[str, Groups]]]) -> dict[str, list[Groups]]:
    """Give the groups of every arm that has an adapter for each of them, by seed."""
    truth = [KIN, *([name] for name in LONE)]
    ways: dict[str, list[Groups]] = {
        f"planned by {estimator}, {count}": [plan[estimator][count] for plan in plans]
        for estimator in TRAINED
        for count in plans[0][estimator]
    }
    ways["planted"] = [truth for _ in plans]
    ways["random, as planted"] = [shuffled(truth, seed) for seed in range(len(plans))]
    ways["own"] = [[[name] for name in TASKS] for _ in plans]
    return ways


def told(groups: Groups) -> dict[str, Any]:
    """Describe groups, and how near they are to the planted ones."""
    return {"groups": [list(group) for group in groups], "agreement": agreement(groups), "together": together(groups)}


def compared(out: Path, arms: Mapping[str, Sequence[Path]]) -> list[dict[str, Any]]:
    """Give each arm's composite, the kin's and the lone ones' scores, and paired differences to one adapter."""
    rows = []
    held = {arm: [values_of(folder) for folder in folders] for arm, folders in arms.items()}
    for arm, seeds in held.items():
        row: dict[str, Any] = {"arm": arm, "trained": Record(arms[arm][0]).environment()["parameters"]["trained"]}
        for part, names in (("composite", TASKS), ("kin", KIN), ("lone", LONE)):
            scores = [float(np.mean([found[name] for name in names])) for found in seeds]
            base = [float(np.mean([found[name] for name in names])) for found in held["one adapter"]]
            gaps = np.subtract(scores, base).tolist()
            row[part] = {"scores": scores, "difference": [float(np.mean(gaps)), *t_interval(gaps)]}
        rows.append(row)
    return rows


def main() -> None:
    """Train what is missing, compare, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/structure"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    out = arguments.out
    seeds = range(1 if arguments.quick else arguments.seeds)
    steps = 40 if arguments.quick else STEPS
    write_backbone(out / "backbone")
    write_data(out / "data")
    first = {out / f"{seed}-one": described(out / "data", seed, None, steps) for seed in seeds}
    train_all(first, arguments.workers)
    plans = [planned(folder) for folder in first]
    small = {out / f"{seed}-small": described(out / "data", seed, None, steps, GROUP_RANK) for seed in seeds}
    arms, wanted = {"one adapter": list(first), "one adapter of a group's rank": list(small)}, dict(small)
    for way, groupings in grouped(plans).items():
        arms[way] = [out / f"{seed}-{way.replace(', ', '-').replace(' ', '_')}" for seed in seeds]
        for seed, folder, groups in zip(seeds, arms[way], groupings, strict=True):
            wanted[folder] = described(out / "data", seed, groups, steps)
    train_all(wanted, arguments.workers)
    found = {
        estimator: {count: [told(plan[estimator][count]) for plan in plans] for count in counts}
        for estimator, counts in plans[0].items()
    }
    figures = {"steps": steps, "seeds": len(seeds), "plans": found, "arms": compared(out, arms)}
    for row in figures["arms"]:
        print(row["arm"], {part: np.round(row[part]["scores"], 3).tolist() for part in ("composite", "kin", "lone")})
    for estimator, counts in found.items():
        print(
            estimator, {count: [(len(plan["groups"]), plan["together"]) for plan in counts[count]] for count in counts}
        )
    if not arguments.quick:
        print(f"wrote {write('structure', 'python benchmarks/structure.py', figures)}")


if __name__ == "__main__":
    main()
