"""A planted useless task: one with random labels beside two real ones, with and without a policy that rests it.

    python benchmarks/useless.py            # 3 arms, 4 paired seeds; about ten minutes on 2 cores

All arms train one encoder on the generated help desk for the same optimizer steps: "without" has the two real tasks
alone, "with" has the useless one beside them, and "policy" rests what does not improve (`rest_converged`). Shown are
the real tasks' scores on their test splits, and the paired difference of the policy's to each other arm with a 95 %
interval over seeds (Student's t). Two runs go at a time, with one thread each. The figures go to
benchmarks/results/useless.json. With `--runs FOLDER` the run folders are kept, and finished ones are not trained again.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from measuring import machine, write

import taskloom
from taskloom import helpdesk
from taskloom.gradients.conflict import interval
from taskloom.model.bundled import BUNDLED_NAME

STEPS, ROWS, PROCESSES = 80, 12, 2
REAL = {"intent": "classification", "urgency": "regression"}
ARMS = ("without", "with", "policy")


def rows_of(seed: int) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Make the two real tasks, and messages with labels drawn at random: task -> split -> rows."""
    made = helpdesk.generate(seed=seed, train=400, validation=80, test=240)
    labels = [f"label_{number}" for number in range(6)]
    generator = np.random.default_rng(seed)
    useless = {
        split: [{"text": row["text"], "label": labels[generator.integers(6)]} for row in rows]
        for split, rows in made["intent"].items()
    }
    return {name: made[name] for name in REAL} | {"useless": useless}


def trained(arm: str, seed: int, folder: Path) -> dict[str, Any]:
    """Train one run; gives the real tasks' scores, and what was decided about which task."""
    rows = rows_of(seed)
    if arm == "without":
        del rows["useless"]
    kinds = {**REAL, "useless": "classification"}
    config = {
        "model": {"name_or_path": BUNDLED_NAME, "adapter": {"type": "lora", "r": 16}},
        "tasks": {name: {"type": kinds[name], "data": "memory", "max_length": 48} for name in rows},
        "mixture": "uniform",
        "policies": [{"name": "rest_converged", "patience": 3}] if arm == "policy" else [],
        "training": {
            "max_steps": STEPS,
            "per_device_train_batch_size": ROWS,
            "learning_rate": 1e-3,
            "eval_strategy": "steps",
            "eval_steps": 5,
            "save_strategy": "no",
            "load_best_model_at_end": False,
            "seed": seed,
        },
        "evaluation": {"resamples": 100},
    }
    run = taskloom.train(config, folder / f"{arm}-{seed}", rows=rows)
    scores: dict[str, float] = {}
    for score in run.scores:
        if score.task in REAL:
            scores.setdefault(score.task, score.value)
    drawn = dict.fromkeys(rows, 0)
    for line in run.record.steps():
        for name, task in line.get("tasks", {}).items():
            drawn[name] += task.get("examples", 0)
    return {"scores": scores, "decisions": run.record.decisions(), "drawn": drawn}


def main() -> None:
    """Train all arms on all seeds, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--runs", type=Path)
    arguments = parser.parse_args()
    print(machine())
    os.environ["OMP_NUM_THREADS"] = "1"  # read by each process that starts from here on
    found: dict[str, list[dict[str, Any]]] = {arm: [] for arm in ARMS}
    spawned = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as scratch, ProcessPoolExecutor(PROCESSES, spawned) as pool:
        jobs = [(arm, seed, arguments.runs or Path(scratch)) for seed in range(arguments.seeds) for arm in ARMS]
        for (arm, seed, _), held in zip(jobs, pool.map(trained, *zip(*jobs, strict=True)), strict=True):
            found[arm].append(held)
            print(f"seed {seed} {arm:8} {held['scores']} {held['drawn']}", flush=True)
            for row in held["decisions"]:
                print(f"    step {row['step']}: {row['task']} x {row['factor']:g}: {row['reason']}")
    differences = {}
    for task in REAL:
        values = {arm: [each["scores"][task] for each in held] for arm, held in found.items()}
        for arm in ("without", "with"):
            pairs = zip(values["policy"], values[arm], strict=True)
            spread = interval([one - other for one, other in pairs])
            differences[f"{task}, policy - {arm}"] = [spread.mean, spread.low, spread.high]
            print(f"{task}: policy - {arm}: {spread.mean:+.3f} ({spread.low:+.3f} … {spread.high:+.3f})")
    if arguments.seeds >= 4:
        figures = {"steps": STEPS, "arms": found, "differences": differences}
        print(f"wrote {write('useless', 'python benchmarks/useless.py', figures)}")


if __name__ == "__main__":
    main()
