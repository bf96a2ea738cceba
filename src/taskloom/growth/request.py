"""The file that adds a task to a run: one task as in a run file, and how it is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from taskloom.config import Config, load_config
from taskloom.config.document import Document, document_of, override, read_document
from taskloom.config.faults import unknown_key, validated
from taskloom.config.own_code import name_files
from taskloom.config.section import Section
from taskloom.config.training import followed
from taskloom.errors import ConfigError, Fault, nearest

KEYS = ("tasks", "training", "own_adapter", "gentle", "data_root")
"""What the file may say."""

OLD = "balance", "mixture", "policies", "curriculum"
"""Sections of the run that say how its tasks were trained together, which is over."""


class OwnAdapter(Section):
    """`own_adapter:` a LoRA that the new task's rows alone go through, beside the shared one."""

    r: int = Field(default=8, gt=0)
    lora_alpha: float | None = Field(default=None, gt=0, description="By default twice the rank.")
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    use_rslora: bool = False
    target_modules: str | list[str] | None = Field(default=None, description="By default those of the shared one.")


class Replay(Section):
    """`gentle: {method: replay}`: the run's tasks are trained on beside the new one."""

    method: Literal["replay"] = "replay"
    share: float = Field(default=0.5, gt=0, lt=1, description="Of the rows of each batch that the old tasks give.")


class Fisher(Section):
    """`gentle: {method: fisher}`: shared parts are held where the old tasks need them."""

    method: Literal["fisher"] = "fisher"
    strength: float = Field(default=1000.0, gt=0, description="How firmly they are held.")
    rows: int = Field(default=256, gt=0, description="Training rows of each old task that tell what it needs.")


Gentle = Replay | Fisher
GENTLE: dict[str, type[Replay] | type[Fisher]] = {"replay": Replay, "fisher": Fisher}


@dataclass(frozen=True)
class Request:
    """What is asked for, checked.

    Attributes:
        name: the new task's.
        alone: a run of the new task by itself.
        joint: a run of all tasks, as the grown folder's run.yaml says it.
        own_adapter: peft's fields of the task's own LoRA; None for none.
        gentle: how shared parts are trained on; None where they stay as they are.
    """

    name: str
    alone: Config
    joint: Config
    own_adapter: dict[str, Any] | None
    gentle: Gentle | None

    def identity(self) -> dict[str, Any]:
        """Give what of it run.yaml does not say."""
        gentle = self.gentle.model_dump() if self.gentle else None
        return {"task": self.name, "own_adapter": self.own_adapter, "gentle": gentle}


def read_request(
    source: Mapping[str, Any] | str | Path, base: Config, assignments: Sequence[str] = (), *, folder: str = ""
) -> Request:
    """Read and check what adds a task to a run.

    Args:
        source: a YAML file, or a mapping with its content.
        base: the run that is added to.
        assignments: ``a.b=value`` texts that override keys of the file.
        folder: the run's folder, for messages.

    Raises:
        ConfigError: with every fault.
    """
    document = document_of(source) if isinstance(source, Mapping) else read_document(Path(source))
    override(document, assignments)
    values, faults = document.values, name_files(document)
    faults += [unknown_key((key,), KEYS, document) for key in values if key not in KEYS]
    if (base.model.sharing or {}).get("scheme") == "groups":
        found, fix = "`groups`, which name every task", "Train the tasks together, in a run of their own"
        faults.append(Fault("model.sharing.scheme", "be one that a task can be added to", found, fix, folder))
    faults += _task_faults(values.get("tasks"), base, document, folder)
    faults += _training_faults(values.get("training"), document)
    own = _own_adapter(values.get("own_adapter"), base, document, faults)
    gentle = _gentle(values.get("gentle"), document, faults)
    if faults:
        raise ConfigError(*faults)
    alone, joint = _configs(values, base, document, gentle)
    return Request(next(iter(alone.tasks)), alone, joint, own, gentle)


def _task_faults(tasks: Any, base: Config, document: Document, folder: str) -> list[Fault]:
    where, source = "tasks", document.source(("tasks",))
    if not isinstance(tasks, dict) or len(tasks) != 1:
        count = f"{len(tasks)} tasks" if isinstance(tasks, dict) and tasks else "none"
        fix = (
            "Write `tasks:` and under it `NAME: {type: classification, data: FOLDER}`; call again for each further one"
        )
        return [Fault(where, "name one new task", count, fix, source)]
    name = next(iter(tasks))
    if name in base.tasks:
        requirement = f"have a name that no task of `{folder}` has" if folder else "have a new name"
        return [Fault(f"tasks.{name}", requirement, f"`{name}`", "Choose another", document.source(("tasks", name)))]
    return []


def _training_faults(training: Any, document: Document) -> list[Fault]:
    if training is None:
        return []
    if not isinstance(training, dict):
        source = document.source(("training",))
        return [Fault("training", "be a mapping", f"`{training}`", source=source)]
    if "seed" in training:
        source, fix = document.source(("training", "seed")), "Set `data_seed` for other draws"
        requirement = "be left to the run, whose splits were made by it"
        return [Fault("training.seed", requirement, f"`{training['seed']}`", fix, source)]
    return []


def _own_adapter(values: Any, base: Config, document: Document, faults: list[Fault]) -> dict[str, Any] | None:
    if values is None:
        return None
    shared, source = base.model.adapter, document.source(("own_adapter",))
    if not shared or shared["type"] != "lora":
        found = f"a run with `{shared['type']}`" if shared else "a run without an adapter"
        trained = "the scheme's parts and the head are" if base.model.sharing else "the head alone is"
        fix = f"Leave it out: {trained} trained"
        faults.append(Fault("own_adapter", "stand beside a shared adapter of type `lora`", found, fix, source))
        return None
    checked = validated(OwnAdapter, values, document, ("own_adapter",), faults)
    if not isinstance(checked, OwnAdapter):
        return None
    fields = checked.model_dump()
    fields["lora_alpha"] = fields["lora_alpha"] or 2.0 * checked.r
    fields["target_modules"] = fields["target_modules"] or shared["target_modules"]
    return fields


def _gentle(values: Any, document: Document, faults: list[Fault]) -> Gentle | None:
    if values is None:
        return None
    section = values if isinstance(values, dict) else {"method": values}
    method = section.get("method")
    if method not in GENTLE:
        source = document.source(("gentle", "method"))
        found = f"`{method}`" if method else "nothing"
        fix = nearest(str(method or ""), GENTLE)
        faults.append(Fault("gentle.method", "be a way to train shared parts on", found, fix, source))
        return None
    checked = validated(GENTLE[str(method)], section, document, ("gentle",), faults)
    return checked if isinstance(checked, Replay | Fisher) else None


def _configs(
    values: Mapping[str, Any], base: Config, document: Document, gentle: Gentle | None
) -> tuple[Config, Config]:
    """Make the run of the new task by itself, and that of all tasks."""
    resolved = {key: value for key, value in base.resolved().items() if key not in OLD}
    training = {**base.training, **followed(dict(values.get("training") or {}))}
    if values.get("own_adapter") is not None and "activation_checkpointing" not in (values.get("training") or {}):
        training["activation_checkpointing"] = False  # frozen layers hold no activations back that are worth it
    common = {**resolved, "training": training, "data_root": values.get("data_root") or "."}
    try:
        alone = load_config({**common, "tasks": values["tasks"]})
    except ConfigError as error:
        sourced = [replace(each, source=document.source(tuple(each.where.split(".")))) for each in error.faults]
        raise ConfigError(*sourced) from None
    fresh: dict[str, Any] = {"start_step": 0, "end_step": None, "per_device_train_batch_size": None}
    old = {name: {**section, **fresh} for name, section in resolved["tasks"].items()}
    joint = {**common, "data_root": ".", "mixture": "uniform", "tasks": {**old, **alone.resolved()["tasks"]}}
    if isinstance(gentle, Replay):
        name = next(iter(alone.tasks))
        ratios = {each: gentle.share / len(old) for each in old} | {name: 1 - gentle.share}
        joint |= {"mixture": {"strategy": "fixed", "ratios": ratios}, "balance": {"reduction": "example"}}
    return alone, load_config(joint)
