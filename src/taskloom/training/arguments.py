"""From the run file's `training:` to transformers' TrainingArguments and the length of the run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers

from taskloom.config.training import instantiate
from taskloom.errors import ConfigError, Fault

FOLLOWS_SCORE = ("reduce_lr_on_plateau", "greedy")
"""Schedules that follow a score; by themselves they take it for a loss and slow down while it rises."""


@dataclass(frozen=True)
class Length:
    """How long a run is.

    Attributes:
        updates: optimizer steps.
        steps: micro-batches of all processes together.
        epoch_steps: micro-batches that count as one epoch: the rows of all tasks together, once.
    """

    updates: int
    steps: int
    epoch_steps: int


def training_arguments(training: Mapping[str, Any], folder: Path, *, evaluates: bool) -> transformers.TrainingArguments:
    """Make TrainingArguments whose checkpoints lie in `folder`; without a validation split nothing is evaluated."""
    values = dict(training)
    if not evaluates:
        values |= {"eval_strategy": "no", "load_best_model_at_end": False, "metric_for_best_model": None}
    elif values["eval_strategy"] != "no":
        # Early stopping and schedules that follow a score need one, also where no best checkpoint is kept.
        values["metric_for_best_model"] = values["metric_for_best_model"] or "composite"
        if values["lr_scheduler_type"] in FOLLOWS_SCORE:
            mode = "max" if values["greater_is_better"] else "min"
            values["lr_scheduler_kwargs"] = {"mode": mode, **(values["lr_scheduler_kwargs"] or {})}
    arguments: transformers.TrainingArguments = instantiate(values, str(folder))
    if arguments.fp16 and arguments.device.type == "cpu":
        fix = "Write `bf16: true`, or leave it out"
        raise ConfigError(Fault("training.fp16", "be set where there is a GPU", "a processor alone", fix))
    arguments.ddp_broadcast_buffers = False  # encoders have constant ones alone
    return arguments


def check_devices(devices: int) -> None:
    """Refuse to train on several devices from one process, which transformers would do by copies of the model.

    Args:
        devices: that this process sees.

    Raises:
        ConfigError: there are several.
    """
    if devices > 1:
        fix = f"Run `torchrun --nproc_per_node {devices} -m taskloom train …`, or set CUDA_VISIBLE_DEVICES=0"
        raise ConfigError(Fault("training", "run one process on each device", f"{devices} devices", fix))


def run_length(arguments: transformers.TrainingArguments, items: int, rows: int | None = None) -> Length:
    """Work out the number of steps as transformers does: `max_steps`, else `num_train_epochs`.

    Args:
        arguments: with batch size, accumulation and processes.
        items: training items of all tasks together.
        rows: of one micro-batch, where tasks have rows of their own; None for the batch size.
    """
    each = arguments.gradient_accumulation_steps * arguments.world_size  # micro-batches of an optimizer step
    epoch_updates = math.ceil(items / ((rows or arguments.per_device_train_batch_size) * each))
    updates = arguments.max_steps if arguments.max_steps > 0 else math.ceil(arguments.num_train_epochs * epoch_updates)
    return Length(updates, updates * each, epoch_updates * each)


def fetched_ahead(arguments: transformers.TrainingArguments) -> int:
    """Give the optimizer steps that loaders may have fetched beyond the one that has been made."""
    workers: int = arguments.dataloader_num_workers
    queued = workers * (arguments.dataloader_prefetch_factor or 2) + 2  # one more by accelerate, one in hand
    return math.ceil(queued / int(arguments.gradient_accumulation_steps)) + 1
