"""Three case studies: train a recipe on all its tasks at once, then each task alone, and compare.

    python benchmarks/recipes.py bert|t5|chat --data FOLDER [--out runs/recipe-NAME] [--quick]

FOLDER holds the recipe's data sets (see recipes/NAME.yaml). Where the recipe names a backbone of `recipes/pretrain.py`
that is not there yet, it is made first. A task alone is trained for the same steps at the same learning rate and draws
as many of its rows in each step, so that it sees them as often. Scores are those of whole test splits with bootstrap
intervals, and differences are paired example by example. OUT/report.html shows the runs side by side; the figures go to
benchmarks/results/recipe-NAME.json, and `python benchmarks/tables.py` puts them into docs/recipes.md. With `--quick`
everything runs for a few steps on a few rows, and no figures are written.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from measuring import write
from rich.console import Console
from rich.table import Table

import taskloom
from taskloom.bootstrap import interval, percentiles
from taskloom.config.document import parse_document
from taskloom.evaluation import build_metric
from taskloom.record import read_lines, write_text

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "recipes"))

from pretrain import MINUTES, FamilyName, clock, minutes, note_minutes, pretrain  # noqa: E402 - lies beside the recipes that it is for

FAMILIES: dict[str, FamilyName | None] = {"bert": None, "t5": "t5", "chat": "llama"}
"""Recipe -> the family of the backbone that is made for it; None where there is a real one."""

TURNS = 3
"""How many of a conversation's turns are judged."""

QUICK = {"max_steps": 4, "eval_strategy": "no", "load_best_model_at_end": False}

CONSOLE = Console()


def recipe(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Read a recipe, with its data and its backbone."""
    path = ROOT / "recipes" / f"{name}.yaml"
    values: dict[str, Any] = parse_document(path.read_text(encoding="utf-8"), path.name).values
    values["data_root"] = str(arguments.data.resolve())
    family, out = FAMILIES[name], arguments.out
    if family:
        place = out / "pretrained" if arguments.quick else Path(values["model"]["name_or_path"]).parent
        made = pretrain(family, arguments.data, place, steps=4 if arguments.quick else None, console=CONSOLE)
        values["model"]["name_or_path"] = str(made)
    if name == "chat":
        values["tasks"]["response"]["data"] = str(cut_conversations(arguments.data / "sgd", out / "data").resolve())
    if arguments.quick:
        values["training"] |= QUICK
        for task in values["tasks"].values():
            task["limit_rows"] = 40
    return values


def cut_conversations(source: Path, folder: Path) -> Path:
    """Write conversations to be learned whole, and to be judged at turns from their midst.

    Of each validation and test conversation `TURNS` of the assistant's turns are taken, evenly spread and the goodbye
    left out, each with all that was said before it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "validation", "test"):
        rows = [json.loads(line) for line in (source / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]
        cut = []
        for messages in (row["messages"] for row in rows):
            ends = [place for place, turn in enumerate(messages) if turn["role"] == "assistant"][:-1]
            taken = sorted({ends[len(ends) * (2 * part + 1) // (2 * TURNS)] for part in range(TURNS)})
            kept = [len(messages) - 1] if split == "train" else taken
            cut += [{"messages": messages[: end + 1]} for end in kept]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in cut)
        write_text(folder / f"{split}.jsonl", text)
    return folder


def alone(values: Mapping[str, Any], task: str) -> dict[str, Any]:
    """Describe the run of one task by itself, with the rows in each step that the joint run draws of it."""
    rows = values["mixture"]["ratios"][task]
    single = {key: value for key, value in values.items() if key != "mixture"}
    single["tasks"] = {task: values["tasks"][task]}
    single["training"] = {**values["training"], "per_device_train_batch_size": rows}
    return single


def trained(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Train one run, unless it is finished; gives its scores, time, size and how many rows of each task it drew."""
    CONSOLE.rule(folder.name)
    started = clock()
    run = taskloom.train(values, folder, console=CONSOLE)
    if not (folder / MINUTES).is_file():
        note_minutes(folder, started)
    drawn = dict.fromkeys(values["tasks"], 0)
    for line in run.record.steps():
        for name, task in line.get("tasks", {}).items():
            drawn[name] += task.get("examples", 0)
    counts = run.loaded()[0].trained_parameters()
    return {
        **minutes(folder),
        "scores": [score.as_row() for score in run.scores],
        "drawn": drawn,
        "parameters": {"backbone": counts.pop("backbone"), "trained": sum(counts.values())},
    }


def differences(joint: Path, single: Path, task: str, metrics: list[str]) -> dict[str, list[float]]:
    """Give how much better the joint run is than the task alone, by each metric: value, low, high."""
    found = {}
    lines = [list(read_lines(folder / "predictions" / "test" / f"{task}.jsonl")) for folder in (joint, single)]
    for name in metrics:
        metric = build_metric(name)
        one, other = (
            interval(metric, [line["prediction"] for line in held], [line["reference"] for line in held])
            for held in lines
        )
        low, high = percentiles(one.samples - other.samples, 0.95)
        found[name] = [one.value - other.value, low, high]
    return found


def table(figures: Mapping[str, Any]) -> Table:
    """Lay the joint run beside the tasks alone."""
    shown = Table("task", "metric", "joint", "alone", "difference", "constant answer", "n")
    for task, single in figures["single"].items():
        alone_by = {row["metric"]: row for row in single["scores"]}
        for row in figures["joint"]["scores"]:
            if row["task"] == task:
                cells = [f"{each['value']:.3f} ({each['low']:.3f} … {each['high']:.3f})" for each in
                         (row, alone_by[row["metric"]])]  # fmt: skip
                gap = "{:+.3f} ({:+.3f} … {:+.3f})".format(*single["differences"][row["metric"]])
                baseline = "" if row["baseline"] is None else f"{row['baseline']:.3f}"
                shown.add_row(task, row["metric"], *cells, gap, baseline, str(row["n"]))
    return shown


def main() -> None:
    """Train all runs of a recipe, compare, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", choices=list(FAMILIES))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    name = arguments.recipe
    arguments.out = out = arguments.out or ROOT / "runs" / (f"quick-{name}" if arguments.quick else f"recipe-{name}")
    values = recipe(name, arguments)
    joint = trained(values, out / "joint")
    metrics: dict[str, list[str]] = {}
    for row in joint["scores"]:
        metrics.setdefault(row["task"], []).append(row["metric"])
    single = {}
    for task in values["tasks"]:
        single[task] = trained(alone(values, task), out / task)
        single[task]["differences"] = differences(out / "joint", out / task, task, metrics[task])
    page = taskloom.report([out / "joint", *(out / task for task in single)], out / "report.html")
    figures = {"recipe": name, "steps": values["training"]["max_steps"], "joint": joint, "single": single}
    figures["pretraining"] = made_of(values["model"]["name_or_path"]) if FAMILIES[name] else None
    CONSOLE.print(table(figures), width=130, crop=False)
    CONSOLE.print(f"Report: {page}")
    if not arguments.quick:
        command = f"python benchmarks/recipes.py {name} --data FOLDER"
        CONSOLE.print(f"wrote {write(f'recipe-{name}', command, figures)}")


def made_of(model: str) -> dict[str, Any]:
    """Say what the backbone was made of: its tokens, and how well it foretells the texts of each data set."""
    run = taskloom.Run(Path(model).parent / "run")
    tokens = sum(task.get("tokens", 0) for line in run.record.steps() for task in line.get("tasks", {}).values())
    perplexity = {score.task: score.value for score in run.scores if score.metric == "perplexity"}
    return {**minutes(Path(model).parent), "steps": run.record.state.step, "tokens": tokens, "perplexity": perplexity}


if __name__ == "__main__":
    main()
