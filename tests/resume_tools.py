"""What tests of resuming share: a short run, a way to kill it, and a comparison of run folders byte by byte."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import transformers

from taskloom.record import Record
from taskloom.run import train
from two_processes import ended

TIMES = {"seconds", "tokens_per_second"}


def short_run(encoder: Path, data: Path, steps: int) -> dict[str, Any]:
    """Give a run of three tasks with dropout, whose checkpoints lie inside epochs and at their ends."""
    kinds = {"intent": "classification", "slots": "token_classification", "answer": "extractive_qa"}
    lora = {"type": "lora", "r": 4, "lora_alpha": 8, "lora_dropout": 0.3, "target_modules": "all-linear"}
    return {
        "model": {"name_or_path": str(encoder), "adapter": lora},
        "tasks": {
            name: {"type": kind, "data": str(data / name), "max_length": 96, "limit_rows": 8}
            for name, kind in kinds.items()
        },
        "mixture": {"strategy": "uniform"},
        "training": {
            "max_steps": steps,
            "per_device_train_batch_size": 6,
            "learning_rate": 1e-2,
            "logging_steps": 1,
            "eval_steps": 2,
            "save_steps": 2,
            "seed": 5,
        },
        "evaluation": {"resamples": 100, "splits": ["validation", "test"]},
    }


def lines_of(folder: Path) -> list[dict[str, Any]]:
    """Read steps and evaluations without what a clock says."""
    lines = [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def assert_same(one: Path, other: Path) -> None:
    assert lines_of(one) == lines_of(other)
    assert Record(one).decisions() == Record(other).decisions()
    names = ["scores.jsonl", "model/heads.safetensors", "model/tasks.json"]
    adapter = "model/adapter/adapter_model.safetensors"
    names.append(adapter if (one / adapter).exists() else "model/backbone/model.safetensors")
    names += [str(path.relative_to(one)) for path in sorted((one / "predictions").rglob("*.jsonl"))]
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    assert Record.open(one).state == Record.open(other).state


def killed(values: dict[str, Any], folder: Path, arrange: Callable[[], list[Any]]) -> None:
    """Run in a process of its own, which is killed where `arrange` says."""

    def run() -> None:
        callbacks = arrange()
        train(values, folder, callbacks=callbacks)

    process = multiprocessing.get_context("fork").Process(target=run)
    with ended(process, daemon=False):  # a daemon may have no workers that load rows
        assert process.exitcode == -signal.SIGKILL


def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class At(transformers.TrainerCallback):
    """Does something when a step begins."""

    def __init__(self, step: int, what: Callable[[], Any]) -> None:
        self.step = step
        self.what = what

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step + 1 == self.step:
            self.what()


def in_step(step: int) -> Callable[[], list[Any]]:
    return lambda: [At(step, die)]
