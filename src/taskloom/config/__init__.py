"""A run, described: read from YAML or given in Python, checked as a whole, with every fault told at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from taskloom.config.composites import checked_composite
from taskloom.config.curriculum import curriculum_faults
from taskloom.config.document import Document, document_of, dump, override, parse_document, read_document
from taskloom.config.fairness import checked_fairness, paced_faults
from taskloom.config.faults import unknown_key, validated
from taskloom.config.options import options_of, refused_options, without_gradient
from taskloom.config.own_code import name_files, without_echoes
from taskloom.config.parts import checked_adapter, checked_sharing, quantization_faults
from taskloom.config.policies import checked_policies
from taskloom.config.schema import (
    BALANCE_ROOM,
    METRIC_ROOM,
    MIXTURE_ROOM,
    TASK_ROOM,
    BatchingSection,
    ConfigBase,
    ModelSection,
    SplitsSection,
    TaskSection,
    balance_model,
    json_schema,
    mixture_model,
    task_model,
)
from taskloom.config.sections import CurriculumSection, EvaluationSection, TransferSection
from taskloom.config.training import followed, instantiate, renamed_faults, tracker_faults, training_model
from taskloom.errors import ConfigError, Fault, MissingExtraError, listed, nearest, said
from taskloom.room import FILE, Room

__all__ = ["Config", "json_schema", "load_config", "read_config"]

MEMORY = "memory"
"""What `data:` says where rows are given in Python; run.yaml adds their digest."""

PLAIN = ("splits", "batching", "curriculum", "transfer", "evaluation")
"""Sections that are what they were read as."""

TASK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass
class Config:
    """A run file that has passed every check that needs no data and no weights.

    Attributes:
        model: the backbone and its adapter.
        tasks: task name -> its section, in the order of the file.
        mixture: how often each task is drawn: `strategy` and its options.
        balance: how much each task's gradient counts: `method`, its options, and the keys of `BalanceSection`.
        policies: what watches the tasks: for each its `name` and its options, in order.
        training: fields of TrainingArguments.
        splits: sizes of splits to be made.
        batching: how steps are cut.
        curriculum: in which order tasks and items are learned.
        transfer: how training is probed for what tasks do for each other.
        evaluation: what is scored.
        data_root: where relative data paths begin.
        bad_rows: "refuse" or "skip".
        document: where it was read from, for messages.
    """

    model: ModelSection
    tasks: dict[str, TaskSection]
    mixture: dict[str, Any]
    balance: dict[str, Any]
    policies: list[dict[str, Any]]
    training: dict[str, Any]
    splits: SplitsSection
    batching: BatchingSection
    curriculum: CurriculumSection
    transfer: TransferSection
    evaluation: EvaluationSection
    data_root: str
    bad_rows: Literal["refuse", "skip"]
    document: Document

    def options(self, task: str) -> dict[str, Any]:
        """Give the options of a task's type, without the keys that every task has."""
        return options_of(self.tasks[task])

    def data_of(self, task: str) -> str | dict[str, str]:
        """Give a task's data with `data_root` applied: paths that exist become absolute, hub names stay."""
        data = self.tasks[task].data
        if isinstance(data, str):
            return self._place(data)
        return {split: self._place(path) for split, path in data.items()}

    def resolved(self) -> dict[str, Any]:
        """Give the whole run as plain values, defaults included; reading them again gives the same run."""
        tasks = {name: checked.model_dump() for name, checked in self.tasks.items()}
        for name, section in tasks.items():
            section["data"] = self.data_of(name)
        return {
            "model": self.model.model_dump(),
            "tasks": tasks,
            "mixture": self.mixture,
            "balance": self.balance,
            "policies": self.policies,
            "training": self.training,
            **{key: getattr(self, key).model_dump() for key in PLAIN},
            "data_root": ".",
            "bad_rows": self.bad_rows,
        }

    def as_yaml(self) -> str:
        """Write the resolved run as YAML 1.2."""
        return dump(self.resolved())

    def _place(self, data: str) -> str:
        if in_memory(data):
            return data
        path = Path(self.data_root, data).expanduser()
        looks_local = path.exists() or data.startswith((".", "/", "~")) or Path(data).suffix
        return str(path.resolve()) if looks_local or self.data_root != "." else data


def in_memory(data: str) -> bool:
    """Tell rows given in Python from a folder whose name only begins like that."""
    return data == MEMORY or data.startswith(f"{MEMORY}:")


def read_config(path: str | Path, assignments: Sequence[str] = ()) -> Config:
    """Read and check a run file.

    Args:
        path: a YAML file.
        assignments: ``a.b=value`` texts that override keys of the file.

    Raises:
        ConfigError: with every fault of the file at once.
    """
    document = read_document(Path(path))
    override(document, assignments)
    return _check(document)


def load_config(values: Mapping[str, Any] | str, assignments: Sequence[str] = ()) -> Config:
    """Check a run given as a mapping or as YAML text; raises `ConfigError` as `read_config` does."""
    document = parse_document(values, "config") if isinstance(values, str) else document_of(values)
    override(document, assignments)
    return _check(document)


def _check(document: Document) -> Config:
    """Validate all sections, gathering the faults of each before telling any."""
    files, faults = name_files(document), list[Fault]()
    values = dict(document.values)
    special = {key: values.pop(key, None) for key in ("tasks", "mixture", "balance", "policies", "training")}
    special = {key: {} if value is None else value for key, value in special.items()}
    base = _base(values, document, faults, list(special))
    tasks = _tasks(special["tasks"], document, faults)
    mixture = _mixture(special["mixture"], special["tasks"], document, faults)
    balance = _balance(special["balance"], special["tasks"], document, faults)
    training = _training(special["training"], document, faults)
    policies = checked_policies(special["policies"], special["tasks"], balance, training, document, faults)
    composite = checked_composite(values.get("evaluation"), special["tasks"], document, faults)
    faults += curriculum_faults(values.get("curriculum"), special["tasks"], document)
    faults += paced_faults(tasks, values.get("curriculum"), document)
    model = values.get("model")
    adapter = sharing = None
    if isinstance(model, dict):
        adapter = checked_adapter(model.get("adapter"), document, faults)
        sharing = checked_sharing(model, special["tasks"], document, faults)
        faults += quantization_faults(model, document)
    faults = [*files, *without_echoes(faults, files)]
    if faults or not isinstance(base, ConfigBase):
        raise ConfigError(*sorted(faults, key=lambda fault: _line(fault, document)))
    base.model.adapter, base.model.sharing = adapter, sharing
    base.evaluation.composite = composite
    place = Path(base.model.name_or_path).expanduser()
    if place.is_dir():  # kept whole, so that the model is found from any folder
        base.model.name_or_path = str(place.resolve())
    if base.model.start_from is not None:
        base.model.start_from = str(Path(base.model.start_from).expanduser().resolve())
    sections = {name: getattr(base, name) for name in ConfigBase.model_fields}
    sections |= {"tasks": tasks, "mixture": mixture, "balance": balance, "policies": policies, "training": training}
    return Config(**sections, document=document)


def _base(values: Any, document: Document, faults: list[Fault], also_known: Sequence[str]) -> BaseModel | None:
    """Check the sections that need no other room; a key that is none of theirs may be meant for `also_known`."""
    found: list[Fault] = []
    base = validated(ConfigBase, values, document, (), found)
    for fault in found:
        stranger = "." not in fault.where and "be a key" in fault.requirement
        known = [*ConfigBase.model_fields, *also_known]
        faults.append(unknown_key((fault.where,), known, document) if stranger else fault)
    return base


def _tasks(values: Any, document: Document, faults: list[Fault]) -> dict[str, TaskSection]:
    if not isinstance(values, dict) or not values:
        fix = "Write `tasks:` and under it `NAME: {type: classification, data: FOLDER}`"
        found = f"`{values}`" if values else "nothing"
        faults.append(Fault("tasks", "name at least one task", found, fix, document.source(("tasks",))))
        return {}
    tasks = {}
    for name, section in values.items():
        path = ("tasks", name)
        if not TASK_NAME.fullmatch(name) or name == "composite":
            requirement = "be a name of letters, digits, `_` and `-` other than `composite`"
            faults.append(Fault(f"tasks.{name}", requirement, f"`{name}`", source=document.source(path)))
            continue
        if not isinstance(section, dict):
            found = "nothing" if section is None else f"`{section}`"
            fix = f"Write `{name}: {{type: classification, data: FOLDER}}`"
            faults.append(Fault(f"tasks.{name}", "be a mapping", found, fix, document.source(path)))
            continue
        model = _room_model(TASK_ROOM, task_model, section, "type", path, document, faults)
        if model is None:
            _common_keys(section, path, document, faults)
            continue
        checked = validated(model, section, document, path, faults)
        task_type = TASK_ROOM.load(str(section["type"]))
        wanted = section.get("metrics")
        named = [metric for metric in wanted if isinstance(metric, str)] if isinstance(wanted, list) else []
        faults += _metric_faults(name, str(section["type"]), named, document)
        if isinstance(checked, TaskSection):
            checked.metrics = list(dict.fromkeys(checked.metrics or task_type.default_metrics))
            checked.importance = section.get("importance", task_type.importance)
            faults += refused_options(name, task_type, checked, document)
            checked.fairness = checked_fairness(name, checked.fairness, task_type, document, faults)
            tasks[name] = checked
    return tasks


def _common_keys(section: Mapping[str, Any], path: tuple[str, ...], document: Document, faults: list[Fault]) -> None:
    """Check what can be checked of a task without knowing its type."""
    common = {key: value for key, value in section.items() if key in TaskSection.model_fields}
    validated(TaskSection, {**common, "type": "unknown"}, document, path, faults)


def _room_model(
    room: Room[Any],
    make: Callable[[str], type[BaseModel]],
    section: Any,
    key: str,
    path: tuple[str, ...],
    document: Document,
    faults: list[Fault],
) -> type[BaseModel] | None:
    """Give the model that a section's `type` or `strategy` asks for; notes a fault where it is none of the room's."""
    where = ".".join((*path, key))
    name = section.get(key) if isinstance(section, dict) else None
    if name is None:
        fix = f"Add `{key}:` with one of {listed(room.names())}"
        faults.append(Fault(where, f"be a {room.noun} that Taskloom has", "nothing", fix, document.source(path)))
        return None
    try:
        return make(str(name))
    except ConfigError as error:
        inner = error.faults[0]
        source = document.source((*path, key))
        faults.append(Fault(where, inner.requirement, inner.found, inner.fix, source))
        return None


def _metric_faults(name: str, type_name: str, metrics: Sequence[str], document: Document) -> list[Fault]:
    """Find metrics that do not exist, or cannot read the predictions of a task's type."""
    kind, faults = TASK_ROOM.load(type_name).predicts, []
    for index, metric in enumerate(metrics):
        where, source = f"tasks.{name}.metrics", document.source(("tasks", name, "metrics", index))
        try:
            accepts = METRIC_ROOM.load(metric).accepts
        except ConfigError as error:
            inner = error.faults[0]
            requirement = inner.requirement if FILE.fullmatch(metric) else "name metrics that Taskloom has"
            faults.append(Fault(where, requirement, inner.found, inner.fix, source))
            continue
        if kind not in accepts:
            fitting = [other for other in METRIC_ROOM.names() if kind in METRIC_ROOM.load(other).accepts]
            requirement = f"name metrics that fit tasks of type `{type_name}`"
            faults.append(Fault(where, requirement, f"`{metric}`", f"Choose from {listed(fitting)}", source))
    return faults


def _mixture(values: Any, tasks: Mapping[str, Any], document: Document, faults: list[Fault]) -> dict[str, Any]:
    section = {"strategy": "temperature", **values} if isinstance(values, dict) else {"strategy": values}
    model = _room_model(MIXTURE_ROOM, mixture_model, section, "strategy", ("mixture",), document, faults)
    return _method(model, section, "mixture", tasks, document, faults)


def _balance(values: Any, tasks: Mapping[str, Any], document: Document, faults: list[Fault]) -> dict[str, Any]:
    """Check `balance:`, at last by making the method and letting it meet the tasks."""
    section = {"method": "equal", **values} if isinstance(values, dict) else {"method": values}
    before = len(faults)
    model = _room_model(BALANCE_ROOM, balance_model, section, "method", ("balance",), document, faults)
    resolved = _method(model, section, "balance", tasks, document, faults)
    if not resolved:
        return {}
    name = resolved["method"]
    method = BALANCE_ROOM.load(name)
    if isinstance(tasks, dict) and len(tasks) == 1 and method.minimum_tasks > 1:
        found, fix = f"one task (`{next(iter(tasks))}`)", "Write `method: equal`, or leave out `balance`"
        source = document.source(("balance", "method"))
        faults.append(Fault("balance.method", "be given two tasks at least", found, fix, source))
    statistic, apart = resolved["statistic"], resolved["separate_moments"]
    if (method.needs == "jacobian" or apart) and statistic not in {"auto", "jacobian"}:
        reader = "`separate_moments`" if apart else f"`{name}`"
        requirement = f"be `auto` or `jacobian` for {reader}, which reads the gradients themselves"
        source = document.source(("balance", "statistic"))
        faults.append(Fault("balance.statistic", requirement, f"`{statistic}`", source=source))
    if apart and method.gives_vector:
        requirement = f"be left out with `{name}`, which gives one gradient for all tasks"
        source = document.source(("balance", "separate_moments"))
        faults.append(Fault("balance.separate_moments", requirement, "`true`", source=source))
    if method.needs not in {"nothing", "losses"}:
        faults += without_gradient(tasks, name, document)
    if len(faults) == before and tasks:
        options = {key: value for key, value in resolved.items() if key in BALANCE_ROOM.options(name)}
        try:
            method(**options).begin(list(tasks))
        except (ConfigError, MissingExtraError) as error:
            for fault in error.faults:
                own = fault.where.startswith("balance.")
                path = fault.where.split(".") if own else ("balance", "method")
                faults.append(replace(fault, source=document.source(tuple(path))))
    return resolved


def _method(
    model: type[BaseModel] | None,
    section: dict[str, Any],
    key: str,
    tasks: Mapping[str, Any],
    document: Document,
    faults: list[Fault],
) -> dict[str, Any]:
    """Check the section of a room's method; what it says of tasks may name only those of the run."""
    checked = validated(model, section, document, (key,), faults) if model else None
    if checked is None:
        return {}
    resolved = checked.model_dump()
    for option, value in resolved.items():
        unknown = [name for name in value if name not in tasks] if isinstance(value, dict) and tasks else []
        for name in unknown:
            where, source = f"{key}.{option}.{name}", document.source((key, option, name))
            faults.append(Fault(where, "be one of the run's tasks", f"`{name}`", nearest(name, tasks), source))
    return resolved


def _training(values: Any, document: Document, faults: list[Fault]) -> dict[str, Any]:
    """Check `training:` by our model of the fields and by TrainingArguments itself."""
    if not isinstance(values, dict):
        faults.append(Fault("training", "be a mapping", f"`{values}`", source=document.source(("training",))))
        return {}
    values = dict(values)
    renamed = renamed_faults(values, document)
    before = len(faults)
    checked = validated(training_model(), followed(values), document, ("training",), faults)
    sound = len(faults) == before
    faults.extend(renamed)
    if checked is None or not sound:
        return {}
    resolved = checked.model_dump()
    try:
        instantiate(resolved, "unused")
    except (ValueError, TypeError, ImportError, RuntimeError) as error:
        found = f"what it answers with: {said(error)}"
        faults.append(Fault("training", "be what transformers accepts", found, source=document.source(("training",))))
    faults.extend(tracker_faults(resolved["report_to"], document))
    return resolved


def _line(fault: Fault, document: Document) -> int:
    _, _, number = fault.source.rpartition(":")
    return int(number) if number.isdigit() and fault.source.startswith(document.name) else 0
