"""A run that begins with the weights of another one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from taskloom.config.own_code import CODE
from taskloom.config.schema import ModelSection
from taskloom.errors import Fault, ModelError
from taskloom.model.folder import ADAPTER, HEADS, TASKS_FILE, load_adapter_weights, load_backbone_weights
from taskloom.model.identity import backbone_identity
from taskloom.model.multitask import SHARED, MultiTaskModel
from taskloom.room import keep_copy
from taskloom.tasks import TASKS, Task

WHERE = "model.start_from"
RANK_FIELDS = ("r", "rank_pattern", "target_modules", "use_dora", "use_rslora", "lora_alpha")
"""What of an adapter's settings its weights mean nothing without."""


@dataclass(frozen=True)
class Taken:
    """What a run took over.

    Attributes:
        folder: the run it began from.
        shared: whether the adapter, or else the whole backbone, was taken.
        heads: tasks whose heads were.
        fresh: tasks whose heads begin as drawn, since the other run has none that fits.
    """

    folder: Path
    shared: str
    heads: list[str]
    fresh: list[str]

    def __str__(self) -> str:
        heads = f", heads of {', '.join(self.heads)}" if self.heads else ""
        fresh = f"; as drawn: heads of {', '.join(self.fresh)}" if self.fresh else ""
        return f"starts from {self.folder}: {self.shared}{heads}{fresh}"


def start_from(model: MultiTaskModel, tasks: Mapping[str, Task], folder: str | Path, section: ModelSection) -> Taken:
    """Put the weights of another run into a model that has just been built.

    The adapter is taken, or all of the backbone where both runs train that; and the heads of tasks with the same name,
    type and labels. Every other head stays as it was drawn.

    Args:
        model: just built.
        tasks: task name -> task, fitted.
        folder: a finished run's folder.
        section: how the model was built.

    Raises:
        ModelError: the folder holds no model, or one of another backbone or adapter.
    """
    place = Path(folder) / "model"
    described = described_model(place)
    other = ModelSection.model_validate(described["model"])
    compare_sections(section, other, str(folder), WHERE)
    if model.own_adapters or model.routing is not None or getattr(other, "sharing", None):
        found = "a sharing scheme, or adapters of single tasks"
        raise ModelError(Fault(WHERE, "name a run with one adapter for all tasks, or none", found))
    _check_words(model, described, str(folder))
    try:
        if section.adapter:
            load_adapter_weights(model, place / ADAPTER, SHARED)
        else:
            load_backbone_weights(model, place / "backbone")
        weights = load_file(str(place / HEADS))
    except (OSError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(Fault(WHERE, "name a run whose weights fit this model", reason)) from error
    heads = [name for name, task in tasks.items() if _fits(described["tasks"].get(name), task)]
    taken = []
    for name in heads:
        own = {key.removeprefix(f"{name}."): value for key, value in weights.items() if key.startswith(f"{name}.")}
        held = model.heads[name].state_dict()
        if held and {key: value.shape for key, value in own.items()} == {key: each.shape for key, each in held.items()}:
            model.heads[name].load_state_dict(own)
            taken.append(name)
    fresh = [name for name in tasks if name not in taken and model.heads[name].state_dict()]
    return Taken(Path(folder), "its adapter" if section.adapter else "its backbone", taken, fresh)


def described_model(place: Path, where: str = WHERE) -> dict[str, Any]:
    """Read what a model folder says of itself.

    Raises:
        ModelError: it is none.
        ConfigError: a task's type is in a file that came with the folder, and that the user does not trust.
    """
    path = place / TASKS_FILE
    if not path.is_file():
        fix = "Train that run to its end"
        raise ModelError(Fault(where, "name the folder of a finished run", f"`{place.parent}` without a model", fix))
    described: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for entry in described["tasks"].values():
        keep_copy(entry["type"], place.parent / CODE)
    return described


def compare_sections(one: ModelSection, other: ModelSection, folder: str, where: str) -> None:
    """Refuse a model of another backbone, or with another adapter; and experts before heads in either.

    Args:
        one: how the model here was built.
        other: how the one in the folder was.
        folder: for messages.
        where: the key or option that names it.

    Raises:
        ModelError: they differ.
    """
    if backbone_identity(one) != backbone_identity(other):
        found = f"`{folder}` with an adapter of another backbone, `{other.name_or_path}`"
        raise ModelError(Fault(where, f"name a run on `{one.name_or_path}`", found))
    if one.head_experts or other.head_experts:
        found = f"`{folder}`, which has them" if other.head_experts else "them here"
        raise ModelError(Fault(where, "join runs without `model.head_experts`", found))
    here, there = one.adapter, other.adapter
    if not here or not there:
        if here or there:
            found = f"`{folder}`, which {'has an adapter' if there else 'trains all of its backbone'}"
            raise ModelError(Fault(where, "name a run that trains the same part of its backbone", found))
        return
    if here["type"] != there["type"]:
        found = f"`{folder}` with `{there['type']}`"
        raise ModelError(Fault(where, f"name a run with an adapter of type `{here['type']}`", found))
    for key in RANK_FIELDS:
        if _comparable(here.get(key)) != _comparable(there.get(key)):
            found = f"`{folder}` with `{key}: {there.get(key)}`"
            raise ModelError(Fault(where, f"name a run whose adapter has `{key}: {here.get(key)}`", found))


def _comparable(value: Any) -> Any:
    return sorted(map(str, value)) if isinstance(value, list) else value or None


def _check_words(model: MultiTaskModel, described: Mapping[str, Any], folder: str) -> None:
    """Refuse weights of a backbone without a language head for one with it, and the other way round."""
    words = any(TASKS.load(entry["type"]).reads == "words" for entry in described["tasks"].values())
    if words != bool(model.reads_words) and model.family != "encoder_decoder":
        found = f"`{folder}`, which {'has' if words else 'has not'} loaded one"
        requirement = f"name a run {'with' if model.reads_words else 'without'} a language head"
        raise ModelError(Fault(WHERE, requirement, found))


def _fits(entry: Mapping[str, Any] | None, task: Task) -> bool:
    """Say whether a task of the other run has the type and the labels of one here."""
    if entry is None or TASKS.load(entry["type"]) is not type(task):
        return False
    here, there = task.state(), entry["state"]
    wanted: bool = json.loads(json.dumps(here.get("labels", here))) == there.get("labels", there)
    return wanted
