"""The file that describes a study: a run, what is compared with it, seeds and budget."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from taskloom.config import Config, load_config
from taskloom.config.document import Document, document_of, override, read_document
from taskloom.config.faults import unknown_key, validated
from taskloom.config.section import Section
from taskloom.errors import ConfigError, Fault, nearest
from taskloom.growth.merging import METHODS, Mix
from taskloom.record import read_note
from taskloom.study.members import flattened, put

JOINT, SINGLE, RANDOM = "joint", "single", "random_weights"
"""Arms that are always there: the run as it is, each task alone, and, as a control, random loss weights."""

RANDOM_WEIGHTS = {"balance": {"method": "random"}}
RUN_KEY = "run."
KINDS = ("groups", "plan", "merge")
BUDGETED = {
    "training.max_steps",
    "training.num_train_epochs",
    "training.seed",
    "training.data_seed",
    "training.per_device_train_batch_size",
    "training.gradient_accumulation_steps",
    "evaluation.splits",
}
"""Keys that are the same for all arms, or no comparison would be one."""

ARM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
"""Names of arms stand in names of files; a colon tells the runs of an arm apart."""


class BudgetSection(Section):
    """`budget:` what every run may use."""

    rule: Literal["steps", "tokens", "seconds"] = Field(default="steps", description="What is counted.")
    limit: float | None = Field(default=None, gt=0, description="Tokens or seconds of a run, where those are counted.")


class TuningSection(Section):
    """`tuning:` trials for each arm, the same number for all."""

    trials: int = Field(gt=0, description="Trials of each arm.")
    parameters: dict[str, list[Any]] = Field(
        min_length=1, description="Dotted key -> two numbers to draw between by logarithm, or values to choose from."
    )
    share: float = Field(default=0.25, gt=0, le=1, description="Of the budget's steps, for one trial.")


class StudySection(Section):
    """The keys of a study's file."""

    run: str | dict[str, Any] = Field(description="A run file, or its sections.")
    seeds: int | list[int] = Field(default=3, description="How many seeds, or which.")
    budget: BudgetSection = Field(default_factory=BudgetSection)
    arms: dict[str, dict[str, Any] | None] = Field(default_factory=dict, description="Name -> what is changed.")
    tuning: TuningSection | None = Field(default=None, description="Trials before an arm's runs; null for none.")
    controls: bool = Field(default=True, description="Whether random loss weights are among the arms.")
    margin: float = Field(default=0.01, gt=0, description="A difference of scores that does not matter.")
    level: float = Field(default=0.05, gt=0, lt=0.5, description="How often a verdict may be a false alarm.")
    workers: int = Field(default=1, gt=0, description="Runs that train side by side on one machine.")
    executor: Literal["processes", "ray"] = Field(
        default="processes", description="Where runs train: processes of this machine, or a Ray cluster's machines."
    )


@dataclass(frozen=True)
class Arm:
    """What a study compares with each task alone.

    Attributes:
        name: its name.
        groups: tasks that share a model, each in one group; of one group there is one model.
        overrides: dotted key of the run -> what is put there.
        merge: how the adapters of single-task runs are added up: `growth.merging.Mix` fields; None where it is trained.
    """

    name: str
    groups: tuple[tuple[str, ...], ...]
    overrides: Mapping[str, Any] = field(default_factory=dict)
    merge: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Study:
    """A study, checked.

    Attributes:
        base: the run of all tasks.
        arms: the single tasks first, then the joint run, the control and the arms of the file.
        seeds: of every arm.
        section: everything else that the file says.
    """

    base: Config
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    section: StudySection


def read_study(source: Mapping[str, Any] | str | Path, assignments: Sequence[str] = ()) -> Study:
    """Read and check a study's file, and the run that it is about.

    Args:
        source: a YAML file, or a mapping with its content.
        assignments: ``a.b=value`` texts that override keys of the file, ``run.a=value`` also those of a run file.

    Raises:
        ConfigError: with every fault of the file, or of its run.
    """
    document = document_of(source) if isinstance(source, Mapping) else read_document(Path(source))
    inner = [each for each in assignments if each.startswith(RUN_KEY) and isinstance(document.values.get("run"), str)]
    override(document, [each for each in assignments if each not in inner])
    faults: list[Fault] = []
    section = validated(StudySection, document.values, document, (), faults)
    if not isinstance(section, StudySection):
        raise ConfigError(*faults)
    folder = Path() if isinstance(source, Mapping) else Path(source).parent
    base = _base(section.run, folder, [each.removeprefix(RUN_KEY) for each in inner])
    seeds = tuple(range(section.seeds)) if isinstance(section.seeds, int) else tuple(section.seeds)
    if not seeds or len(set(seeds)) < len(seeds):
        requirement, source_of = "be different numbers, one at least", document.source(("seeds",))
        faults.append(Fault("seeds", requirement, f"`{section.seeds}`", source=source_of))
    arms = _arms(section, base, document, folder, faults)
    if section.tuning is not None:
        faults += _override_faults("tuning.parameters", section.tuning.parameters, base, document)
    if "test" not in base.evaluation.splits:
        found = f"`{base.evaluation.splits}`"
        faults.append(Fault("run: evaluation.splits", "have `test`, by which a study compares", found))
    if faults:
        raise ConfigError(*faults)
    return Study(base, tuple(arms), seeds, section)


def _base(run: str | dict[str, Any], folder: Path, assignments: Sequence[str]) -> Config:
    """Read the run; a path begins where the study's file stands."""
    from taskloom.config import read_config

    return load_config(run) if isinstance(run, dict) else read_config(folder / run, assignments)


def _arms(section: StudySection, base: Config, document: Document, folder: Path, faults: list[Fault]) -> list[Arm]:
    tasks = tuple(base.tasks)
    arms = [Arm(SINGLE, tuple((name,) for name in tasks)), Arm(JOINT, (tasks,))]
    if section.controls and len(tasks) > 1:
        arms.append(Arm(RANDOM, (tasks,), RANDOM_WEIGHTS))
    for name, values in section.arms.items():
        path = ("arms", name)
        if name in {SINGLE, RANDOM} or (name == JOINT and values):
            fix = "Choose another name"
            requirement = f"not be called `{name}`, which is what every study has"
            faults.append(Fault(f"arms.{name}", requirement, f"`{name}`", fix, document.source(path)))
        elif not ARM_NAME.fullmatch(name):
            requirement = "be letters, digits, `_`, `-` and `.`"
            faults.append(Fault(f"arms.{name}", requirement, f"`{name}`", source=document.source(path)))
        elif name != JOINT:
            arm = _arm(name, values or {}, base, document, folder, faults)
            if arm is not None:
                arms.append(arm)
    return arms


def _arm(
    name: str, values: dict[str, Any], base: Config, document: Document, folder: Path, faults: list[Fault]
) -> Arm | None:
    """Make one arm, and check that its run would be a run."""
    path, tasks, before = ("arms", name), tuple(base.tasks), len(faults)
    groups: tuple[tuple[str, ...], ...] = (tasks,)
    merge = values.get("merge")
    if "plan" in values:
        groups = _planned(folder / str(values["plan"]), tasks, (*path, "plan"), document, faults)
    elif "groups" in values:
        groups = _groups(values["groups"], tasks, (*path, "groups"), document, faults)
    if merge is not None:
        merge = merge if isinstance(merge, dict) else {"method": merge}
        faults += _merge_faults(name, merge, base, document)
        groups = tuple((task,) for task in tasks)
    overrides = flattened({key: value for key, value in values.items() if key not in KINDS})
    faults += _override_faults(f"arms.{name}", overrides, base, document)
    if len(faults) == before:
        faults += _run_faults(name, overrides, base)
    return None if len(faults) > before else Arm(name, groups, overrides, merge)


def _merge_faults(name: str, merge: Mapping[str, Any], base: Config, document: Document) -> Iterator[Fault]:
    """Find what is wrong with a merged arm before its runs are trained."""
    path = ("arms", name, "merge")
    where, source = ".".join(path), document.source(path)
    method, density = merge.get("method", "linear"), merge.get("density", 0.5)
    if method not in METHODS:
        yield Fault(
            f"{where}.method", "be a way to merge adapters", f"`{method}`", nearest(str(method), METHODS), source
        )
    options = [field.name for field in fields(Mix)]
    for key in merge:
        if key not in options:
            yield Fault(f"{where}.{key}", "be an option of merging", f"`{key}`", nearest(key, options), source)
    if not isinstance(density, int | float) or not 0 < density <= 1:
        yield Fault(f"{where}.density", "be above 0 and at most 1", f"`{density}`", source=source)
    if (base.model.adapter or {}).get("type") != "lora":
        yield Fault(where, "merge the LoRA adapters of single-task runs", "a run without one", source=source)


def _override_faults(where: str, overrides: Mapping[str, Any], base: Config, document: Document) -> list[Fault]:
    """Find keys that no run has, and those that a study sets for all arms alike."""
    known, faults = base.resolved(), []
    for key, value in overrides.items():
        path = (*where.split("."), key)
        if key in BUDGETED:
            fix = "Set `budget` or `seeds` for all arms alike"
            requirement = "leave steps, rows of a step, seeds and splits to the study"
            faults.append(Fault(".".join(path), requirement, f"`{value}`", fix, document.source(path)))
        elif key.partition(".")[0] not in known:
            faults.append(unknown_key(path, [*known, *KINDS], document))
    return faults


def _run_faults(name: str, overrides: Mapping[str, Any], base: Config) -> list[Fault]:
    """Find what is wrong with a run as an arm changes it."""
    values = base.resolved()
    for key, value in overrides.items():
        put(values, key.split("."), value)
    try:
        load_config(values)
    except ConfigError as error:
        return [Fault(f"arms.{name}: {f.where}", f.requirement, f.found, f.fix) for f in error.faults]
    return []


def _groups(
    found: Any, tasks: Sequence[str], path: tuple[str, ...], document: Document, faults: list[Fault]
) -> tuple[tuple[str, ...], ...]:
    where, source = ".".join(path), document.source(path)
    listed = [name for group in found for name in group] if _are_lists(found) else []
    if sorted(listed) != sorted(tasks):
        requirement = "be lists of tasks in which each task of the run stands once"
        faults.append(Fault(where, requirement, f"`{found}`", source=source))
        return ()
    return tuple(tuple(name for name in tasks if name in group) for group in found)


def _are_lists(found: Any) -> bool:
    return isinstance(found, list) and all(isinstance(group, list) for group in found)


def _planned(
    place: Path, tasks: tuple[str, ...], path: tuple[str, ...], document: Document, faults: list[Fault]
) -> tuple[tuple[str, ...], ...]:
    """Take the groups of a plan that `taskloom plan` wrote."""
    held = read_note(place if place.suffix else place / "plan.json")
    chosen = held.get("chosen")
    plan = next((each for each in held.get("plans", []) if each["k"] == chosen), None)
    if plan is None:
        fix = "`taskloom plan FOLDER` writes one"
        faults.append(Fault(".".join(path), "be a plan", f"`{place}`", fix, document.source(path)))
        return ()
    return _groups(plan["groups"], tasks, path, document, faults)
