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

import numpy as np
from measuring import write
from rich.console import Console

from taskloom import helpdesk
from taskloom.autopilot import auto
from taskloom.cli.autopilot import ledger_table, shipped_table
from taskloom.record import write_text

ROWS, FEW = 400, 60
TASKS = ("intent", "topics", "urgency", "poison")
RECIPE = Path(__file__).parent.parent / "recipes" / "auto-quick.yaml"


def write_data(folder: Path) -> None:
    """Write the help desk, with one task poisoned and one starved."""
    held = helpdesk.generate(train=2 * ROWS, validation=240, test=240)
    coins = np.random.default_rng(0)
    for name in TASKS:
        for split, whole in held["intent" if name == "poison" else name].items():
            rows = whole
            if split == "train":
                rows = whole[ROWS:] if name == "poison" else whole[: FEW if name == "urgency" else ROWS]
            if name == "poison":
                rows = [{**row, "label": ["yes", "no"][coins.integers(2)]} for row in rows]
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            write_text(folder / name / f"{split}.jsonl", text)


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
    changes = [f"data_root={data.resolve()}", *(["training.max_steps=8"] if arguments.quick else [])]
    outcome = auto(RECIPE, arguments.out, budget=arguments.budget, assignments=changes, console=console)
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
