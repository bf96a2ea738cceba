"""Run folders as training leaves them, made without training."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any

import pytest

from taskloom.record import Record, write_json, write_text
from taskloom.types import Score

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TASKS = {"intent": "accuracy", "slots": "span_f1", "sentiment": "accuracy", "similarity": "spearman"}

RUN_YAML = """model:
  name_or_path: sentence-transformers/all-MiniLM-L6-v2
  adapter: {type: lora, r: 16, lora_alpha: 32, target_modules: all-linear}
tasks:
  intent: {type: classification, data: data/snips, columns: {text: text, label: intent}}
  slots: {type: token_classification, data: data/snips}
  sentiment: {type: classification, data: data/sst2, weight: 0.5}
  similarity: {type: regression, data: data/stsb}
training: {max_steps: 300, learning_rate: 5e-4, seed: 0}
"""


def write_steps(record: Record, chance: random.Random, last: int) -> None:
    for step in range(1, last + 1):
        tasks: dict[str, Any] = {}
        for place, name in enumerate(TASKS):
            loss = (2.0 - 0.3 * place) * math.exp(-step / (40 + 30 * place)) + 0.1 + chance.gauss(0, 0.08)
            tasks[name] = {"loss": None if chance.random() < 0.1 else loss, "weight": 1, "examples": 8, "tokens": 140}
        row = {"step": step, "loss": 1.0, "learning_rate": 5e-4, "grad_norm": 1.0, "seconds": 0.2, "tasks": tasks}
        record.append_step({**row, "tokens_per_second": 2800 + chance.gauss(0, 90)})
        if step % 30 == 0:
            values = {
                name: {metric: 0.9 - 0.6 * math.exp(-step / 60) + chance.gauss(0, 0.01)}
                for name, metric in TASKS.items()
            }
            evaluation = {"split": "validation", "composite": 0.88 - 0.5 * math.exp(-step / 60), "tasks": values}
            record.append_step({"step": step, "evaluation": evaluation})


def scores(shift: float) -> list[Score]:
    rows = [
        ("intent", "accuracy", 0.952, 0.014, 700, 0.151),
        ("intent", "macro_f1", 0.949, 0.015, 700, 0.037),
        ("slots", "span_f1", 0.871, 0.021, 700, 0.0),
        ("sentiment", "accuracy", 0.548, 0.031, 872, 0.509 + 0.02),
        ("sentiment", "log_loss_of_a_friend", 1.73, 0.2, 872, 2.1),
        ("similarity", "spearman", 0.812, 0.019, 1379, None),
    ]
    made = [
        Score(task, "test", metric, value + shift, value + shift - half, value + shift + half, n, baseline)
        for task, metric, value, half, n, baseline in rows
    ]
    made.append(Score("similarity", "test", "pearson", math.nan, math.nan, math.nan, 1379))
    made.append(Score("sentiment", "test", "accuracy", 0.5, 0.31, 0.69, 26, 0.5, group="length above 40"))
    made.append(Score("intent", "validation", "accuracy", 0.96, 0.94, 0.98, 700, 0.15))
    made.append(Score("composite", "test", "composite", 0.796 + shift, 0.781 + shift, 0.811 + shift, 3651, 0.297))
    return made


def write_predictions(record: Record) -> None:
    labels = ["AddToPlaylist", "BookRestaurant", "GetWeather", "PlayMusic", "RateBook"]
    record.write_predictions(
        "intent",
        "test",
        [
            {
                "row": row,
                "place": f"data/snips/test.jsonl:{row + 1}",
                "input": {"text": f"add the tune number {row} to my morning playlist <script>alert({row})</script>"},
                "prediction": labels[1 + row % 4] if row % 3 else "AddToPlaylist",
                "reference": "AddToPlaylist",
                "right": row % 3 == 0,
                "detail": {"probability": 0.91},
            }
            for row in range(40)
        ],
    )
    words = ["play", "the", "newest", "record", "by", "Nina", "Simone"]
    tags = ["O", "O", "B-sort", "B-type", "O", "B-artist", "I-artist"]
    said = ["O", "O", "B-sort", "O", "O", "B-artist", "I-artist"]
    slots = {"place": "", "input": {"tokens": words}, "reference": tags, "detail": {}}
    record.write_predictions(
        "slots",
        "test",
        [
            {"row": 0, **slots, "prediction": said, "right": False},
            {"row": 1, **slots, "prediction": tags, "right": True},
        ],
    )
    pair = {"text": "A man plays a guitar.", "text_pair": "Somebody is making music. " * 40}
    row = {"row": 3, "place": "stsb.csv:4", "input": pair, "prediction": 3.412, "reference": 3.8, "right": None}
    record.write_predictions("similarity", "test", [{**row, "detail": {}}])


def write_origin(record: Record) -> None:
    write_text(record.run_yaml, RUN_YAML)
    write_json(record.environment_json, {"taskloom": "0.1.0", "torch": "2.9.0", "device": "NVIDIA H200", "gpus": 1})
    splits = {
        "train": {"read": 13084, "kept": 13071, "skipped": {"empty text": 9, "label not a string": 4}},
        "validation": {"read": 700, "kept": 700, "skipped": {}},
        "test": {"read": 700, "kept": 700, "skipped": {}},
    }
    facts: dict[str, Any] = {
        name: {"type": "classification", "splits": splits, "made": [], "leaks": {}} for name in TASKS
    }
    facts["sentiment"]["made"] = ["validation: 5 % of train, by text"]
    facts["slots"]["made"] = [{"split": "test", "rows": 654}]
    facts["sentiment"]["leaks"] = {"train": {"test": 12, "validation": 0}}
    write_json(record.data_json, {"version": 1, "tasks": facts})


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Make a finished run's folder: by name, better or worse by `shift`, of so many steps."""

    def make(name: str = "joint", shift: float = 0.0, last: int = 90) -> Path:
        record = Record.create(tmp_path / "runs" / name)
        write_origin(record)
        write_steps(record, random.Random(name), last)
        write_predictions(record)
        record.write_scores(scores(shift))
        record.write_state("finished", last)
        return record.folder

    return make


@pytest.fixture
def make_large_run(tmp_path: Path) -> Path:
    """A run of twenty tasks with as many labels, steps and predictions as large runs have."""
    record = Record.create(tmp_path / "large")
    chance = random.Random(0)
    names = [f"task_{number:02}" for number in range(20)]
    for step in range(1, 601):
        tasks = {
            name: {"loss": math.exp(-step / 200) + chance.gauss(0, 0.05), "weight": 1.0, "examples": 4, "tokens": 90}
            for name in names
        }
        record.append_step({"step": step, "loss": 1.0, "learning_rate": 5e-4, "seconds": 0.2, "tasks": tasks})
        if step % 60 == 0:
            values = {name: {"accuracy": 1 - math.exp(-step / 150)} for name in names}
            record.append_step({"step": step, "evaluation": {"split": "validation", "composite": 0.5, "tasks": values}})
    labels = [f"label {number}" for number in range(40)]
    for name in names:
        lines = []
        for row in range(1000):
            right, said = chance.choice(labels), chance.choice(labels)
            odds = [chance.random() for _ in labels]
            odds_of = {label: each / sum(odds) for label, each in zip(labels, odds, strict=True)}
            text = " ".join(chance.choice(["one", "two", "three", "four"]) for _ in range(30))
            line = {"row": row, "place": f"{name}.jsonl:{row}", "input": {"text": text}, "prediction": said}
            lines.append(line | {"reference": right, "right": said == right, "detail": {"probabilities": odds_of}})
        record.write_predictions(name, "test", lines)
    record.write_scores([Score(name, "test", "accuracy", 0.7, 0.65, 0.75, 1000, 0.1) for name in names])
    kinds: dict[str, Any] = {name: {"type": "classification", "splits": {}, "made": [], "leaks": {}} for name in names}
    write_json(record.data_json, {"version": 1, "tasks": kinds})
    record.write_state("finished", 600)
    return record.folder
