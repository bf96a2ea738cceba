"""A task of 100 rows beside one of 10,000: what each mixture makes of both, all else alike.

    python benchmarks/unequal.py            # all mixtures, 3 paired seeds; a quarter of an hour on 2 cores
    python benchmarks/unequal.py --seeds 1 --mixtures uniform temperature

Each run trains one encoder on slots (small) and intents (large) of the generated help desk for the same optimizer
steps, with a mixture's defaults; `fixed`, which has none, and `difficulty`, whose references are the run's to give, get
the OPTIONS below. A seed is a corpus, an initialisation and an order of draws, the same for all mixtures. Shown are
both tasks' scores on their test splits, the paired difference of the small task's to that under `temperature`, each
with a 95 % interval over seeds (Student's t), and how often the small task's rows were drawn. Two runs go at a time,
with one thread each. The figures go to benchmarks/results/unequal.json. With `--runs FOLDER` the run folders are kept,
and finished ones are not trained again.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from measuring import machine, write

import taskloom
from taskloom import helpdesk
from taskloom.gradients.conflict import interval
from taskloom.mixture import MIXTURES
from taskloom.model.bundled import BUNDLED_NAME

STEPS, ROWS, SEEDS, PROCESSES = 80, 16, 3, 2
SMALL, LARGE = "slots", "intent"
SIZES = {SMALL: 100, LARGE: 10_000}
BASE = "temperature"
OPTIONS: dict[str, dict[str, Any]] = {
    "fixed": {"ratios": {SMALL: 1, LARGE: 3}},
    # A little above the validation scores that `uniform` reached in a trial, so that both tasks keep a gap.
    "difficulty": {"references": {SMALL: 0.8, LARGE: 0.95}},
}


Rows = dict[str, dict[str, list[dict[str, Any]]]]
"""Task -> split -> rows."""


def rows_of(seed: int) -> Rows:
    """Make both tasks; the large one's training rows come from several corpora."""
    first = 10 * seed
    made = helpdesk.generate(seed=first, train=helpdesk.LIMIT_ROWS, validation=60, test=240)
    large = {row["text"].lower(): row for row in made[LARGE]["train"]}
    for number in range(first + 1, first + 10):
        if len(large) < SIZES[LARGE]:
            more = helpdesk.generate(seed=number, train=helpdesk.LIMIT_ROWS, validation=1, test=1)
            large |= {row["text"].lower(): row for row in more[LARGE]["train"]}
    train = {SMALL: made[SMALL]["train"][: SIZES[SMALL]], LARGE: list(large.values())[: SIZES[LARGE]]}
    if any(len(rows) < SIZES[name] for name, rows in train.items()):
        raise ValueError(f"Ten corpora hold {len(large)} messages, fewer than {SIZES[LARGE]}.")
    return {name: {**made[name], "train": train[name]} for name in SIZES}


def trained(mixture: str, seed: int, rows: Rows, folder: Path) -> dict[str, Any]:
    """Train one run; gives both tasks' test scores, and how often the small one's rows were drawn."""
    started = time.perf_counter()
    config = {
        "model": {"name_or_path": BUNDLED_NAME, "adapter": {"type": "lora", "r": 16}},
        "tasks": {name: {"type": helpdesk.TASKS[name], "data": "memory", "max_length": 64} for name in SIZES},
        "mixture": {"strategy": mixture, **OPTIONS.get(mixture, {})},
        "training": {
            "max_steps": STEPS,
            "per_device_train_batch_size": ROWS,
            "learning_rate": 1e-3,
            "eval_strategy": "steps",
            "eval_steps": 20,
            "save_strategy": "no",
            "load_best_model_at_end": False,
            "seed": seed,
        },
        "evaluation": {"resamples": 100},
    }
    run = taskloom.train(config, folder / f"{mixture}-{seed}", rows=rows)
    scores: dict[str, float] = {}
    for score in run.scores:
        scores.setdefault(score.task, score.value)
    drawn = sum(line.get("tasks", {}).get(SMALL, {}).get("examples", 0) for line in run.record.steps())
    found = {"mixture": mixture, "seed": seed, "small": scores[SMALL], "large": scores[LARGE]}
    return found | {"epochs": drawn / SIZES[SMALL], "seconds": time.perf_counter() - started}


def summary(mixture: str, held: list[dict[str, Any]], base: list[dict[str, Any]]) -> dict[str, Any]:
    """Gather a mixture's runs over seeds, and compare them with the base's seed by seed."""
    pairs = zip(held, base, strict=True)
    spreads = {
        "small_interval": interval([each["small"] for each in held]),
        "large_interval": interval([each["large"] for each in held]),
        "difference": interval([one["small"] - other["small"] for one, other in pairs]),
    }
    found: dict[str, Any] = {"mixture": mixture, "options": OPTIONS.get(mixture, {})}
    found |= {key: [each[key] for each in held] for key in ("small", "large", "epochs")}
    return found | {key: [spread.mean, spread.low, spread.high] for key, spread in spreads.items()}


def main() -> None:
    """Train under all mixtures with all seeds, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--mixtures", nargs="*", default=MIXTURES.names())
    parser.add_argument("--runs", type=Path)
    arguments = parser.parse_args()
    print(machine())
    os.environ["OMP_NUM_THREADS"] = "1"  # read by each process that starts from here on
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in arguments.mixtures}
    spawned = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as scratch, ProcessPoolExecutor(PROCESSES, spawned) as pool:
        corpora = list(pool.map(rows_of, range(arguments.seeds)))
        folder = arguments.runs or Path(scratch)
        jobs = [(name, seed, corpora[seed], folder) for seed in range(arguments.seeds) for name in found]
        for each in pool.map(trained, *zip(*jobs, strict=True)):
            found[each["mixture"]].append(each)
            print("  ".join(f"{key} {held}" for key, held in each.items()), flush=True)
    rows = [summary(name, held, found.get(BASE, held)) for name, held in found.items()]
    for row in sorted(rows, key=lambda row: -row["difference"][0]):
        small, low, high = row["small_interval"]
        epochs, large = np.mean(row["epochs"]), row["large_interval"][0]
        print(f"{row['mixture']:22} {small:.3f} ({low:.3f} … {high:.3f})  {large:.3f}  {epochs:.2f} epochs")
    if set(arguments.mixtures) == set(MIXTURES.names()) and arguments.seeds >= SEEDS:
        figures = {"steps": STEPS, "rows": ROWS, "sizes": SIZES, "mixtures": rows}
        print(f"wrote {write('unequal', 'python benchmarks/unequal.py', figures)}")


if __name__ == "__main__":
    main()
