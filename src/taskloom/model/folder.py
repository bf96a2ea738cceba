"""A trained model on disk: `adapter/` or `backbone/` for transformers and peft, `heads.safetensors` and `tasks.json`.

`adapter/` holds what peft writes and no config.json, which would keep it from being loaded; `backbone/` holds what
transformers writes. Both carry the tokenizer. Nothing is pickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from taskloom.config.schema import ModelSection
from taskloom.errors import Fault, ModelError
from taskloom.model.backbone import add_adapter, load_backbone, load_tokenizer
from taskloom.model.multitask import MultiTaskModel
from taskloom.record import write_json
from taskloom.tasks import TASKS, Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

VERSION = 1
HEADS, TASKS_FILE, ADAPTER, BACKBONE = "heads.safetensors", "tasks.json", "adapter", "backbone"


def build_model(section: ModelSection, tasks: Mapping[str, Task], seed: int) -> MultiTaskModel:
    """Load the backbone, put the adapter and the heads on it, initialised from `seed`.

    Raises:
        ModelError: the backbone or the adapter cannot serve; see `load_backbone` and `add_adapter`.
    """
    backbone = load_backbone(section)
    torch.manual_seed(seed)
    if section.adapter:
        backbone = add_adapter(backbone, section.adapter, section.name_or_path)
    return MultiTaskModel(backbone, tasks)


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
    place = folder / (ADAPTER if section.adapter else BACKBONE)
    # peft would look on the hub whether the vocabulary has grown; it never has.
    extra = {"save_embedding_layers": False} if section.adapter else {}
    model.backbone.save_pretrained(str(place), safe_serialization=True, **extra)  # type: ignore[operator]
    tokenizer.save_pretrained(str(place))
    weights = {key: value.detach().cpu().contiguous() for key, value in model.heads.state_dict().items()}
    save_file(weights, str(folder / HEADS), metadata={"format": "pt"})
    described = {name: _described(*task) for name, task in tasks.items()}
    write_json(folder / TASKS_FILE, {"version": VERSION, "model": section.model_dump(), "tasks": described})


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
        tasks[name].restore(entry["state"])
    place = folder / (ADAPTER if section.adapter else BACKBONE)
    tokenizer = load_tokenizer(section.model_copy(update={"name_or_path": str(place), "revision": None}))
    if section.adapter:
        model = build_model(section, tasks, seed=0)
    else:
        local = section.model_copy(update={"name_or_path": str(place), "revision": None})
        model = build_model(local, tasks, seed=0)
    load_weights(model, folder)
    return model.eval(), tasks, tokenizer


def load_weights(model: MultiTaskModel, folder: Path) -> None:
    """Put the saved adapter or backbone and the saved heads into a model of the same make.

    Raises:
        ModelError: weights are missing, damaged or of another shape.
    """
    try:
        model.heads.load_state_dict(load_file(str(folder / HEADS)))
        if (folder / ADAPTER).is_dir():
            from peft import get_peft_model_state_dict, set_peft_model_state_dict

            weights = load_file(str(folder / ADAPTER / "adapter_model.safetensors"))
            # peft itself would leave what the file lacks as it was initialised, without a word.
            held = get_peft_model_state_dict(model.backbone, save_embedding_layers=False)
            if held.keys() - weights.keys():
                raise KeyError(f"missing {sorted(held.keys() - weights.keys())[:3]}")
            result = set_peft_model_state_dict(model.backbone, weights)
            if result.unexpected_keys:
                raise KeyError(f"unexpected weights {result.unexpected_keys[:3]}")
        else:
            _load_backbone_weights(model, folder / BACKBONE)
    except (OSError, SafetensorError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(Fault(str(folder), "hold the weights of this model", reason)) from error


def _load_backbone_weights(model: MultiTaskModel, folder: Path) -> None:
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
    return described
