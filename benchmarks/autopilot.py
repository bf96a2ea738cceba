"""The autopilot on four tasks of the help desk, one poisoned and one starved.

    python benchmarks/autopilot.py [--out runs/autopilot] [--budget 6] [--quick]

`intent` and `topics` have 400 rows, `urgency` has 60, and `poison` has the texts of 400 intents with labels drawn at
random. Figures go to benchmarks/results/autopilot.json, and `python benchmarks/tables.py` puts them into
docs/autopilot.md. With `--quick` everything runs for a few steps, and no figures are written.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from measuring import write
from rich.console import Console

from taskloom import helpdesk
from taskloom.autopilot import auto
from taskloom.cli.autopilot import ledger_table, shipped_table
from taskloom.record import write_text

ROWS, FEW, STEPS = 400, 60, 160
KINDS = {
    "intent": "classification",
    "topics": "multi_label",
    "urgency": "regression",
    "poison": "classification",
}


def write_data(folder: Path) -> None:
    """Write the help desk, with one task poisoned and one starved."""
    held = helpdesk.generate(train=2 * ROWS, validation=240, test=240)
    coins = np.random.default_rng(0)
    for name in KINDS:
        for split, whole in held["intent" if name == "poison" else name].items():
            rows = whole
            if split == "train":
                rows = whole[ROWS:] if name == "poison" else whole[: FEW if name == "urgency" else ROWS]
            if name == "poison":
                rows = [{**row, "label": ["yes", "no"][coins.integers(2)]} for row in rows]
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            write_text(folder / name / f"{split}.jsonl", text)


def described(data: Path, steps: int) -> dict[str, Any]:
    """Describe the run of all four."""
    return {
        "model": {
            "name_or_path": "sentence-transformers/all-MiniLM-L6-v2",
            "adapter": {"type": "lora", "r": 16, "lora_alpha": 32, "target_modules": "all-linear"},
        },
        "data_root": str(data.resolve()),
        "tasks": {name: {"type": kind, "data": name} for name, kind in KINDS.items()},
        "mixture": {"strategy": "proportional"},
        "training": {
            "max_steps": steps,
            "per_device_train_batch_size": 24,
            "learning_rate": 1e-3,
            "eval_steps": 0.25,
            "load_best_model_at_end": False,
            "save_strategy": "no",
            "seed": 0,
        },
    }


def main() -> None:
    """Plant, run, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/autopilot"))
    parser.add_argument("--budget", type=float, default=6.0)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    data, console = arguments.out.with_name(f"{arguments.out.name}-data"), Console()
    write_data(data)
    started = time.perf_counter()
    run = described(data, 8 if arguments.quick else STEPS)
    outcome = auto(run, arguments.out, budget=arguments.budget, console=console)
    minutes = (time.perf_counter() - started) / 60
    console.print(ledger_table(outcome))
    console.print(shipped_table(outcome))
    console.print(f"{minutes:.1f} minutes")
    if not arguments.quick:
        keys = ("units", "spent", "seeds", "causes", "ledger", "decision", "shipped", "test", "story")
        figures = {"minutes": round(minutes, 1), **{key: outcome[key] for key in keys}}
        console.print(f"wrote {write('autopilot', 'python benchmarks/autopilot.py', figures)}")


if __name__ == "__main__":
    main()
