"""What tests of fairness share: a corpus with a planted bias, and a short run over it."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

FAMILIES = {"river": ["boat", "water", "bridge", "bank"], "hill": ["stone", "goat", "path", "peak"]}


def biased_rows(count: int, agreeing: int, seed: int) -> list[dict[str, Any]]:
    """Make texts of two labels; in `agreeing` of each eight rows of a label, the group's word goes with it."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        label = sorted(FAMILIES)[number % 2]
        group = ("he", "she")[(label == "hill") == (number // 2 % 8 < agreeing)]
        words = draw.sample(FAMILIES[label], 2)
        rows.append({"text": f"{group} went to the {words[0]} near the {words[1]}", "label": label, "who": group})
    return rows


def write_corpus(folder: Path, train: int = 48, rest: int = 16) -> Path:
    """Write train, validation and test files; train has the bias."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (split, count) in enumerate({"train": train, "validation": rest, "test": rest}.items()):
        rows = biased_rows(count, 6 if split == "train" else 4, number)
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return folder


def fair_values(encoder: Path, data: Path, fairness: Any, *, steps: int = 4) -> dict[str, Any]:
    """Describe a short run of one task, as `load_config` takes it."""
    lora = {"type": "lora", "r": 4, "lora_alpha": 8, "lora_dropout": 0.3, "target_modules": "all-linear"}
    return {
        "model": {"name_or_path": str(encoder), "adapter": lora},
        "tasks": {"place": {"type": "classification", "data": str(data), "max_length": 32, "fairness": fairness}},
        "training": {
            "max_steps": steps,
            "per_device_train_batch_size": 8,
            "learning_rate": 1e-2,
            "logging_steps": 1,
            "eval_steps": 2,
            "save_steps": 2,
            "seed": 5,
        },
        "evaluation": {"resamples": 100, "splits": ["validation", "test"]},
    }
