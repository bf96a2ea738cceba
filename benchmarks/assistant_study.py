"""Is one model for the six tasks of recipes/assistant.yaml better than six models? Eight paired seeds.

    python benchmarks/assistant_study.py --data FOLDER [--out runs/assistant-study] [--steps 120] [--quick]

Runs recipes/assistant-study.yaml: every run of the study has a quarter of the recipe's steps, and the single-task runs
draw as many rows of their task as the joint one. Runs that are finished are not trained again. Figures go to
benchmarks/results/assistant_study.json, and `python benchmarks/tables.py` puts them into README.md. With `--quick`
everything runs for a few steps of two seeds, and no figures are written.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from measuring import write
from rich.console import Console

from taskloom.cli.study import arm_table, score_table, verdict_lines
from taskloom.study import run_study

RECIPE = Path(__file__).parent.parent / "recipes" / "assistant-study.yaml"


def main() -> None:
    """Run the study, and write what it shows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/assistant-study"))
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    steps = 4 if arguments.quick else arguments.steps
    changes = [f"run.data_root={arguments.data}", f"run.training.max_steps={steps}"]
    changes += ["seeds=2"] if arguments.quick else []
    console = Console(width=140)
    outcome = run_study(RECIPE, arguments.out, assignments=changes, console=console)
    console.print(score_table(outcome), arm_table(outcome))
    if not arguments.quick:
        keys = ("seeds", "tasks", "margin", "level", "reference", "arms", "comparisons")
        figures = {"steps": steps, **{key: outcome[key] for key in keys}}
        print(f"wrote {write('assistant_study', 'python benchmarks/assistant_study.py --data FOLDER', figures)}")
    for line in verdict_lines(outcome):
        console.print(line, markup=False)


if __name__ == "__main__":
    main()
