"""A planted conflict: one task's labels flipped against another's on the same texts, in one encoder.

    python benchmarks/conflict.py            # all methods, 6 paired seeds; about half an hour on 2 cores
    python benchmarks/conflict.py --seeds 1 --methods equal mgda

Both tasks pick the one of two messages to a help desk that is about the goods; the second task's labels are flipped,
and its loss is twice as steep, so that plain joint training follows the wrong one. Neither has a head of its own that
could undo the flip (anchored.py). Each method trains both tasks with the same data, order and steps; "alone" is the
clean task by itself. Shown are the clean task's accuracy on its test split, its paired difference to plain joint
training with a 95 % interval over seeds (Student's t), the exact two-sided sign-flip p, and the mean cosine of the two
tasks' gradients over the recorded steps up to step 50. The figures go to benchmarks/results/conflict.json.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from measuring import machine, write

import taskloom
from taskloom import helpdesk
from taskloom.gradients.conflict import cosines, interval
from taskloom.model.bundled import BUNDLED_NAME

STEPS, ROWS, RECORDED = 50, 16, 5
METHODS = ("equal", "random", "upgrad", "mgda", "nash_mtl")
GOODS = {"track_parcel", "damaged_parcel", "device_fault", "setup_help", "return_item", "change_order"}
SHARPNESS = {"clean": 10.0, "flipped": 20.0}


def rows_of(seed: int) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Make the clean task and its twin with flipped labels: task -> split -> rows."""
    generator = np.random.default_rng(seed)
    clean = {}
    for split, rows in helpdesk.generate(seed=seed, train=600, validation=60, test=480)["intent"].items():
        goods = [row["text"] for row in rows if row["label"] in GOODS]
        others = [row["text"] for row in rows if row["label"] not in GOODS]
        labels = generator.integers(2, size=min(len(goods), len(others))).tolist()
        clean[split] = [
            {"question": "Which is about the goods?", "choices": [two, one] if label else [one, two], "label": label}
            for one, two, label in zip(goods, others, labels, strict=False)
        ]
    flipped = {split: [{**row, "label": 1 - row["label"]} for row in rows] for split, rows in clean.items()}
    return {"clean": clean, "flipped": flipped}


def trained(method: str, seed: int, folder: Path) -> dict[str, float]:
    """Train one run; gives the clean task's test accuracy and the mean cosine of the recorded steps up to step 50."""
    rows = rows_of(seed)
    if method == "alone":
        rows = {"clean": rows["clean"]}
    tasks = {
        name: {"type": "anchored:Anchored", "data": "memory", "max_length": 40, "sharpness": SHARPNESS[name]}
        for name in rows
    }
    config = {
        "model": {"name_or_path": BUNDLED_NAME, "adapter": {"type": "lora", "r": 16}},
        "tasks": tasks,
        "mixture": "uniform",
        "balance": {
            "method": "equal" if method == "alone" else method,
            "record_steps": RECORDED if len(rows) > 1 else 0,
            "check_gradients": False,
        },
        "training": {
            "max_steps": STEPS,
            "per_device_train_batch_size": ROWS if len(rows) > 1 else ROWS // 2,
            "learning_rate": 1e-3,
            "eval_strategy": "no",
            "seed": seed,
        },
        "evaluation": {"resamples": 100},
    }
    run = taskloom.train(config, folder / f"{method}-{seed}", rows=rows)
    found = {"score": next(s.value for s in run.scores if s.task == "clean" and s.metric == "accuracy")}
    records = [row["conflict"] for row in run.record.steps() if row["step"] <= 50 and row.get("conflict")]
    if records:
        found["cosine"] = float(np.mean([cosines(record["gramian"])[0, 1] for record in records]))
    return found


def sign_flip(differences: list[float]) -> float:
    """Give the exact two-sided p of the mean difference over all flips of signs."""
    held = np.array(differences)
    flips = np.array(list(itertools.product((1, -1), repeat=len(held))))
    return float(np.mean(np.abs(flips @ held) >= abs(held.sum()) - 1e-12))


def summary(name: str, held: list[dict[str, float]], plain: list[dict[str, float]]) -> dict[str, Any]:
    """Compare a method's runs with plain joint training's, seed by seed."""
    scores = [each["score"] for each in held]
    differences = [one - other["score"] for one, other in zip(scores, plain, strict=True)]
    spread = interval(differences)
    found = {
        "method": name,
        "scores": scores,
        "mean": float(np.mean(scores)),
        "difference": [spread.mean, spread.low, spread.high],
        "p": sign_flip(differences),
    }
    if "cosine" in held[0]:
        near = interval([each["cosine"] for each in held])
        found |= {"cosine": near.mean, "cosine_interval": [near.low, near.high]}
    return found


def main() -> None:
    """Train all methods on all seeds, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
    arguments = parser.parse_args()
    print(machine())
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ["alone", *arguments.methods]}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(arguments.seeds):
            for name, held in found.items():
                held.append(trained(name, seed, Path(folder)))
                print(f"seed {seed} {name:14} {held[-1]}", flush=True)
    rows = [summary(name, held, found.get("equal", held)) for name, held in found.items()]
    for row in rows:
        mean, low, high = row["difference"]
        cosine = f"  cosine {row['cosine']:+.3f}" if "cosine" in row else ""
        print(f"{row['method']:14} {row['mean']:.3f}  {mean:+.3f} ({low:+.3f} … {high:+.3f}){cosine}")
    if set(arguments.methods) == set(METHODS) and arguments.seeds >= 6:
        print(f"wrote {write('conflict', 'python benchmarks/conflict.py', {'steps': STEPS, 'methods': rows})}")


if __name__ == "__main__":
    main()
