"""Useful tokens per second of five tasks in one run, against transformers' Trainer on the same rows.

    python benchmarks/throughput.py --quick --data FOLDER     # a minute and a half on two cores, prints
    python benchmarks/throughput.py --data FOLDER             # writes benchmarks/results/throughput.json
    python benchmarks/throughput.py --quick --generated       # the help desk, where no data sets are at hand

FOLDER holds snips, sst2, wnut17, stsb and squad_v1. Model, tasks, batch size and the rows drawn are those of
recipes/assistant.yaml without its slots. Contestants train one model by turns in one process, each in a Trainer's own
loop; only the batching differs:

- taskloom: every step holds every task, and is cut into rectangles of like length whose rows may be packed;
- taskloom, not packed: the same with `batching: {packing: false}`, a sequence a row;
- mixed: plain Trainer over all rows drawn, in random order, each batch padded to its longest row;
- grouped: the same with transformers' `train_sampling_strategy: group_by_length`;
- alone: plain Trainer on the rows of one task at a time, in random order; the five together do the mixture's work.

A useful token is one that is not padding. A ratio is the median over rounds in which both had their turn.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import statistics
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
import yaml
from measuring import interleaved, machine, write
from torch import Tensor, nn
from transformers.trainer_pt_utils import LengthGroupedSampler
from turns import Contestant, Count, heat, one_heap

from taskloom import helpdesk
from taskloom.batches.chunks import collate
from taskloom.config import load_config
from taskloom.data.cache import Items
from taskloom.errors import Fault, listed
from taskloom.preparation import prepare
from taskloom.record import Record
from taskloom.session import Session
from taskloom.training.callbacks import StepRecorder
from taskloom.training.objective import Objective
from taskloom.types import Chunk, Item

warnings.filterwarnings("ignore")
transformers.logging.set_verbosity_error()

HERE = Path(__file__).parent
RECIPE = HERE.parent / "recipes" / "assistant.yaml"
LEFT_OUT = "slots"
OURS, UNPACKED = "taskloom", "taskloom, not packed"
PACKED = {"packing": True}
SETS = ("snips", "sst2", "wnut17", "stsb", "squad_v1")
QUIET = {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False, "learning_rate": 1e-5}
"""Nothing is evaluated or saved, and the one model that all train stays where it is."""

Drawn = tuple[str, int]
"""A task's name and the place of an item."""


@dataclass(frozen=True)
class Size:
    """How much is timed: rounds in two heats, of those whose ratio is near 1 and of the others, and steps in a turn.

    Attributes:
        near: rounds of ours, ours without packing, and the grouped Trainer.
        far: rounds of ours, the mixed Trainer, and each task alone.
        ours: steps in a turn of ours.
        grouped: batches in a turn of the grouped Trainer, spread over all lengths; a multiple of 6, since one row
            of six is a question, and those are the long ones.
        others: batches in a turn of the others.
        part: what their batches are of the recipe's; smaller ones have less padding, which is in their favour.
    """

    near: int
    far: int
    ours: int
    grouped: int
    others: int = 1
    part: float = 1.0


QUICK = Size(near=2, far=1, ours=3, grouped=6, part=0.5)
FULL = Size(near=7, far=5, ours=12, grouped=12)


class Rows(torch.utils.data.Dataset[tuple[str, Item]]):
    """Rows of the mixture in the order in which a plain Trainer takes them.

    Args:
        items: task -> its items.
        order: which.
    """

    def __init__(self, items: Mapping[str, Items], order: Sequence[Drawn]) -> None:
        self.items = items
        self.order = order

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> tuple[str, Item]:
        """Give a task's name and an item."""
        name, place = self.order[index]
        return name, self.items[name][place]


class WithLoss(nn.Module):
    """The same backbone, heads and losses, as transformers' own Trainer calls a model."""

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self.objective = objective

    def forward(self, chunk: Chunk) -> dict[str, Tensor]:
        """Give the loss of one rectangle."""
        chunk = chunk.to(next(self.model.parameters()).device)
        loss, _ = self.objective(self.model(chunk), chunk)
        return {"loss": loss}


class Race:
    """One model and the rows that a run draws, and all who train it.

    Args:
        session: ours, with packing.
        folder: where the records of our steps go.
        size: how much is timed.
    """

    def __init__(self, session: Session, folder: Path, size: Size) -> None:
        self.session, self.folder, self.size = session, folder, size
        self.items = {name: splits["train"] for name, splits in session.prepared.items.items()}
        self.count = Count()
        session.model.register_forward_pre_hook(self.count.see)
        self.batch = session.arguments.per_device_train_batch_size
        plan = session.steps.plan
        drawn = [plan.micro(index).items for index in range(len(plan))]
        self.rows = [(name, item) for step in drawn for name, items in step.items() for item in items]
        np.random.default_rng(0).shuffle(self.rows)

    def ours(self, name: str, session: Session) -> Contestant:
        """Train as `taskloom train` does, with the record of its steps."""
        found = Contestant(name, self.count, self.size.ours)
        recorder = StepRecorder(Record.create(self.folder / name), lambda: trainer.step_record)
        trainer = session.trainer([recorder, found])
        found.start(trainer.train)
        return found

    def unpacked(self) -> Session:
        """Give the same run without packing, over the same model."""
        prepared = self.session.prepared
        batching = prepared.config.batching.model_copy(update={"packing": False})
        config = dataclasses.replace(prepared.config, batching=batching)
        return Session(config, dataclasses.replace(prepared, config=config), Path(), self.session.model)

    def plain(self, name: str, batches: Sequence[Sequence[Drawn]], steps: int) -> Contestant:
        """Train by transformers' own Trainer over given batches, after a first one of their shortest rows."""
        found, size = Contestant(name, self.count, steps), len(batches[0])
        rows = [row for batch in batches for row in batch]
        rows = sorted(rows, key=self.length)[:size] + rows
        arguments = copy.deepcopy(self.session.arguments)
        arguments.train_sampling_strategy = "sequential"
        arguments.per_device_train_batch_size = size
        arguments.max_steps = len(rows) // size
        tasks, padding = self.session.prepared.tasks, self.session.prepared.padding
        trainer = transformers.Trainer(
            WithLoss(self.session.model, self.session.objective()),
            arguments,
            train_dataset=Rows(self.items, rows),
            data_collator=lambda drawn: {"chunk": collate(drawn, tasks, padding)},
            callbacks=[found],
        )
        trainer.remove_callback(transformers.PrinterCallback)
        found.start(trainer.train)
        return found

    def mixed(self) -> Contestant:
        """Take all rows in random order."""
        return self.plain("mixed", self._batches(self.rows, self.size.part), self.size.others)

    def grouped(self) -> Contestant:
        """Take some of the batches that transformers' sampler makes of all rows, the same in each turn.

        It sorts 50 batches at a time. Those taken stand in the middle of equal parts of all, sorted by useful tokens.
        """
        generator = torch.Generator().manual_seed(0)
        order = LengthGroupedSampler(self.batch, lengths=list(map(self.length, self.rows)), generator=generator)
        batches = sorted(
            self._batches([self.rows[index] for index in order]), key=lambda rows: -sum(map(self.tokens, rows))
        )
        part = len(batches) / self.size.grouped
        chosen = [batches[int((number + 0.5) * part)] for number in range(self.size.grouped)]
        return self.plain("grouped", [*chosen * self.size.near, batches[-1]], self.size.grouped)

    def alone(self, name: str) -> Contestant:
        """Take one task's rows in random order."""
        batches = self._batches([row for row in self.rows if row[0] == name], self.size.part)
        again = 1 + (self.size.far * self.size.others + 1) // len(batches)
        return self.plain(name, batches * again, self.size.others)

    def length(self, row: Drawn) -> int:
        """Give the longest sequence of a row."""
        return int(self.items[row[0]].lengths[row[1]])

    def tokens(self, row: Drawn) -> int:
        """Give the useful tokens of a row."""
        return int(self.items[row[0]].tokens[row[1]])

    def _batches(self, rows: Sequence[Drawn], part: float = 1.0) -> list[Sequence[Drawn]]:
        size = int(self.batch * part)
        return [rows[start : start + size] for start in range(0, len(rows) - size + 1, size)]


def measure(session: Session, folder: Path, size: Size, *, unpacked: bool) -> dict[str, Any]:
    """Run both heats, and put speeds, ratios and padding together."""
    one_heap()
    race, tasks = Race(session, folder, size), list(session.prepared.tasks)
    ours = race.ours(OURS, session)
    near = [ours, race.grouped()]
    if unpacked:
        near.insert(1, race.ours(UNPACKED, race.unpacked()))
    far = [ours, race.mixed(), *map(race.alone, tasks)]
    speeds, seconds = heat(near, size.near)
    building = statistics.median(interleaved({"": lambda: [session.steps[i] for i in range(size.ours)]}, 5)[""])
    if size.far > 1:
        far_speeds, _ = heat(far, size.far)
    else:  # far from 1, one turn tells enough, and ours has had it
        far_speeds = heat(far[1:], 1)[0] | {OURS: [statistics.median(speeds[OURS])]}
    padding = {each.name: each.padding() for each in (*near, *far)}
    tokens = {name: sum(race.tokens(row) for row in race.rows if row[0] == name) for name in tasks}
    total = sum(tokens.values())
    # What the five alone need for the tokens of the mixture is what each needs for its own.
    far_speeds["alone"] = [
        total / sum(tokens[name] / speed for name, speed in zip(tasks, of_round, strict=True))
        for of_round in zip(*(far_speeds[name] for name in tasks), strict=True)
    ]
    padding["alone"] = 1 - total / sum(tokens[name] / (1 - padding[name]) for name in tasks)
    for each in {*near, *far}:
        each.end()
    rows = [row_of(each.name, speeds, padding) for each in near]
    rows += [row_of(name, far_speeds, padding) for name in ("mixed", "alone", *tasks)]
    step = statistics.median(seconds[OURS]) / size.ours
    return {
        "rows": race.batch,
        "share": {name: round(tokens[name] / total, 3) for name in tasks},
        "step_seconds": round(step, 4),
        "rectangles": round(sum(turn.rectangles for turn in ours.turns) / (len(ours.turns) * size.ours), 2),
        "building": round(building / size.ours / step, 4),
        "contestants": rows,
    }


def row_of(name: str, speeds: Mapping[str, Sequence[float]], padding: Mapping[str, float]) -> dict[str, Any]:
    """Give a contestant's figures."""
    ratios = [ours / its for ours, its in zip(speeds[OURS], speeds[name], strict=True)]
    low, high = np.quantile(ratios, [0.25, 0.75]).tolist()
    return {
        "name": name,
        "tokens_per_second": round(statistics.median(speeds[name])),
        "ratio": round(statistics.median(ratios), 3),
        "quartiles": [round(low, 3), round(high, 3)],
        "padding": round(padding[name], 4),
    }


def show(found: Mapping[str, Any]) -> None:
    """Print what was found."""
    print(f"a step of ours: {found['rows']} rows in {found['rectangles']} rectangles, {found['step_seconds']:.2f} s")
    print(f"the loader's side of it (reading rows, cutting, packing, padding) takes {found['building']:.2%} as long")
    print(f"\n{'':22}{'useful tokens/s':>16}{'ours / it':>12}{'padding':>10}{'of tokens':>11}")
    for row in found["contestants"]:
        share = found["share"].get(row["name"])
        name = row["name"] if share is None else f"  {row['name']} alone"
        tail = "" if share is None else f"{share:11.1%}"
        print(f"{name:22}{row['tokens_per_second']:16,}{row['ratio']:12.2f}{row['padding']:10.1%}{tail}")


def verdict(found: Mapping[str, Any]) -> None:
    """Print the figures that the quick run is there for."""
    rows = {row["name"]: row for row in found["contestants"]}
    print(f"\nours / mixed: {rows['mixed']['ratio']:.2f} (at least 2)")
    print(f"ours / grouped: {rows['grouped']['ratio']:.2f} (at least 0.97)")
    print(f"ours / one task alone: {rows['alone']['ratio']:.2f} (at least 0.97)")
    print(f"padding of ours: {rows['taskloom']['padding']:.1%} (less than 8 %)")
    print(f"the loader's side of a step: {found['building']:.2%} (less than 1 %)")


def real(data: str) -> Session:
    """Prepare the recipe's tasks; ends with one sentence where the data sets are absent."""
    absent = [name for name in SETS if not (Path(data) / name).is_dir()]
    if absent:
        fix = "Name the folder that holds them, or try the generated help desk with `--generated`"
        sys.exit(str(Fault(f"--data {data}", f"hold {listed(SETS)}", f"no {listed(absent)}", fix)))
    values = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    del values["tasks"][LEFT_OUT], values["mixture"]["ratios"][LEFT_OUT]
    config = load_config({**values, "data_root": data, "training": values["training"] | QUIET, "batching": PACKED})
    return Session(config, prepare(config, splits=["train"]), Path())


def generated() -> Session:
    """Prepare five tasks of the help desk."""
    values = yaml.safe_load(
        resources.files("taskloom.helpdesk").joinpath("quickstart.yaml").read_text(encoding="utf-8")
    )
    tasks = {
        name: values["tasks"][name] | {"data": "memory"}
        for name in ("intent", "slots", "urgency", "similarity", "answer")
    }
    training = {"max_steps": 150, "per_device_train_batch_size": 48, "seed": 0, **QUIET}
    config = load_config({"model": values["model"], "tasks": tasks, "training": training, "batching": PACKED})
    corpus = helpdesk.generate(0, train=2000)
    rows = {name: corpus[name] for name in tasks}
    return Session(config, prepare(config, rows=rows), Path())


def main() -> None:
    """Measure, print, and write the figures of the full run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few rounds, and nothing is written")
    parser.add_argument("--data", default="data", help="folder of the data sets (default: data)")
    parser.add_argument(
        "--generated", action="store_true", help="the help desk in place of the data sets; nothing is written"
    )
    arguments = parser.parse_args()
    session = generated() if arguments.generated else real(arguments.data)
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        found = measure(session, Path(folder), QUICK if arguments.quick else FULL, unpacked=not arguments.quick)
    show(found)
    if not arguments.generated:
        verdict(found)
    if not arguments.quick and not arguments.generated:
        print(f"\nwrote {write('throughput', 'python benchmarks/throughput.py --data FOLDER', found)}")


if __name__ == "__main__":
    main()
