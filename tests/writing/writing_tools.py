"""Tiny runs of backbones that write: a random Llama and a random T5, a few rows of each task, four steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers

from family_tokenizers import tokenizer_of
from taskloom.types import Family

CITIES = ("New York", "St. Louis", "San Francisco", "Monday City")
LABELS = ("flight", "hotel", "music")
TIMES = {"seconds", "tokens_per_second"}
"""What only a clock says of a step."""


def row_of(kind: str, number: int) -> dict[str, Any]:
    """Make one row of a task type; texts differ by their number."""
    city, label = CITIES[number % len(CITIES)], LABELS[number % len(LABELS)]
    text = f"take {number} to {city}"
    turns = (("user", text), ("assistant", f"a {label}?"), ("user", "yes"), ("assistant", f"no. {number}"))
    rows: dict[str, dict[str, Any]] = {
        "text_to_text": {"source": text, "target": f"{label} {city}"},
        "classification": {"text": text, "label": label},
        "classification_as_text": {"text": text, "label": label},
        "tagging_as_text": {
            "tokens": text.split(),
            "tags": ["O", "B-no", "O", "B-city", *["I-city"] * (len(city.split()) - 1)],
        },
        "extraction": {"text": text, "slots": {"city": city, "number": str(number)}},
        "chat": {"messages": [{"role": role, "content": content} for role, content in turns]},
        "span_corruption": {"text": f"{text} and return {number + 1} days later"},
        "preference": {"prompt": text, "chosen": f" {label}", "rejected": f" none of {number}"},
    }
    return rows[kind]


def write_rows(folder: Path, kinds: dict[str, str], train: int = 8, held: int = 2) -> None:
    """Write the splits of each task into a folder of its own."""
    for name, kind in kinds.items():
        (folder / name).mkdir(parents=True)
        for start, (split, count) in enumerate((("train", train), ("validation", held), ("test", held))):
            rows = [row_of(kind, 100 * start + number) for number in range(count)]
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / name / f"{split}.jsonl").write_text(lines, encoding="utf-8")


def save_backbone(family: Family, folder: Path) -> Path:
    """Save a random backbone of one layer with its language head and its tokenizer."""
    tokenizer = tokenizer_of(family)
    special = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    torch.manual_seed(0)
    if family == "decoder":
        sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
        config = transformers.LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=160, **sizes, **special)
        model: Any = transformers.LlamaForCausalLM(config)
    else:
        sizes = {"d_model": 16, "d_ff": 24, "d_kv": 8, "num_layers": 1, "num_heads": 2, "dropout_rate": 0.0}
        model = transformers.T5ForConditionalGeneration(
            transformers.T5Config(vocab_size=len(tokenizer), decoder_start_token_id=0, **sizes, **special)
        )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def run_of(backbone: Path, data: Path, kinds: dict[str, str], *, lora: bool = True, **balance: Any) -> dict[str, Any]:
    """Describe a run of four steps, with a checkpoint after two."""
    adapter = {"type": "lora", "r": 4, "lora_alpha": 8, "target_modules": "all-linear"} if lora else None
    tasks: dict[str, dict[str, Any]] = {
        name: {"type": kind, "data": str(data / name), "max_length": 96} for name, kind in kinds.items()
    }
    for task in tasks.values():
        if task["type"] in {"text_to_text", "classification_as_text", "chat"}:
            task["max_new_tokens"] = 5
        if task["type"] == "classification":
            task["dropout"] = 0.0
    return {
        "model": {"name_or_path": str(backbone), "adapter": adapter},
        "tasks": tasks,
        "balance": balance,
        "mixture": {"strategy": "uniform"},
        "training": {
            "max_steps": 4,
            "per_device_train_batch_size": 2 * len(kinds),
            "learning_rate": 1e-2,
            "logging_steps": 1,
            "eval_steps": 2,
            "save_steps": 2,
            "seed": 0,
        },
        "evaluation": {"resamples": 100, "splits": ["validation", "test"]},
    }


class BreaksOff(transformers.TrainerCallback):
    """Fails when a step begins."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step + 1 == self.step:
            raise ArithmeticError("broken off")


def steps_of(folder: Path) -> list[dict[str, Any]]:
    """Read the lines of steps and evaluations without what a clock says."""
    lines = [json.loads(line) for line in (folder / "steps.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Read a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def results_of(folder: Path) -> dict[str, bytes]:
    """Give what a run leaves that no clock has a part in: scores, predictions, the model, what it said before."""
    wanted = [folder / "scores.jsonl", *folder.glob("*.safetensors")]
    wanted += [path for part in ("predictions", "model") for path in (folder / part).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(wanted)}
