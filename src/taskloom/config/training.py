"""The keys under `training:`: every field of transformers' TrainingArguments, with Taskloom's defaults."""

from __future__ import annotations

import dataclasses
import functools
import typing
from enum import Enum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model

from taskloom.config.document import Document
from taskloom.errors import Fault, nearest

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
    "ignore_data_skip": "a resumed run goes on with the rows that come next",
    "hub_token": "log in with `hf auth login` or set HF_TOKEN; the run file is kept in the run folder",
    "logging_dir": "TensorBoard writes beside the checkpoints; set TENSORBOARD_LOGGING_DIR for another folder",
    "fp16_backend": "there is one backend left; write `fp16: true` alone",
    "half_precision_backend": "there is one backend left; write `fp16: true` alone",
    "torch_compile_options": "set `torch_compile`, `torch_compile_backend` and `torch_compile_mode`",
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
}
"""Names that older recipes carry -> the name of today."""

POSITIVE, SHARE, NOT_NEGATIVE = Field(gt=0), Field(ge=0, lt=1), Field(ge=0)
LIMITS = {
    "per_device_train_batch_size": POSITIVE,
    "per_device_eval_batch_size": POSITIVE,
    "gradient_accumulation_steps": POSITIVE,
    "num_train_epochs": POSITIVE,
    "learning_rate": POSITIVE,
    "logging_steps": POSITIVE,
    "eval_steps": POSITIVE,
    "save_steps": POSITIVE,
    "save_total_limit": POSITIVE,
    "warmup_steps": NOT_NEGATIVE,
    "weight_decay": NOT_NEGATIVE,
    "max_grad_norm": NOT_NEGATIVE,
    "dataloader_num_workers": NOT_NEGATIVE,
    "adam_beta1": SHARE,
    "adam_beta2": SHARE,
    "seed": Field(ge=0, lt=2**32),
    "data_seed": Field(ge=0, lt=2**32),
}
"""What transformers would find out only after the run has begun."""


@functools.cache
def training_model() -> type[BaseModel]:
    """Make the pydantic model of `training:` from the fields of TrainingArguments.

    Types that pydantic cannot read are left to TrainingArguments itself, which reading a run file calls afterwards.
    """
    from transformers import TrainingArguments

    hints = typing.get_type_hints(TrainingArguments)
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(TrainingArguments):
        if field.init and field.name not in MANAGED and field.name not in RENAMED:
            default = DEFAULTS[field.name] if field.name in DEFAULTS else _default(field)
            hint = _readable(hints[field.name])
            # As it would be read, so that the run file written out reads as the same text again.
            default = float(default) if hint in {float, float | None} and default is not None else default
            fields[field.name] = (Annotated[hint, LIMITS[field.name]] if field.name in LIMITS else hint, default)
    fields["max_steps"] = (Annotated[int, AfterValidator(_steps)], fields["max_steps"][1])
    return create_model("Training", __config__=ConfigDict(extra="forbid", allow_inf_nan=False), **fields)


def instantiate(values: dict[str, Any], folder: str) -> Any:
    """Make TrainingArguments; bf16 on a machine without an accelerator is torch's own on the processor."""
    import torch
    from transformers import TrainingArguments

    if values.get("bf16") and not torch.accelerator.is_available():
        values = {**values, "use_cpu": True}
    return TrainingArguments(output_dir=folder, **values)


def followed(values: dict[str, Any]) -> dict[str, Any]:
    """Let what is saved follow what is evaluated where only one of the two is given, so that the best can be kept."""
    values = dict(values)
    if "no" in (values.get("eval_strategy"), values.get("save_strategy")):
        values = {"load_best_model_at_end": False, "metric_for_best_model": None, **values}
    for one, other in (("eval_strategy", "save_strategy"), ("eval_steps", "save_steps")):
        for given, lacking in ((one, other), (other, one)):
            value = values.get(given)
            # A value that is wrong is told once, where it stands.
            if lacking not in values and (value in ("steps", "epoch") or _is_positive(value)):
                values[lacking] = value
    return values


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


def tracker_faults(report_to: Any, document: Document) -> list[Fault]:
    """Find trackers that transformers does not know, or whose package is absent: it would say so after the start."""
    from transformers.integrations.integration_utils import (
        INTEGRATION_TO_CALLBACK,
        get_available_reporting_integrations,
    )

    where, source = "training.report_to", document.source(("training", "report_to"))
    faults = []
    for name in [report_to] if isinstance(report_to, str) else report_to or []:
        if name in {"none", "all"} or name in get_available_reporting_integrations():
            continue
        if name in INTEGRATION_TO_CALLBACK:
            fix = f"Run `pip install {name}`"
            faults.append(Fault(where, "name an installed tracker", f"`{name}`, which is absent", fix, source))
        else:
            fix = nearest(name, ["none", "all", *INTEGRATION_TO_CALLBACK])
            faults.append(Fault(where, "name a tracker of transformers", f"`{name}`", fix, source))
    return faults


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _steps(value: int) -> int:
    if value == 0 or value < -1:
        raise ValueError("be above 0, or -1 to count in `num_train_epochs`")
    return value


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default.value if isinstance(field.default, Enum) else field.default
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else None


def _readable(hint: Any) -> Any:
    """Keep plain types and unions of them, write choices out; let everything else through unchecked."""
    plain = {int, float, bool, str, type(None), dict, list}
    parts = set(typing.get_args(hint)) or {hint}
    origins = {typing.get_origin(part) or part for part in parts}
    for part in origins:
        if isinstance(part, type) and issubclass(part, Enum):
            choices: Any = Literal[tuple(each.value for each in part)]
            return choices | None if type(None) in origins else choices
    if typing.get_origin(hint) in {list, dict} or not origins <= plain or _holds_choices(parts):
        return Any
    if {int, float} <= origins and bool not in origins and str not in origins:
        return float | None if type(None) in origins else float
    return hint


def _holds_choices(parts: set[Any]) -> bool:
    inner = {each for part in parts for each in typing.get_args(part)}
    return any(isinstance(each, type) and issubclass(each, Enum) for each in inner)
