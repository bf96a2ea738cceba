"""A planted conflict: one task's labels flipped against another's on the same texts, in one encoder.

    python benchmarks/conflict.py            # all methods, 6 paired seeds; about half an hour on 2 cores
    python benchmarks/conflict.py --seeds 1 --methods equal upgrad

Both tasks are similarity of two texts of the generated help desk, which has no head that could undo the flip; the
second task wants far what the first wants near. Each method trains both tasks with the same data, order and steps;
"alone" is the clean task by itself. Shown are the clean task's Spearman correlation on its test split, its paired
difference to plain joint training with a 95 % interval over seeds (Student's t), the exact two-sided sign-flip p, and
the mean cosine of the two tasks' gradients over the recorded steps up to step 50. The figures go to
benchmarks/results/conflict.json.
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

STEPS, ROWS, RECORDED = 60, 16, 5
METHODS = ("equal", "random", "upgrad", "mgda", "nash_mtl")


def rows_of(seed: int) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Make the clean task and its twin with flipped labels: task -> split -> rows."""
    clean = helpdesk.generate(seed=seed, train=400, validation=40, test=240)["similarity"]
    top = max(row["label"] for row in clean["train"])
    flipped = {split: [{**row, "label": top - row["label"]} for row in rows] for split, rows in clean.items()}
    return {"clean": clean, "flipped": flipped}


def trained(method: str, seed: int, folder: Path) -> dict[str, float]:
    """Train one run; gives the clean task's test score and the mean cosine of the recorded steps up to step 50."""
    rows = rows_of(seed)
    if method == "alone":
        rows = {"clean": rows["clean"]}
    config = {
        "model": {"name_or_path": BUNDLED_NAME, "adapter": {"type": "lora", "r": 16}},
        "tasks": {name: {"type": "similarity", "data": "memory", "max_length": 48} for name in rows},
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
    found = {"score": next(s.value for s in run.scores if s.task == "clean" and s.metric == "spearman")}
    records = [row["conflict"] for row in run.record.steps() if row["step"] <= 50 and row.get("conflict")]
    if records:
        found["cosine"] = float(np.mean([cosines(record["gramian"])[0, 1] for record in records]))
    return found


def sign_flip(differences: list[float]) -> float:
    """Give the exact two-sided p of the mean difference over all flips of signs."""
    held = np.array(differences)
    flips = np.array(list(itertools.product((1, -1), repeat=len(held))))
    return float(np.mean(np.abs(flips @ held) >= abs(held.sum()) - 1e-12))


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
    rows = []
    for name, held in found.items():
        scores = [each["score"] for each in held]
        differences = [one - other["score"] for one, other in zip(scores, found.get("equal", held), strict=True)]
        spread = interval(differences)
        rows.append(
            {
                "method": name,
                "scores": scores,
                "mean": float(np.mean(scores)),
                "difference": [spread.mean, spread.low, spread.high],
                "p": sign_flip(differences),
                "cosine": float(np.mean([each["cosine"] for each in held])) if "cosine" in held[0] else None,
            }
        )
        print(f"{name:14} {rows[-1]['mean']:.3f}  {spread.mean:+.3f} ({spread.low:+.3f} … {spread.high:+.3f})")
    if set(arguments.methods) == set(METHODS) and arguments.seeds >= 6:
        print(f"wrote {write('conflict', 'python benchmarks/conflict.py', {'steps': STEPS, 'methods': rows})}")


if __name__ == "__main__":
    main()
