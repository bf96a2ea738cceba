"""Everything before the first weight moves: tasks, rows, items, the plan of steps; every fault of the data at once."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from taskloom.balance import BALANCES
from taskloom.batches.chunks import Padding
from taskloom.batches.plan import LEAST_AHEAD, Plan, TaskDraws
from taskloom.batches.steps import Steps
from taskloom.config import Config, in_memory
from taskloom.config.schema import MixtureSection
from taskloom.data import SPLITS, Corpus, load
from taskloom.data.cache import Items, tokenised
from taskloom.errors import ConfigError, DataError, Fault
from taskloom.evaluation import Judged
from taskloom.mitigation import Mitigation
from taskloom.mitigation._beginning import begin_mitigations, columns_with_group
from taskloom.mixture import MIXTURES
from taskloom.model import check_backbone, load_tokenizer
from taskloom.model.families import NAMES, family_of
from taskloom.policy import POLICIES
from taskloom.tasks import TASKS, Task
from taskloom.tasks._heads import settled
from taskloom.tasks._unlabelled import share_heads
from taskloom.training.arguments import Length
from taskloom.types import Item

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

RECORD_STEPS = 10
"""How often conflict is recorded where a method or a policy looks at gradients and the run file says nothing of it."""

WHOLE = 10**6
"""A `max_length` that cuts nothing."""

LIMIT_TOLD = 5
"""How many rows that are too long are told of each task."""

InMemory = Mapping[str, Sequence[dict[str, Any]] | Mapping[str, Sequence[dict[str, Any]]]]
"""Task name -> rows (all of them training rows), or split -> rows."""


@dataclass
class Prepared:
    """A run's data, read, checked and tokenised.

    Attributes:
        config: the run.
        tokenizer: the backbone's.
        tasks: task name -> task, fitted on its training rows.
        corpora: task name -> rows of every split.
        items: task name -> split -> tokenised items.
        judged: task name -> how it is scored.
        padding: how inputs are filled up.
        mitigations: task name -> what its training does for groups, where it does anything.
    """

    config: Config
    tokenizer: PreTrainedTokenizerFast
    tasks: dict[str, Task]
    corpora: dict[str, Corpus]
    items: dict[str, dict[str, Items]]
    judged: dict[str, Judged]
    padding: Padding
    mitigations: dict[str, Mitigation] = field(default_factory=dict)

    def plan(self, length: Length, ahead: int = LEAST_AHEAD) -> Steps:
        """Make the plan of all micro-batches.

        Args:
            length: of the run.
            ahead: optimizer steps between a decision about the draws and its effect.

        Raises:
            ConfigError: the mixture lacks a task, a task is never drawn, or the rows of all are used up before the end.
        """
        plan = self._plan(length, max(ahead, LEAST_AHEAD))
        totals, empty = plan.foreseen()
        never = [name for name, count in totals.items() if not count]
        if never:
            raise ConfigError(*(self._never_drawn(name, length.updates) for name in never))
        if empty is not None:
            found = f"none in step {empty} of {length.updates}"
            fix = "Lower `training.max_steps`, or raise `max_epochs` or a task's `end_step`"
            raise ConfigError(Fault("training.max_steps", "leave rows of some task to each step", found, fix))
        train_items = {name: items["train"] for name, items in self.items.items()}
        batching = self.config.batching
        return Steps(
            plan,
            train_items,
            self.tasks,
            self.padding,
            batching.limit_tokens,
            packing=batching.packing,
            halves=self._compares_halves(),
        )

    def _never_drawn(self, name: str, updates: int) -> Fault:
        start = self.config.tasks[name].start_step
        if start >= updates:
            source = self.config.document.source(("tasks", name, "start_step"))
            requirement = f"lie before the run's end after {updates} steps"
            return Fault(f"tasks.{name}.start_step", requirement, f"`{start}`", source=source)
        fix = "Train longer, with larger batches, or with a flatter `mixture`"
        return Fault(f"tasks.{name}", "be drawn once at least", "no draw", fix)

    def _plan(self, length: Length, ahead: int) -> Plan:
        training, mixture = self.config.training, dict(self.config.mixture)
        common = {key: mixture.pop(key) for key in MixtureSection.model_fields}
        draws = {
            name: TaskDraws(
                len(self.items[name]["train"]),
                section.start_step,
                section.end_step,
                section.max_epochs,
                section.per_device_train_batch_size,
            )
            for name, section in self.config.tasks.items()
        }
        plan = Plan(
            draws,
            MIXTURES.load(common["strategy"])(**mixture),
            rows=training["per_device_train_batch_size"],
            updates=length.updates,
            each=length.steps // length.updates,
            seed=training["data_seed"] if training["data_seed"] is not None else training["seed"],
            floor=common["floor"],
            max_epochs=common["max_epochs"],
            ahead=ahead,
        )
        for name, mitigation in self.mitigations.items():
            strata = mitigation.strata()
            if strata is not None:
                plan.stratify(name, [strata[row] for row in self.items[name]["train"].rows])
        return plan

    def rows(self) -> int:
        """Give the rows of one micro-batch: those of tasks with rows of their own, and the others'."""
        own = [section.per_device_train_batch_size for section in self.config.tasks.values()]
        shared = self.config.training["per_device_train_batch_size"] if None in own else 0
        return int(shared + sum(rows or 0 for rows in own))

    def record_steps(self) -> int:
        """Give the steps after which conflict is recorded, 0 for never; by default as method and policies need it."""
        every: int | None = self.config.balance["record_steps"]
        if every is not None:
            return every
        read = any("conflicts" in POLICIES.load(section["name"]).needs for section in self.config.policies)
        looks = BALANCES.load(self.config.balance["method"]).needs not in {"nothing", "losses"}
        return RECORD_STEPS if looks or read else 0

    def _compares_halves(self) -> bool:
        """Say whether a statistic of the run compares the gradients of two halves of each task's rows."""
        return BALANCES.load(self.config.balance["method"]).needs == "cross_gramian" or self.record_steps() > 0

    def training_items(self) -> int:
        """Count the training items of all tasks together."""
        return sum(len(items["train"]) for items in self.items.values())

    def longest(self) -> Item:
        """Give the item with the longest sequence of all tasks and splits."""
        held = [items for splits in self.items.values() for items in splits.values() if len(items)]
        items = max(held, key=lambda each: int(each.lengths.max()))
        return items[int(items.lengths.argmax())]

    def place(self, name: str, row: int) -> str:
        """Say where a training row stands in the user's data."""
        return self.corpora[name].places["train"][row]

    def data_record(self) -> dict[str, Any]:
        """Give what data.json holds."""
        tasks = {}
        for name, corpus in self.corpora.items():
            tasks[name] = {
                "type": self.config.tasks[name].type,
                "splits": corpus.counts.as_json(),
                "made": [f"{made.split}: {made.rows} rows of train, kept apart by {made.by}" for made in corpus.made],
                "leaks": {f"{a} and {b}": count for (a, b), count in corpus.leaks.items() if count},
                "items": {split: len(items) for split, items in self.items[name].items()},
            }
        return {"version": 1, "tasks": tasks}


def prepare(config: Config, *, rows: InMemory | None = None, splits: Sequence[str] = SPLITS) -> Prepared:
    """Read, check and tokenise the data of every task.

    Args:
        config: the run.
        rows: rows in memory for tasks whose `data` is "memory".
        splits: which splits are tokenised; train is always among them.

    Raises:
        DataError: with the faults of all tasks.
        ModelError: the backbone or its tokenizer cannot be had.
    """
    backbone = check_backbone(config.model)
    tokenizer = load_tokenizer(config.model)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    tasks = {name: TASKS.load(section.type)(**config.options(name)) for name, section in config.tasks.items()}
    meet(config, tasks, backbone, tokenizer)
    corpora = load_corpora(config, tasks, rows or {})
    mitigations = begin_mitigations(config, tasks, corpora)
    limit = getattr(tokenizer, "model_max_length", None)
    check_lengths(config, tasks, limit)
    refuse_long(config, tasks, corpora, tokenizer)
    judged, items = {}, {}
    for name, task in tasks.items():
        items[name] = {
            split: Items(tokenised(task, corpora[name].splits[split], tokenizer))
            for split in SPLITS
            if split in corpora[name].splits and (split in splits or split == "train")
        }
        section = config.tasks[name]
        judged[name] = Judged(task, section.metrics, section.importance, corpora[name].splits["train"])
    return Prepared(config, tokenizer, tasks, corpora, items, judged, Padding.of(tokenizer, backbone), mitigations)


def meet(config: Config, tasks: Mapping[str, Task], backbone: Any, tokenizer: PreTrainedTokenizerFast) -> None:
    """Tell every task what backbone it is trained in.

    Args:
        config: the run.
        tasks: task name -> task.
        backbone: its configuration.
        tokenizer: its own.

    Raises:
        ConfigError: with every task that the backbone's family cannot serve, or whose tokenizer lacks something.
    """
    family, faults = family_of(backbone), []
    for name, task in tasks.items():
        if family not in task.families:
            able = " or ".join(NAMES[each] for each in NAMES if each in task.families)
            found = f"`{config.tasks[name].type}` in {NAMES[family]} (`{config.model.name_or_path}`)"
            source, fix = config.document.source(("tasks", name, "type")), f"It can be trained in {able}"
            faults.append(Fault(f"tasks.{name}.type", "be what the backbone can do", found, fix, source))
            continue
        try:
            task.meet(family, tokenizer)
            settled(getattr(task, "pooling", "mean"), family)
        except ConfigError as error:
            faults += [replace(fault, where=f"tasks.{name}.{fault.where}") for fault in error.faults]
    if not faults:
        try:
            share_heads(tasks)
        except ConfigError as error:
            faults += [
                replace(each, source=config.document.source(tuple(each.where.split(".")))) for each in error.faults
            ]
    if faults:
        raise ConfigError(*faults)


def load_corpora(config: Config, tasks: Mapping[str, Task], rows: InMemory) -> dict[str, Corpus]:
    """Load every task's rows, fitting the tasks; raises one `DataError` with the faults of all."""
    corpora: dict[str, Corpus] = {}
    faults: list[Fault] = []
    for name, task in tasks.items():
        section = config.tasks[name]
        if name not in rows and isinstance(section.data, str) and in_memory(section.data):
            fix = f"Give them as `rows={{'{name}': [...]}}`"
            faults.append(Fault(f"tasks.{name}.data", "come with rows in memory", "none", fix))
            continue
        try:
            corpora[name] = load(
                name,
                rows[name] if name in rows else config.data_of(name),
                task,
                columns=columns_with_group(section),
                bad_rows=config.bad_rows,
                seed=config.training["seed"],
                validation=config.splits.validation,
                test=config.splits.test,
                group="group" if config.splits.by == "group" else None,
            )
        except DataError as error:
            faults.extend(error.faults)
            continue
        except ConfigError as error:  # what only the rows show that an option lacks
            faults.extend(replace(fault, where=f"tasks.{name}.{fault.where}") for fault in error.faults)
            continue
        if section.limit_rows:
            _limit(corpora[name], section.limit_rows)
        if section.limit_train_rows:
            _limit_train(corpora[name], section.limit_train_rows, config.training["seed"])
    if faults:
        raise DataError(*faults)
    return corpora


def refuse_long(
    config: Config, tasks: Mapping[str, Task], corpora: Mapping[str, Corpus], tokenizer: PreTrainedTokenizerFast
) -> None:
    """Refuse rows that would be cut, of tasks that ask for it.

    Raises:
        DataError: with the first such rows of every task, and how many there are.
    """
    faults: list[Fault] = []
    for name, task in tasks.items():
        if config.tasks[name].too_long == "cut" or task.windows:
            continue
        whole = copy.copy(task)
        whole.max_length = WHOLE
        found = [
            (corpora[name].places[split][row], tokens)
            for split, rows in corpora[name].splits.items()
            for row, own in enumerate(whole.encode(rows, tokenizer))
            if (tokens := max(len(ids) for item in own for ids in item["input_ids"])) > task.max_length
        ]
        requirement = f"have at most {task.max_length} tokens in task `{name}`"
        more = f" ({len(found)} rows of the task are too long)" if len(found) > LIMIT_TOLD else ""
        fix = f"Raise `max_length`, or write `too_long: cut`{more}"
        faults += [Fault(place, requirement, str(tokens), fix) for place, tokens in found[:LIMIT_TOLD]]
    if faults:
        raise DataError(*faults)


def _limit(corpus: Corpus, rows: int) -> None:
    corpus.splits = {split: held[:rows] for split, held in corpus.splits.items()}
    corpus.places = {split: held[:rows] for split, held in corpus.places.items()}


def _limit_train(corpus: Corpus, rows: int, seed: int) -> None:
    """Keep some training rows, drawn once for each seed, in their order."""
    drawn = np.random.default_rng(seed).permutation(len(corpus.splits["train"]))[:rows]
    for held in (corpus.splits, corpus.places):
        held["train"] = [held["train"][place] for place in sorted(drawn.tolist())]


def check_lengths(config: Config, tasks: Mapping[str, Task], limit: int | None) -> None:
    """Refuse a `max_length` beyond what the backbone has places for.

    The tokenizer says so before weights are read, where it knows; the backbone itself is asked once it is there.

    Raises:
        ConfigError: with every task whose texts would be too long.
    """
    if not limit or limit > 10**6:
        return
    faults: list[Fault] = []
    for name, task in tasks.items():
        if task.max_length > limit:
            source = config.document.source(("tasks", name, "max_length"))
            found = f"`{task.max_length}`"
            faults.append(
                Fault(f"tasks.{name}.max_length", f"be at most the backbone's {limit} tokens", found, source=source)
            )
    if faults:
        raise ConfigError(*faults)
