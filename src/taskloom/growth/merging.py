"""One run of several on the same backbone: their adapters are added up, their heads stand side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from taskloom.config import Config, load_config
from taskloom.environment import environment
from taskloom.errors import ConfigError, Fault, ModelError, RunFolderError, listed, nearest, said
from taskloom.growth.base import Base
from taskloom.model import MultiTaskModel, build_model, save_model
from taskloom.model.folder import ADAPTER
from taskloom.model.multitask import SHARED
from taskloom.model.start import compare_sections
from taskloom.record import VERSION, Record, write_json
from taskloom.run import Run

METHODS = {
    "linear": "linear",
    "ties": "ties",
    "dare_linear": "dare_linear",
    "dare_ties": "dare_ties",
    "task_arithmetic": "cat",
    "cat": "cat",
    "svd": "svd",
}
"""What is asked for -> peft's `combination_type`. Task arithmetic is the exact sum of updates, which `cat` gives."""

OF_ANY_RANK = ("task_arithmetic", "cat", "svd")
PRUNING = ("ties", "dare_linear", "dare_ties")
MERGED = "merged"
FILE = "merged.json"


@dataclass(frozen=True)
class Mix:
    """How adapters are added up.

    Attributes:
        method: of `METHODS`.
        weights: one for each run; by default all the same, and one together.
        density: share of each adapter's entries that `ties` and the `dare` methods keep.
        seed: of what the `dare` methods drop.
    """

    method: str = "linear"
    weights: Sequence[float] = field(default_factory=tuple)
    density: float = 0.5
    seed: int = 0


def merge(runs: Sequence[str | Path], out: str | Path, mix: Mix | None = None) -> Run:
    """Merge finished runs into one whose tasks are those of all.

    Nothing is trained and nothing is scored: `taskloom.evaluate` does that, and tells what merging cost.

    Args:
        runs: folders of finished runs with LoRA adapters on the same backbone; they are only read.
        out: the merged run's folder.
        mix: how the adapters are added up.

    Raises:
        ConfigError: a setting is wrong.
        ModelError: the adapters cannot be added up by the method.
        RunFolderError: a folder holds no finished run, or `out` holds something.
    """
    mix = mix or Mix()
    weights = _checked(mix, len(runs))
    bases = [Base.open(folder) for folder in runs]
    _check_runs(bases)
    merged = add_up(bases, mix, weights)
    config = _config(bases, merged)
    record = Record(out)
    if record.folder.exists() and any(record.folder.iterdir()):
        fix = "Name a new folder, so that nothing of yours is written over"
        raise RunFolderError(Fault(f"--out {out}", "be a folder to be made", "a folder with files in it", fix))
    tasks = {name: task for base in bases for name, task in base.tasks.items()}
    model = build_model(config.model, tasks, seed=0)
    load_merged(model, bases, merged)
    record = Record.create(out)
    record.write_run(config.as_yaml())
    write_json(record.environment_json, environment(model.trained_parameters()))
    data = {name: facts for base in bases for name, facts in base.record.data().items()}
    write_json(record.data_json, {"version": VERSION, "tasks": data})
    of = {"runs": [str(base.record.folder.resolve()) for base in bases], "weights": weights}
    write_json(
        record.folder / FILE, {"version": VERSION, "method": mix.method, "density": mix.density, "seed": mix.seed, **of}
    )
    described = {name: each for base in bases for name, each in base.described().items()}
    save_model(model, record.model, tokenizer=bases[0].tokenizer, section=config.model, tasks=described)
    record.write_state("finished", 0)
    return Run(out)


def _checked(mix: Mix, count: int) -> list[float]:
    """Check the settings; gives the weights."""
    faults = []
    if count < 2:
        found = "one" if count else "none"
        faults.append(Fault("merge", "be given two runs at least", found, "Name the folders of both"))
    if mix.method not in METHODS:
        faults.append(Fault("--method", "be a way to merge adapters", f"`{mix.method}`", nearest(mix.method, METHODS)))
    weights = list(mix.weights) or [1 / max(count, 1)] * count
    if len(weights) != count:
        faults.append(Fault("--weights", f"be {count} numbers, one for each run", f"{len(weights)}"))
    if not all(math.isfinite(weight) for weight in weights):
        faults.append(Fault("--weights", "be finite numbers", f"`{weights}`"))
    if not 0 < mix.density <= 1:
        faults.append(Fault("--density", "be above 0 and at most 1", f"`{mix.density}`"))
    if faults:
        raise ConfigError(*faults)
    return weights


def _check_runs(bases: Sequence[Base]) -> None:
    """Refuse runs that are no runs of one backbone with a LoRA for all tasks, or that answer the same names."""
    first, seen = bases[0], dict.fromkeys(bases[0].tasks, bases[0].record.folder)
    for base in bases:
        _check_adapter(base)
    for base in bases[1:]:
        for name in base.tasks:
            if name in seen:
                found = f"`{name}` in `{seen[name]}` and in `{base.record.folder}`"
                raise ConfigError(Fault("merge", "be given runs whose tasks have different names", found))
            seen[name] = base.record.folder
        here, there = (each.config.model.model_copy() for each in (first, base))
        # Ranks are another matter, of the method; the rest has to agree.
        same = {key: (here.adapter or {}).get(key) for key in ("r", "lora_alpha", "use_rslora", "rank_pattern")}
        there.adapter = {**(there.adapter or {}), **same}
        compare_sections(here, there, str(base.record.folder), "merge")
        if bool(first.model.reads_words) != bool(base.model.reads_words):
            found = f"`{base.record.folder}` beside `{first.record.folder}`, of which one has a language head"
            raise ModelError(Fault("merge", "be given runs that all read words, or none", found))
        _check_splits(first, base)


def _check_adapter(base: Base) -> None:
    adapter, folder = base.config.model.adapter, base.record.folder
    if not adapter or adapter["type"] != "lora":
        found = f"`{folder}` with `{adapter['type']}`" if adapter else f"`{folder}` without an adapter"
        raise ModelError(Fault("merge", "be given runs with adapters of type `lora`", found))
    if base.model.own_adapters:
        found = f"`{folder}`, where {listed(sorted(base.model.own_adapters))} has one of its own"
        raise ModelError(Fault("merge", "be given runs with one adapter for all tasks", found))
    more = [key for key in ("modules_to_save", "bias", "use_dora") if adapter.get(key) not in (None, False, "none", [])]
    if more:
        found = f"`{folder}` with `{more[0]}`, which cannot be added up"
        raise ModelError(Fault("merge", "be given runs with plain LoRA adapters", found))


def _check_splits(first: Base, base: Base) -> None:
    """Refuse runs whose test rows would be drawn anew, some of them out of what one of the two was trained on."""
    made = any(facts.get("made") for facts in base.record.data().values())
    one, other = ({"seed": each.config.training["seed"], **each.config.splits.model_dump()} for each in (first, base))
    unlike = [key for key in one if one[key] != other[key]]
    if made and unlike:
        key = unlike[0]
        found = f"`{key}: {other[key]}` in `{base.record.folder}`, where Taskloom made splits"
        where = "training.seed" if key == "seed" else f"splits.{key}"
        raise ModelError(Fault(where, f"be `{one[key]}` in every run that is merged", found))


def add_up(bases: Sequence[Base], mix: Mix, weights: Sequence[float]) -> Any:
    """Add up the adapters of runs by peft's `add_weighted_adapter`.

    Returns:
        The first run's backbone, with a further adapter `merged`.

    Raises:
        ModelError: ranks differ and the method cannot add them up.
    """
    ranks = [base.config.model.adapter["r"] for base in bases]
    patterns = any((base.config.model.adapter or {}).get("rank_pattern") for base in bases)
    if (len(set(ranks)) > 1 or patterns) and mix.method not in OF_ANY_RANK:
        fix = f"Take one of {listed(OF_ANY_RANK)}, which can"
        requirement = f"be a way that adds up ranks {' and '.join(map(str, ranks))}"
        raise ModelError(Fault("--method", requirement, f"`{mix.method}`", fix))
    backbone: Any = bases[0].model.backbone
    names = [SHARED]
    for number, base in enumerate(bases[1:], start=2):
        names.append(f"run-{number}")
        backbone.load_adapter(str(base.record.model / ADAPTER), adapter_name=names[-1], is_trainable=False)
    options = {"density": mix.density} if mix.method in PRUNING else {}
    torch.manual_seed(mix.seed)
    try:
        backbone.add_weighted_adapter(names, list(weights), MERGED, combination_type=METHODS[mix.method], **options)
    except (ValueError, NotImplementedError, RuntimeError) as error:
        raise ModelError(Fault("merge", "be what peft can add up", f"what it answers with: {said(error)}")) from error
    return backbone


def _config(bases: Sequence[Base], merged: Any) -> Config:
    """Make the run file of all tasks, with the adapter as it became."""
    first, adapter = bases[0].config, dict(bases[0].config.model.adapter or {})
    became = merged.peft_config[MERGED]
    adapter |= {"r": became.r, "lora_alpha": float(became.lora_alpha)}
    adapter = {
        key: value for key, value in adapter.items() if key not in {"rank_pattern", "alpha_pattern", "use_rslora"}
    }
    resolved = first.resolved()
    tasks = {name: section for base in bases for name, section in base.config.resolved()["tasks"].items()}
    kept = {key: resolved[key] for key in ("training", "splits", "batching", "evaluation", "bad_rows")}
    fresh = {"start_step": 0, "end_step": None, "per_device_train_batch_size": None}
    tasks = {name: {**section, **fresh} for name, section in tasks.items()}
    model = {**resolved["model"], "adapter": adapter}
    return load_config({**kept, "model": model, "tasks": tasks, "mixture": "uniform"})


def load_merged(model: MultiTaskModel, bases: Sequence[Base], merged: Any) -> None:
    """Put the merged adapter and every run's heads into a model built for them."""
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    state = get_peft_model_state_dict(merged, adapter_name=MERGED, save_embedding_layers=False)
    set_peft_model_state_dict(model.backbone, state, adapter_name=SHARED)
    for base in bases:
        for name in base.tasks:
            model.heads[name].load_state_dict(base.model.heads[name].state_dict())
