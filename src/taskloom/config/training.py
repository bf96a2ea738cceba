"""The keys under `training:`: every field of transformers' TrainingArguments, with Taskloom's defaults."""

from __future__ import annotations

import dataclasses
import functools
import typing
from enum import Enum
from typing import Any

from pydantic import BaseModel, ConfigDict, create_model

from taskloom.config.document import Document
from taskloom.errors import Fault

DEFAULTS: dict[str, Any] = {
    "per_device_train_batch_size": 32,
    "per_device_eval_batch_size": 64,
    "learning_rate": 5e-4,
    "lr_scheduler_type": "linear",
    "warmup_steps": 0.06,
    "weight_decay": 0.01,
    "num_train_epochs": 3.0,
    "logging_steps": 10,
    "eval_strategy": "steps",
    "eval_steps": 0.25,
    "save_strategy": "steps",
    "save_steps": 0.25,
    "save_total_limit": 2,
    "load_best_model_at_end": True,
    "metric_for_best_model": "composite",
    "greater_is_better": True,
    "report_to": "none",
    "seed": 0,
}
"""Where Taskloom differs from transformers: adapters learn at 5e-4; the best checkpoint by composite score is kept."""

MANAGED = {
    "output_dir": "the run folder is `--out`",
    "do_train": "the command says what is done",
    "do_eval": "the command says what is done",
    "do_predict": "the command says what is done",
    "remove_unused_columns": "the tasks' columns are always kept",
    "label_names": "labels belong to the tasks",
    "disable_tqdm": "progress is drawn by Taskloom; set NO_COLOR or pipe the output for plain lines",
    "logging_nan_inf_filter": "a non-finite loss stops the run",
    "resume_from_checkpoint": "call `taskloom train` again with the same `--out`; it resumes by itself",
    "label_smoothing_factor": "labels belong to the tasks",
    "include_for_metrics": "metrics are listed under each task",
    "batch_eval_metrics": "metrics are listed under each task",
    "auto_find_batch_size": "chunks are cut by `batching.limit_tokens`",
    "dataloader_drop_last": "a step has the same number of rows always",
    "train_sampling_strategy": "rows are drawn by `mixture`",
    "group_by_length": "chunks are cut by length always",
    "predict_with_generate": "an encoder does not generate",
}
"""Keys that a run file cannot set, each with the reason."""

RENAMED = {
    "warmup_ratio": "warmup_steps",
    "gradient_checkpointing": "activation_checkpointing",
    "gradient_checkpointing_kwargs": "activation_checkpointing_kwargs",
    "evaluation_strategy": "eval_strategy",
    "no_cuda": "use_cpu",
    "per_gpu_train_batch_size": "per_device_train_batch_size",
    "per_gpu_eval_batch_size": "per_device_eval_batch_size",
    "micro_batch_size": "per_device_train_batch_size",
    "batch_size": "per_device_train_batch_size",
    "num_epochs": "num_train_epochs",
    "epochs": "num_train_epochs",
    "lr": "learning_rate",
    "logging_dir": "report_to",
    "fp16_backend": "fp16",
    "half_precision_backend": "fp16",
    "torch_compile_options": "torch_compile",
}
"""Names that older recipes carry -> the name of today."""


@functools.cache
def training_model() -> type[BaseModel]:
    """Make the pydantic model of `training:` from the fields of TrainingArguments.

    Types that pydantic cannot read are left to TrainingArguments itself, which `Config` calls afterwards.
    """
    from transformers import TrainingArguments

    hints = typing.get_type_hints(TrainingArguments)
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(TrainingArguments):
        if field.init and field.name not in MANAGED and not field.name.startswith("_"):
            default = DEFAULTS[field.name] if field.name in DEFAULTS else _default(field)
            fields[field.name] = (_readable(hints[field.name]), default)
    return create_model("Training", __config__=ConfigDict(extra="forbid"), **fields)


def renamed_faults(values: dict[str, Any], document: Document) -> list[Fault]:
    """Find keys under `training:` that have another name today, or that Taskloom sets itself; removes them."""
    faults = []
    for key in list(values):
        where, source = f"training.{key}", document.source(("training", key))
        if key in RENAMED:
            found, fix = f"the old name `{key}`", f"Write `{RENAMED[key]}: {_shown(values[key])}`"
            faults.append(Fault(where, "be named as in transformers 5", found, fix, source))
        elif key in MANAGED:
            faults.append(Fault(where, "be left out", f"`{_shown(values[key])}`", _sentence(MANAGED[key]), source))
        else:
            continue
        del values[key]
    return faults


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default.value if isinstance(field.default, Enum) else field.default
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else None


def _readable(hint: Any) -> Any:
    """Keep plain types and unions of them; let everything else through unchecked."""
    plain = {int, float, bool, str, type(None), dict, list}
    parts = set(typing.get_args(hint)) or {hint}
    origins = {typing.get_origin(part) or part for part in parts}
    if any(isinstance(part, type) and issubclass(part, Enum) for part in origins):
        return str | None if type(None) in origins else str
    if typing.get_origin(hint) in {list, dict} or not origins <= plain:
        return Any
    if {int, float} <= origins and bool not in origins and str not in origins:
        return float | None if type(None) in origins else float
    return hint
