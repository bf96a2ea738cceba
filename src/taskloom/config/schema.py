"""A run, described: what a run file may say, with types, defaults and limits."""

from __future__ import annotations

import dataclasses
import functools
import importlib
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, create_model

from taskloom.config.section import Section
from taskloom.config.sections import CurriculumSection, EvaluationSection, TransferSection
from taskloom.config.training import training_model
from taskloom.room import Room

TASK_ROOM: Room[Any] = Room("taskloom.tasks", "task type")
MIXTURE_ROOM: Room[Any] = Room("taskloom.mixture", "mixture")
METRIC_ROOM: Room[Any] = Room("taskloom.metrics", "metric")
POLICY_ROOM: Room[Any] = Room("taskloom.policy", "policy")
COMPOSITE_ROOM: Room[Any] = Room("taskloom.composite", "composite score")
SHARING_ROOM: Room[Any] = Room("taskloom.model.sharing", "sharing scheme")
MITIGATION_ROOM: Room[Any] = Room("taskloom.mitigation", "mitigation")
# Found by its name, as the others are; it has methods of a library beside those of its folder.
BALANCE_ROOM: Room[Any] = importlib.import_module("taskloom.balance").BALANCES

ADAPTERS_REFUSED = ("prompt_tuning", "multitask_prompt_tuning", "p_tuning", "prefix_tuning", "adaption_prompt", "cpt")
"""Adapters of peft that lengthen the input: the tokens of tagging and of answers would move."""

OPTION_LIMITS: dict[tuple[str, Any], Any] = {
    ("max_length", int): Annotated[int, Field(ge=8)],
    ("dropout", float): Annotated[float, Field(ge=0, lt=1)],
}
"""Options that many task types have, by name and type -> the same with limits."""


class HeadExpertsSection(Section):
    """`model.head_experts:` networks between the backbone and the heads, mixed by a gate of each task."""

    experts: int = Field(default=4, ge=1, description="How many networks all tasks have in common.")
    own: int = Field(default=0, ge=0, description="How many each task has for itself besides.")
    width: int = Field(default=64, ge=1, description="Of the middle of each network.")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Of the middle of each network.")


class ModelSection(Section):
    """`model:` the backbone and what is trained of it."""

    name_or_path: str = Field(min_length=1, description="A folder, or a name on the Hugging Face hub.")
    revision: str | None = Field(default=None, description="Branch, tag or commit on the hub.")
    dtype: Literal["float32", "bfloat16", "float16"] = Field(default="float32", description="Of the stored weights.")
    quantization: Literal["nf4", "int8"] | None = Field(
        default=None, description="Load the frozen backbone in 4 or 8 bits, by bitsandbytes; beside an adapter alone."
    )
    attn_implementation: str | None = Field(default=None, description="As in transformers: sdpa, eager, …")
    trust_remote_code: bool = Field(default=False, description="Runs code from the hub; leave it off.")
    head_learning_rate: float | None = Field(
        default=None, gt=0, description="Of every head; by default ten times `training.learning_rate`."
    )
    start_from: str | None = Field(default=None, description="A finished run whose weights it begins with.")
    adapter: Any = Field(
        default=None, description="A peft adapter with its `type`, for all tasks; null trains all of the backbone."
    )
    sharing: Any = Field(
        default=None,
        description="In the adapter's place, a scheme of shared and task-specific parts with its `scheme`.",
    )
    head_experts: HeadExpertsSection | None = Field(
        default=None, description="Networks between the backbone and the heads; `{}` for those by default."
    )


class FairnessSection(Section):
    """`fairness:` of a task, what its training does for groups; the options of the method stand beside these keys."""

    method: str = Field(description="A method of `taskloom list mitigations`, or `package.module:ClassName`.")
    group: str | None = Field(default=None, min_length=1, description="The data's column of groups.")


class TaskSection(Section):
    """The keys that every task has; a task's type adds its own options beside them."""

    type: str = Field(min_length=1, description="A task type of `taskloom list tasks`, or `package.module:ClassName`.")
    data: str | dict[str, str] = Field(description="A folder, a file, a path for each split, or a name on the hub.")
    columns: dict[str, str] = Field(default_factory=dict, description="The task's column -> the data's column.")
    weight: float = Field(default=1.0, gt=0, description="How much the task's loss counts in the objective.")
    learning_rate: float | None = Field(
        default=None, gt=0, description="Of the task's own head; by default `model.head_learning_rate`."
    )
    shared_update: float = Field(
        default=1.0, ge=0, description="Factor on what of its gradient reaches the shared parts; its head gets all."
    )
    importance: float = Field(default=1.0, ge=0, description="How much its score counts in the composite score.")
    metrics: list[str] = Field(default_factory=list, description="The first is the task's score; default by type.")
    limit_rows: int | None = Field(default=None, gt=0, description="Use only the first rows of each split.")
    limit_train_rows: int | None = Field(
        default=None,
        gt=0,
        description="Train on so many rows alone, drawn once; fewer are among more.",
    )
    too_long: Literal["cut", "refuse"] = Field(
        default="cut", description="What becomes of a row with more tokens than `max_length`."
    )
    per_device_train_batch_size: int | None = Field(
        default=None, gt=0, description="Rows in every batch, beside those that `mixture` gives the other tasks."
    )
    start_step: int = Field(default=0, ge=0, description="The optimizer step from which on it is trained.")
    end_step: int | None = Field(default=None, gt=0, description="The optimizer step from which on it is not.")
    max_epochs: float | None = Field(default=None, gt=0, description="How often its rows are drawn at most.")
    fairness: Any = Field(default=None, description="What its training does for groups, with its `method`.")


class MixtureSection(Section):
    """`mixture:` how often each task is drawn; the options of the strategy stand beside these keys."""

    strategy: str = Field(default="temperature", description="A strategy of `taskloom list mixtures`.")
    floor: float = Field(default=0.0, ge=0, lt=1, description="Least share of each task.")
    max_epochs: float | None = Field(default=None, gt=0, description="How often any task's rows are drawn at most.")
    update_steps: int = Field(
        default=20, gt=0, description="Optimizer steps after which a strategy that watches training is asked again."
    )


class SplitsSection(Section):
    """`splits:` how large a split is that the data does not bring along."""

    validation: float = Field(default=0.1, gt=0, lt=0.5, description="Share of the training rows.")
    test: float = Field(default=0.1, gt=0, lt=0.5, description="Share of the training rows.")
    by: Literal["near_duplicate", "group"] = Field(
        default="near_duplicate", description="What is kept on one side: like texts, or rows of one mapped `group`."
    )


class BatchingSection(Section):
    """`batching:` how a step is cut into rectangles of like length."""

    limit_tokens: int = Field(default=4096, gt=0, description="Tokens of one rectangle, padding included.")
    packing: bool = Field(
        default=False, description="Pack sequences of one task into one row where that leaves less padding."
    )


class BalanceSection(Section):
    """`balance:` how much each task's gradient counts; the options of the method stand beside these keys."""

    method: str = Field(
        default="equal", description="A method of `taskloom list balance`, or `package.module:ClassName`."
    )
    reduction: Literal["task", "example", "token"] = Field(
        default="task", description="Whether each task, each example or each token counts alike before balancing."
    )
    scale_by_log_labels: bool = Field(
        default=False, description="Divide each task's loss by the logarithm of how many labels it chooses from."
    )
    weights_from: Literal["this_step", "last_step"] | None = Field(
        default=None, description="The step whose statistics set the weights; by default as the statistic allows."
    )
    statistic: Literal["auto", "jacobian", "gramian", "sketch"] = Field(
        default="auto", description="What is kept of the tasks' gradients; `auto` is by memory."
    )
    separate_moments: bool = Field(
        default=False, description="Keep Adam's moments for each task apart (AdaTask); meant for adapters."
    )
    sketch_size: int = Field(default=4096, ge=64, description="Numbers that a sketch keeps of each gradient.")
    record_steps: int | None = Field(
        default=None,
        ge=0,
        description="Record conflict every so many steps, 0 never; by default 10 where the method looks at gradients.",
    )
    limit_skipped_steps: int = Field(
        default=10, ge=0, description="Steps without a finite gradient that are left out before the run fails."
    )
    check_gradients: bool = Field(
        default=True, description="Hold the first step's gradients of each task against separate passes."
    )


class LoraSection(Section):
    """Defaults of `adapter: {type: lora}` that differ from peft's."""

    r: int = Field(default=16, gt=0)
    lora_alpha: float = Field(default=32.0, gt=0)
    target_modules: str | list[str] = "all-linear"


class ConfigBase(Section):
    """The sections that need no other room to be known."""

    model: ModelSection
    data_root: str = Field(default=".", description="Relative paths of `data:` begin here.")
    bad_rows: Literal["refuse", "skip"] = Field(default="refuse", description="What a faulty row does to the run.")
    splits: SplitsSection = Field(default_factory=SplitsSection)
    batching: BatchingSection = Field(default_factory=BatchingSection)
    curriculum: CurriculumSection = Field(default_factory=CurriculumSection)
    transfer: TransferSection = Field(default_factory=TransferSection)
    evaluation: EvaluationSection = Field(default_factory=EvaluationSection)


def task_model(type_name: str) -> type[TaskSection]:
    """Make the model of one task: the common keys and the options of its type."""
    options: dict[str, Any] = {}
    for name, (hint, default) in TASK_ROOM.options(type_name).items():
        # A type that says no limits of its own gets those that no task can do without.
        options[name] = (OPTION_LIMITS.get((name, hint), hint), default)
    return create_model(f"Task[{type_name}]", __base__=TaskSection, **options)


def mixture_model(strategy: str) -> type[Section]:
    """Make the model of `mixture:` for one strategy: its name and its options."""
    options: dict[str, Any] = dict(MIXTURE_ROOM.options(strategy))
    return create_model(f"Mixture[{strategy}]", __base__=MixtureSection, **options)


def balance_model(method: str) -> type[BalanceSection]:
    """Make the model of `balance:` for one method: the common keys and the method's options."""
    options: dict[str, Any] = dict(BALANCE_ROOM.options(method))
    return create_model(f"Balance[{method}]", __base__=BalanceSection, **options)


def sharing_model(scheme: str) -> type[Section]:
    """Make the model of `model.sharing` for one scheme: its name and its options."""
    options: dict[str, Any] = dict(SHARING_ROOM.options(scheme))
    return create_model(f"Sharing[{scheme}]", __base__=Section, scheme=(str, scheme), **options)


def mitigation_model(method: str) -> type[FairnessSection]:
    """Make the model of a task's `fairness:` for one method: the keys of all and the method's options."""
    options: dict[str, Any] = dict(MITIGATION_ROOM.options(method))
    return create_model(f"Mitigation[{method}]", __base__=FairnessSection, **options)


def composite_model(name: str) -> type[Section]:
    """Make the model of `evaluation.composite` for one of its kind: its name and its options."""
    options: dict[str, Any] = dict(COMPOSITE_ROOM.options(name))
    return create_model(f"Composite[{name}]", __base__=Section, name=(str, name), **options)


def policy_model(name: str) -> type[Section]:
    """Make the model of one entry of `policies:`: the policy's name and its options."""
    options: dict[str, Any] = dict(POLICY_ROOM.options(name))
    return create_model(f"Policy[{name}]", __base__=Section, name=(str, name), **options)


@functools.cache
def adapter_names() -> list[str]:
    """List the adapters of the installed peft that leave the input as it is."""
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    names = (kind.value.lower() for kind in PEFT_TYPE_TO_CONFIG_MAPPING)
    return sorted(name for name in names if name not in ADAPTERS_REFUSED)


def adapter_model(type_name: str) -> type[Section]:
    """Make the model of `model.adapter` for one type from the fields of peft's own config."""
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    config = next(c for kind, c in PEFT_TYPE_TO_CONFIG_MAPPING.items() if kind.value.lower() == type_name)
    skipped = {"peft_type", "task_type", "inference_mode", "base_model_name_or_path", "revision", "auto_mapping"}
    fields: dict[str, Any] = {"type": (Literal[type_name], type_name)}
    ours = LoraSection.model_fields if type_name == "lora" else {}
    for field in dataclasses.fields(config):
        if field.name in ours:
            fields[field.name] = (ours[field.name].annotation, ours[field.name])
        elif field.init and field.name not in skipped:
            fields[field.name] = (Any, None)
    return create_model(f"Adapter[{type_name}]", __base__=Section, **fields)


def json_schema() -> dict[str, Any]:
    """Publish the JSON Schema of a run file, for editors that complete and check YAML."""
    mitigations = _one_of([_tagged(mitigation_model(name), "method", name) for name in MITIGATION_ROOM.names()])
    fairness: dict[str, Any] = {"fairness": (mitigations | None, None)}
    models = {name: create_model("Task", __base__=task_model(name), **fairness) for name in TASK_ROOM.names()}
    tasks = _one_of([_tagged(model, "type", name) for name, model in models.items()])
    mixtures = _one_of([_tagged(mixture_model(name), "strategy", name) for name in MIXTURE_ROOM.names()])
    balances = _one_of([_tagged(balance_model(name), "method", name) for name in BALANCE_ROOM.names()])
    policy = _one_of([_tagged(policy_model(name), "name", name) for name in POLICY_ROOM.names()])
    policies: Any = list[policy | Literal[*POLICY_ROOM.names()]]  # type: ignore[misc]
    composite = _one_of([_tagged(composite_model(name), "name", name) for name in COMPOSITE_ROOM.names()])
    composites: Any = composite | Literal[*COMPOSITE_ROOM.names()]
    evaluation = create_model("Evaluation", __base__=EvaluationSection, composite=(composites, "weighted_mean"))
    adapters = _one_of([adapter_model(name) for name in adapter_names()])
    sharing = _one_of([_tagged(sharing_model(name), "scheme", name) for name in SHARING_ROOM.names()])
    schemes: Any = sharing | Literal[*SHARING_ROOM.names()] | None
    model = create_model("Model", __base__=ModelSection, adapter=(adapters | None, None), sharing=(schemes, None))
    full = create_model(
        "Run",
        __base__=ConfigBase,
        model=(model, ...),
        tasks=(dict[str, tasks], ...),  # type: ignore[valid-type]
        mixture=(mixtures, ...),
        balance=(balances | Literal[*BALANCE_ROOM.names()], ...),
        policies=(policies, []),
        evaluation=(evaluation, Field(default_factory=dict)),
        training=(training_model(), Field(default_factory=dict)),
    )
    schema = full.model_json_schema()
    schema["required"] = ["model", "tasks"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _one_of(models: list[type[BaseModel]]) -> Any:
    """Make the union of some models."""
    return functools.reduce(lambda one, other: one | other, models)  # type: ignore[arg-type,return-value]


def _tagged(model: type[BaseModel], key: str, name: str) -> type[BaseModel]:
    """Fix the key that tells which model is meant."""
    fields: dict[str, Any] = {key: (Literal[name], ...)}
    return create_model(f"{model.__name__}", __base__=model, **fields)
