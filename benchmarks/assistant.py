"""Six real tasks in one encoder: train recipes/assistant.yaml and write its test scores.

    python benchmarks/assistant.py --data FOLDER [--out runs/assistant]

FOLDER holds snips, sst2, wnut17, stsb and squad_v1. Figures go to benchmarks/results/assistant.json, with the machine
and the date; `python benchmarks/tables.py` puts them into the README.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from measuring import write
from rich.console import Console

import taskloom

HERE = Path(__file__).parent


def main() -> None:
    """Train, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", default="runs/assistant")
    arguments = parser.parse_args()
    started = time.perf_counter()
    recipe = HERE.parent / "recipes" / "assistant.yaml"
    run = taskloom.train(recipe, arguments.out, assignments=[f"data_root={arguments.data}"], console=Console())
    figures = {
        "minutes": round((time.perf_counter() - started) / 60, 1),
        "scores": [score.as_row() for score in run.scores],
    }
    path = write("assistant", "python benchmarks/assistant.py --data FOLDER", figures)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
