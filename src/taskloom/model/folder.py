"""A trained model on disk: `adapter/`, `sharing/` or `backbone/`, `heads.safetensors` and `tasks.json`.

`adapter/` holds what peft writes and no config.json, which would keep it from being loaded; `sharing/` the parts of a
sharing scheme, and `adapters/TASK/` what they are to each task as an adapter of peft, where they are one; `backbone/`
what transformers writes. Each of the three carries the tokenizer. `head_experts.safetensors` is there where a model has
experts between its backbone and its heads, `calibration.json` where it was calibrated. Nothing is pickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from taskloom.config.own_code import CODE
from taskloom.config.schema import ModelSection
from taskloom.errors import Fault, ModelError, said
from taskloom.model.backbone import add_adapter, check_backbone, hushed, load_backbone, load_tokenizer
from taskloom.model.families import family_of
from taskloom.model.head_experts import load_head_experts, made_head_experts, save_head_experts
from taskloom.model.multitask import SHARED, MultiTaskModel, own_adapter
from taskloom.model.parts import load_parts, save_parts
from taskloom.model.sharing import SHARINGS
from taskloom.record import write_json
from taskloom.room import keep_copy
from taskloom.tasks import TASKS, Task
from taskloom.tasks._unlabelled import share_heads

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

VERSION = 1
HEADS, TASKS_FILE, ADAPTER, BACKBONE = "heads.safetensors", "tasks.json", "adapter", "backbone"
SHARING = "sharing"
CALIBRATION = "calibration.json"
"""Temperatures by which probabilities are told, where the run was calibrated: task -> what logits are divided by."""


def build_model(section: ModelSection, tasks: Mapping[str, Task], seed: int) -> MultiTaskModel:
    """Load the backbone, put the adapter, the heads and the experts before them on it, initialised from `seed`.

    Raises:
        ModelError: the backbone or the adapter cannot serve; see `load_backbone` and `add_adapter`. Or there are to be
            experts before heads, and no task reads hidden states.
    """
    words = any(task.reads == "words" for task in tasks.values())
    torch.manual_seed(seed)  # also of what a checkpoint lacks
    backbone = load_backbone(section, words=words)
    torch.manual_seed(seed)
    if section.adapter:
        backbone = add_adapter(backbone, section.adapter, section.name_or_path, words=words)
    routing = None
    if section.sharing:
        options = {key: value for key, value in section.sharing.items() if key != "scheme"}
        routing = SHARINGS.load(section.sharing["scheme"])(**options).install(backbone, list(tasks))
    model = MultiTaskModel(backbone, tasks, routing)
    if section.head_experts is not None:  # drawn behind the heads, which are then the same with and without
        owners = [name for name in model.heads if name not in model.reads_words]
        width = int(model.config.hidden_size)
        model.head_experts = made_head_experts(section.head_experts, width, list(tasks), owners)
    model.check_words()
    return model


def add_own_adapter(model: MultiTaskModel, task: str, fields: Mapping[str, Any]) -> None:
    """Put a LoRA of one task alone beside the shared one; at first it changes nothing.

    Args:
        model: with a shared LoRA.
        task: whose rows go through it.
        fields: of peft's LoraConfig.

    Raises:
        ModelError: a target module matches nothing, or peft refuses the settings.
    """
    import peft

    backbone: Any = model.backbone
    shared, name = backbone.peft_config[SHARED], own_adapter(task)
    try:
        backbone.add_adapter(name, peft.LoraConfig(task_type=shared.task_type, **fields))
    except (ValueError, TypeError, KeyError, NotImplementedError) as error:
        found = f"what it answers with: {said(error)}"
        raise ModelError(Fault("own_adapter", "be what peft accepts beside the shared adapter", found)) from error
    backbone.set_adapter(SHARED)
    backbone.peft_config[name].base_model_name_or_path = shared.base_model_name_or_path
    model.own_adapters[task] = dict(fields)


def save_model(
    model: MultiTaskModel,
    folder: Path,
    *,
    tokenizer: PreTrainedTokenizerFast,
    section: ModelSection,
    tasks: Mapping[str, tuple[str, dict[str, Any], Task]],
) -> None:
    """Write a trained model.

    Args:
        model: to be written.
        folder: made where absent; older files of a model in it are overwritten.
        tokenizer: written beside the weights.
        section: how the backbone was loaded.
        tasks: task name -> (type, options, task).
    """
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / place_of(section)
    if model.routing is not None:
        save_parts(model.routing, model.backbone, folder, section.name_or_path)
    else:
        # peft would look on the hub whether the vocabulary has grown; it never has.
        extra = {"save_embedding_layers": False} if section.adapter else {}
        with hushed():
            model.backbone.save_pretrained(str(place), safe_serialization=True, **extra)  # type: ignore[operator]
    # How the last call cut and padded is no part of a tokenizer, and a run that is taken up may have made no call.
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.save_pretrained(str(place))
    weights = {key: value.detach().cpu().contiguous() for key, value in model.heads.state_dict().items()}
    save_file(weights, str(folder / HEADS), metadata={"format": "pt"})
    if model.head_experts is not None:
        save_head_experts(model.head_experts, folder)
    described = {name: _described(*task) for name, task in tasks.items()}
    for name, fields in model.own_adapters.items():
        described[name]["own_adapter"] = fields
    write_json(folder / TASKS_FILE, {"version": VERSION, "model": section.model_dump(), "tasks": described})


def place_of(section: ModelSection) -> str:
    """Say which folder of a model holds what was trained of the backbone."""
    return ADAPTER if section.adapter else SHARING if section.sharing else BACKBONE


def _described(type_name: str, options: dict[str, Any], task: Task) -> dict[str, Any]:
    return {"type": type_name, "options": options, "state": task.state()}


def load_model(folder: Path) -> tuple[MultiTaskModel, dict[str, Task], PreTrainedTokenizerFast]:
    """Read a trained model back, in evaluation mode.

    Raises:
        ModelError: the folder holds no model of Taskloom, or one of another version.
    """
    described = _read_tasks(folder)
    section = ModelSection.model_validate(described["model"])
    tasks = {}
    for name, entry in described["tasks"].items():
        tasks[name] = TASKS.load(entry["type"])(**entry["options"])
    place = folder / place_of(section)
    local = section.model_copy(update={"name_or_path": str(place), "revision": None})
    tokenizer = load_tokenizer(local)
    kept = section if section.adapter or section.sharing else local  # else the trained backbone is in the folder
    family = family_of(check_backbone(kept))
    for name, entry in described["tasks"].items():
        tasks[name].meet(family, tokenizer)
        tasks[name].restore(entry["state"])
    for name, temperature in read_temperatures(folder).items():
        if name in tasks:
            tasks[name].calibration = temperature
    share_heads(tasks)
    model = build_model(kept, tasks, seed=0)
    for name, entry in described["tasks"].items():
        if "own_adapter" in entry:
            add_own_adapter(model, name, entry["own_adapter"])
    load_weights(model, folder)
    return model.eval(), tasks, tokenizer


def read_temperatures(folder: Path) -> dict[str, float]:
    """Give the temperatures of a model's tasks; none where it was not calibrated.

    Raises:
        ModelError: they were written by another version.
    """
    path = folder / CALIBRATION
    held: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"version": VERSION}
    if held.get("version") != VERSION:
        fix = "Call `taskloom calibrate` again with this Taskloom"
        raise ModelError(Fault(str(path), f"be of version {VERSION}", f"version {held.get('version')}", fix))
    return {name: float(temperature) for name, temperature in held.get("temperatures", {}).items()}


def load_weights(model: MultiTaskModel, folder: Path) -> None:
    """Put the saved adapter or backbone, heads and experts before them into a model of the same make.

    Raises:
        ModelError: weights are missing, damaged or of another shape.
    """
    try:
        model.heads.load_state_dict(load_file(str(folder / HEADS)))
        if model.head_experts is not None:
            load_head_experts(model.head_experts, folder)
        if model.routing is not None:
            load_parts(model.routing, model.backbone, folder)
        elif (folder / ADAPTER).is_dir():
            load_adapter_weights(model, folder / ADAPTER, SHARED)
            for task in model.own_adapters:
                load_adapter_weights(model, folder / ADAPTER / own_adapter(task), own_adapter(task))
        else:
            load_backbone_weights(model, folder / BACKBONE)
    except (OSError, SafetensorError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(Fault(str(folder), "hold the weights of this model", reason)) from error


def load_adapter_weights(model: MultiTaskModel, folder: Path, name: str) -> None:
    """Put the weights of a folder of peft's into one adapter of a model.

    Raises:
        KeyError: the folder lacks some, or holds others.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    weights = load_file(str(folder / "adapter_model.safetensors"))
    # peft itself would leave what the file lacks as it was initialised, without a word.
    held = get_peft_model_state_dict(model.backbone, adapter_name=name, save_embedding_layers=False)
    if held.keys() - weights.keys():
        raise KeyError(f"missing {sorted(held.keys() - weights.keys())[:3]}")
    result = set_peft_model_state_dict(model.backbone, weights, adapter_name=name)
    if result.unexpected_keys:
        raise KeyError(f"unexpected weights {result.unexpected_keys[:3]}")


def load_backbone_weights(model: MultiTaskModel, folder: Path) -> None:
    """Put the weights of a folder of transformers' into a model's backbone.

    Raises:
        KeyError: the folder lacks some, or holds others.
    """
    index = folder / "model.safetensors.index.json"
    names = set(json.loads(index.read_text())["weight_map"].values()) if index.is_file() else {"model.safetensors"}
    weights = {key: value for name in sorted(names) for key, value in load_file(str(folder / name)).items()}
    missing, unexpected = model.backbone.load_state_dict(weights, strict=False)
    tied = set(getattr(model.backbone, "all_tied_weights_keys", None) or ())
    buffers = {name for name, _ in model.backbone.named_buffers()}
    lost = [key for key in missing if key not in tied and key not in buffers]
    if lost or unexpected:
        raise KeyError(f"missing {lost[:3]}, unexpected {unexpected[:3]}")


def _read_tasks(folder: Path) -> dict[str, Any]:
    path = folder / TASKS_FILE
    if not path.is_file():
        raise ModelError(Fault(str(folder), f"be a model folder with `{TASKS_FILE}`", "no such file"))
    described: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if described.get("version") != VERSION:
        found = f"version {described.get('version')}"
        raise ModelError(Fault(str(path), f"be of version {VERSION}", found, "Train again with this Taskloom"))
    for entry in described["tasks"].values():
        keep_copy(entry["type"], folder.parent / CODE)
    return described
