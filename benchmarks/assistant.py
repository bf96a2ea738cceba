"""Six real tasks in one encoder: train recipes/assistant.yaml and write its test scores.

    python benchmarks/assistant.py --data FOLDER [--out runs/assistant]

FOLDER holds snips, sst2, wnut17, stsb and squad_v1. Figures go to benchmarks/results/assistant.json, with the machine
and the date; `python benchmarks/tables.py` puts them into the README.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import time
from pathlib import Path

from rich.console import Console

import taskloom
from taskloom.environment import environment

HERE = Path(__file__).parent


def processor() -> str:
    """Name the processor, as Linux tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    """Train, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", default="runs/assistant")
    arguments = parser.parse_args()
    started = time.perf_counter()
    recipe = HERE.parent / "recipes" / "assistant.yaml"
    run = taskloom.train(recipe, arguments.out, assignments=[f"data_root={arguments.data}"], console=Console())
    found = environment()
    result = {
        "command": "python benchmarks/assistant.py --data FOLDER",
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "machine": {"processor": processor(), "cores": found["cores"], "device": found["device"]},
        "versions": {key: found[key] for key in ("python", "torch", "transformers", "peft")},
        "minutes": round((time.perf_counter() - started) / 60, 1),
        "scores": [score.as_row() for score in run.scores],
    }
    path = HERE / "results" / "assistant.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
