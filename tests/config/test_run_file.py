"""Run files as a whole: what is refused and how it is told, what is filled in, and that it reads the same again."""

from __future__ import annotations

import dataclasses
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainingArguments

from taskloom.config import Config, load_config, read_config
from taskloom.config.schema import ADAPTERS_REFUSED, adapter_names
from taskloom.config.training import DEFAULTS, MANAGED, RENAMED
from taskloom.errors import ConfigError
from taskloom.metrics import METRICS
from taskloom.tasks import TASKS

PLAIN: dict[str, Any] = {
    "model": {"name_or_path": "some/encoder"},
    "tasks": {"intent": {"type": "classification", "data": "data/intent"}},
}

MANY_FAULTS = """\
model:
  name_or_path: some/encoder
  adapter: {type: loar, r: 8}
tasks:
  intent:
    type: clasification
    weight: heavy
  slots: {type: token_classification, data: data/slots, metrics: [accuracy]}
  mood:
    type: regression
    data: data/mood
    pooling: frist
mixture: {strategy: temperature, temperature: 0.5}
training:
  lr: 1e-3
  output_dir: elsewhere
  max_step: 100
evaluation: {resamples: 10}
seeds: 3
"""

MANY_FAULTS_TOLD = """\
run.yaml:3: `model.adapter.type` should be an adapter of peft that leaves the input as it is. Found `loar`. \
Did you mean `lora`?
run.yaml:5: `tasks.intent.data` should be given. Found nothing. Add `data:`.
run.yaml:6: `tasks.intent.type` should be a task type that Taskloom has. Found `clasification`. \
Did you mean `classification`?
run.yaml:7: `tasks.intent.weight` should be a number. Found the text `heavy`.
run.yaml:8: `tasks.slots.metrics` should name metrics that fit tasks of type `token_classification`. \
Found `accuracy`. Choose from `span_f1`.
run.yaml:12: `tasks.mood.pooling` should be one of `auto`, `mean`, `first`, `last`. Found `frist`. Did you mean `first`?
run.yaml:13: `mixture.temperature` should be at least 1. Found `0.5`.
run.yaml:15: `training.lr` should be named as in transformers 5. Found the old name `lr`. Write `learning_rate: 0.001`.
run.yaml:16: `training.output_dir` should be left out. Found `elsewhere`. The run folder is `--out`.
run.yaml:17: `training.max_step` should be a key that Taskloom knows. Found `max_step`. Did you mean `max_steps`?
run.yaml:18: `evaluation.resamples` should be at least 100. Found `10`.
run.yaml:19: `seeds` should be a key that Taskloom knows. Found `seeds`."""


def changed(path: str, value: Any) -> dict[str, Any]:
    """Give the plain run with one key changed."""
    values = deepcopy(PLAIN)
    target = values
    *parents, last = path.split(".")
    for key in parents:
        target = target.setdefault(key, {})
    target[last] = value
    return values


def refusal(values: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(values)
    return str(caught.value).replace("config: ", "")


def told(path: str, value: Any) -> str:
    return refusal(changed(path, value))


def test_the_least_run_is_a_backbone_and_a_task_and_the_rest_has_defaults() -> None:
    config = load_config(PLAIN)
    assert config.tasks["intent"].metrics == ["accuracy", "macro_f1"]
    common = {"floor": 0.0, "max_epochs": None, "update_steps": 20}
    assert config.mixture == {"strategy": "temperature", "temperature": 2.0, **common}
    assert config.balance["method"] == "equal"
    assert {key: config.training[key] for key in DEFAULTS} == DEFAULTS
    assert config.model.adapter is None
    loss = {"label_smoothing": 0.0, "focal_gamma": 0.0, "noise_robustness": 0.0, "class_weights": None}
    own = {"max_length": 256, "pooling": "auto", "dropout": 0.1, "distillation": None}
    assert config.options("intent") == own | loss
    assert config.tasks["intent"].shared_update == 1.0


def test_every_fault_of_a_file_is_told_at_once_in_the_order_of_its_lines(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(MANY_FAULTS)
    with pytest.raises(ConfigError) as caught:
        read_config(tmp_path / "run.yaml")
    lines = str(caught.value).splitlines()
    assert "\n".join([*lines[:-1], lines[-1].partition(" Choose one of")[0]]) == MANY_FAULTS_TOLD


def test_a_key_given_by_set_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("model: {name_or_path: x}\ntasks: {a: {type: regression, data: x}}\n")
    with pytest.raises(ConfigError) as caught:
        read_config(tmp_path / "run.yaml", ["training.max_steps=many", "tasks.a.typ=1"])
    assert str(caught.value).splitlines() == [
        "--set: `tasks.a.typ` should be a key that Taskloom knows. Found `typ`. Did you mean `type`?",
        "--set: `training.max_steps` should be a whole number. Found the text `many`.",
    ]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("modle", {}, "`modle` should be a key that Taskloom knows. Found `modle`. Did you mean `model`?"),
        ("tasks", {}, "`tasks` should name at least one task. Found nothing. "
         "Write `tasks:` and under it `NAME: {type: classification, data: FOLDER}`."),
        ("tasks", ["a"], "`tasks` should name at least one task. Found `['a']`. "
         "Write `tasks:` and under it `NAME: {type: classification, data: FOLDER}`."),
        ("tasks.intent", None, "`tasks.intent` should be a mapping. Found nothing. "
         "Write `intent: {type: classification, data: FOLDER}`."),
        ("tasks.intent.data", 3, "`tasks.intent.data` should be text or a mapping. Found `3`."),
        ("tasks.intent.data", {"train": 3}, "`tasks.intent.data.train` should be text. Found `3`."),
        ("tasks.intent.metrics", "accuracy", "`tasks.intent.metrics` should be a list. Found the text `accuracy`."),
        ("tasks.intent.metrics", [3], "`tasks.intent.metrics.0` should be text. Found `3`."),
        ("tasks.intent.metrics", ["acuracy"], "`tasks.intent.metrics` should name metrics that Taskloom has. "
         "Found `acuracy`. Did you mean `accuracy`?"),
        ("tasks.intent.weight", 0, "`tasks.intent.weight` should be more than 0. Found `0`."),
        ("tasks.intent.weight", float("nan"), "`tasks.intent.weight` should be a finite number. Found `nan`."),
        ("tasks.intent.max_length", 7, "`tasks.intent.max_length` should be at least 8. Found `7`."),
        ("tasks.intent.dropout", 1.0, "`tasks.intent.dropout` should be less than 1. Found `1.0`."),
        ("tasks.intent.columns", {"text": 3}, "`tasks.intent.columns.text` should be text. Found `3`."),
        ("tasks.intent.columns", {"dict[str]": 3}, "`tasks.intent.columns.dict[str]` should be text. Found `3`."),
        ("model.name_or_path", "", "`model.name_or_path` should not be empty. Found nothing."),
        ("model", "some/encoder", "`model` should be a mapping. Found the text `some/encoder`."),
        ("model.dtype", "float64", "`model.dtype` should be one of `float32`, `bfloat16`, `float16`. "
         "Found `float64`. Did you mean `float16`?"),
        ("model.trust_remote_code", "maybe", "`model.trust_remote_code` should be true or false. "
         "Found the text `maybe`."),
        ("splits.test", 0.5, "`splits.test` should be less than 0.5. Found `0.5`."),
        ("evaluation.splits", [], "`evaluation.splits` should have one entry at least. Found `[]`."),
        ("evaluation.splits", ["tests"], "`evaluation.splits.0` should be one of `train`, `validation`, `test`. "
         "Found `tests`. Did you mean `test`?"),
        ("bad_rows", True, "`bad_rows` should be one of `refuse`, `skip`. Found `true`."),
        ("training", ["a"], "`training` should be a mapping. Found `['a']`."),
        ("training.max_steps", 1.5, "`training.max_steps` should be a whole number. Found `1.5`."),
        ("training.max_steps", 0, "`training.max_steps` should be above 0, or -1 to count in `num_train_epochs`. "
         "Found `0`."),
        ("training.per_device_train_batch_size", 0, "`training.per_device_train_batch_size` should be more than 0. "
         "Found `0`."),
        ("training.learning_rate", float("inf"), "`training.learning_rate` should be a finite number. Found `inf`."),
        ("training.seed", -1, "`training.seed` should be at least 0. Found `-1`."),
        ("training.eval_strategy", "step", "`training.eval_strategy` should be one of `no`, `steps`, `epoch`. "
         "Found `step`. Did you mean `steps`?"),
        ("training.report_to", "wandbb", "`training.report_to` should name a tracker of transformers. "
         "Found `wandbb`. Did you mean `wandb`?"),
        ("training.report_to", ["neptune"], "`training.report_to` should name an installed tracker. "
         "Found `neptune`, which is absent. Run `pip install neptune`."),
        ("training.eval_strategy", ["steps"], "`training.eval_strategy` should be one of `no`, `steps`, `epoch`. "
         "Found `['steps']`."),
        ("mixture", 3, "`mixture.strategy` should be a mixture that Taskloom has. Found `3`. "
         "Choose one of `annealed`, `by_loss`, `difficulty`, `examples_proportional`, `fixed`, `learning_progress`, "
         "`online_data_mixing`, `proportional`, `temperature`, `uniform`, `unimax`."),
        ("mixture.strategy", "unifrm", "`mixture.strategy` should be a mixture that Taskloom has. Found `unifrm`. "
         "Did you mean `uniform`?"),
        ("mixture", {"strategy": "fixed"}, "`mixture.ratios` should be given. Found nothing. Add `ratios:`."),
        ("mixture", {"strategy": "fixed", "ratios": {"intnt": 1}}, "`mixture.ratios.intnt` should be one of the "
         "run's tasks. Found `intnt`. Did you mean `intent`?"),
        ("mixture", {"strategy": "fixed", "ratios": {"intent": 0}}, "`mixture.ratios.intent` should be more than 0. "
         "Found `0`."),
    ],
)  # fmt: skip
def test_a_wrong_value_is_told_in_one_sentence(path: str, value: Any, message: str) -> None:
    assert told(path, value) == message


def test_what_transformers_refuses_is_told_in_its_first_sentence() -> None:
    message = told("training", {"eval_strategy": "epoch", "save_strategy": "steps"})
    assert message.startswith(
        "`training` should be what transformers accepts. Found what it answers with: "
        "--load_best_model_at_end requires the save and eval strategy to match"
    )
    assert message.count("\n") == 0
    assert not message.endswith("..")


def test_keys_that_a_run_cannot_do_without_are_asked_for() -> None:
    assert refusal({"tasks": PLAIN["tasks"]}) == "`model` should be given. Found nothing. Add `model:`."
    types = "`, `".join(TASKS.names())
    assert refusal({"model": PLAIN["model"], "tasks": {"a": {}}}).splitlines() == [
        f"`tasks.a.type` should be a task type that Taskloom has. Found nothing. Add `type:` with one of `{types}`.",
        "`tasks.a.data` should be given. Found nothing. Add `data:`.",
    ]
    assert refusal({}).splitlines()[0].startswith("`model` should be given.")


@pytest.mark.parametrize("name", ["composite", "in/tent", "a b", "-a", "", "ä", "a.b"])
def test_a_task_that_could_not_be_a_file_or_a_module_is_refused(name: str) -> None:
    values = {**PLAIN, "tasks": {name: PLAIN["tasks"]["intent"]}}
    assert refusal(values) == (
        f"`tasks.{name}` should be a name of letters, digits, `_` and `-` other than `composite`. Found `{name}`."
    )


@pytest.mark.parametrize("name", ["a", "A-b_c", "7", "intent2"])
def test_a_task_may_be_called_by_letters_digits_and_dashes(name: str) -> None:
    assert list(load_config({**PLAIN, "tasks": {name: PLAIN["tasks"]["intent"]}}).tasks) == [name]


@pytest.mark.parametrize("name", TASKS.names())
def test_a_task_takes_the_metrics_that_read_its_predictions_and_no_others(name: str) -> None:
    task = TASKS.load(name)
    fitting = [metric for metric in METRICS.names() if task.predicts in METRICS.load(metric).accepts]
    section = {"type": name, "data": "x"}
    taken = load_config({**PLAIN, "tasks": {"t": {**section, "metrics": fitting}}}).tasks["t"].metrics
    assert taken == fitting
    others = [metric for metric in METRICS.names() if metric not in fitting]
    messages = refusal({**PLAIN, "tasks": {"t": {**section, "metrics": others}}}).splitlines()
    assert [message.partition("Found ")[2].partition(".")[0] for message in messages] == [f"`{m}`" for m in others]


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_old_name_is_answered_with_its_new_one(old: str, new: str) -> None:
    assert told(f"training.{old}", True) == (
        f"`training.{old}` should be named as in transformers 5. Found the old name `{old}`. Write `{new}: true`."
    )


@pytest.mark.parametrize(("key", "reason"), MANAGED.items())
def test_a_key_that_taskloom_sets_itself_is_refused_with_its_reason(key: str, reason: str) -> None:
    sentence = reason[:1].upper() + reason[1:]
    assert told(f"training.{key}", "x") == f"`training.{key}` should be left out. Found `x`. {sentence}."


def test_every_field_of_training_arguments_is_a_key_unless_it_is_managed_or_renamed() -> None:
    fields = {field.name for field in dataclasses.fields(TrainingArguments) if field.init}
    assert set(load_config(PLAIN).training) == fields - set(MANAGED) - set(RENAMED)
    assert set(RENAMED.values()) <= fields - set(MANAGED) - set(RENAMED)


def test_every_default_of_ours_differs_from_that_of_transformers() -> None:
    theirs = {field.name: field.default for field in dataclasses.fields(TrainingArguments)}
    told = {"num_train_epochs", "lr_scheduler_type", "save_strategy", "report_to"}  # written out for the reader's sake
    assert {key for key, value in DEFAULTS.items() if theirs[key] == value} <= told


@pytest.mark.parametrize("name", ["lora", "ia3", "oft", "boft", "vera", "loha", "lokr"])
def test_an_adapter_takes_the_fields_of_its_peft_config(name: str) -> None:
    config = load_config(changed("model.adapter", {"type": name, "target_modules": ["query"]}))
    assert config.model.adapter
    assert config.model.adapter["type"] == name
    assert config.model.adapter["target_modules"] == ["query"]


@pytest.mark.parametrize(("one", "other"), [("eval", "save"), ("save", "eval")])
def test_saving_follows_evaluation_where_one_of_the_two_is_given(one: str, other: str) -> None:
    training = load_config(changed("training", {f"{one}_strategy": "epoch", f"{one}_steps": 20})).training
    assert (training[f"{other}_strategy"], training[f"{other}_steps"]) == ("epoch", 20)
    apart = load_config(changed("training", {f"{one}_strategy": "no"})).training
    assert (apart[f"{other}_strategy"], apart["load_best_model_at_end"]) == ("steps", False)


def test_an_adapter_has_defaults_of_ours_only_for_lora() -> None:
    lora = {"type": "lora", "r": 16, "lora_alpha": 32.0, "target_modules": "all-linear"}
    assert load_config(changed("model.adapter", {"type": "LoRA"})).model.adapter == lora
    assert load_config(changed("model.adapter", "lora")).model.adapter == lora
    assert load_config(changed("model.adapter", {"type": "vera"})).model.adapter == {"type": "vera"}


@pytest.mark.parametrize("name", ADAPTERS_REFUSED)
def test_an_adapter_that_lengthens_the_input_is_refused(name: str) -> None:
    assert name not in adapter_names()
    assert told("model.adapter", {"type": name}) == (
        "`model.adapter.type` should be an adapter of peft that leaves the input as it is. "
        f"Found `{name}`, which lengthens the input. "
        "Take one that leaves the input as it is, such as `lora`."
    )


def test_a_wrong_adapter_is_told_beside_other_faults_of_the_model() -> None:
    values = changed("model", {"name_or_path": "x", "dtype": "f", "adapter": {"type": "lora", "r": 0, "rr": 1}})
    wheres = [message.split("`")[1] for message in refusal(values).splitlines()]
    assert sorted(wheres) == ["model.adapter.r", "model.adapter.rr", "model.dtype"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("clasification", "a task type that Taskloom has. Found `clasification`. Did you mean `classification`?"),
        ("../tasks/regression", "a task type that Taskloom has. Found `../tasks/regression`. "
         "Did you mean `regression`?"),
        ("_labels", "a task type that Taskloom has. Found `_labels`. "
         "Did you mean `pseudo_labels`?"),
        ("no.module:Thing", "a task type that can be imported as `package.module:ClassName`. Found `no.module:Thing` "
         "(No module named 'no'). Install its package, or put its folder on PYTHONPATH."),
        ("json:Thing", "a task type that can be imported as `package.module:ClassName`. Found `json:Thing` "
         "(module 'json' has no attribute 'Thing'). Install its package, or put its folder on PYTHONPATH."),
        (":Thing", "a task type that can be imported as `package.module:ClassName`. Found `:Thing` "
         "(Empty module name). Install its package, or put its folder on PYTHONPATH."),
        ("json:JSONDecoder", "a task type, a class made from `taskloom.tasks.Task`. Found `json:JSONDecoder`."),
        ("json:dumps", "a task type, a class made from `taskloom.tasks.Task`. Found `json:dumps`."),
    ],
)  # fmt: skip
def test_a_task_type_that_is_none_is_refused(name: str, message: str) -> None:
    assert told("tasks.intent.type", name) == f"`tasks.intent.type` should be {message}"


def test_a_task_type_may_be_named_in_full() -> None:
    config = load_config(changed("tasks.intent.type", "taskloom.tasks.regression:Regression"))
    assert config.tasks["intent"].metrics[0] == "pearson"


def rich_run(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "intent").mkdir()
    return {
        "model": {"name_or_path": "some/encoder", "adapter": {"type": "lora", "r": 4, "target_modules": ["query"]}},
        "tasks": {
            "intent": {"type": "classification", "data": "intent", "weight": 0.5, "columns": {"label": "intent"}},
            "2nd": {"type": "extractive_qa", "data": {"train": "a.jsonl", "test": "b.jsonl"}, "max_length": 64},
            "hub": {"type": "regression", "data": "org/name:config@main"},
        },
        "mixture": {"strategy": "fixed", "ratios": {"intent": 2, "2nd": 1.5, "hub": 1}},
        "balance": {"method": "pcd", "primary": "2nd", "reduction": "token", "record_steps": 0},
        "training": {"max_steps": 7, "debug": ["underflow_overflow"], "lr_scheduler_kwargs": {"a": 1}, "optim": "sgd"},
        "evaluation": {"splits": ["validation", "test"]},
        "bad_rows": "skip",
    }


def test_a_resolved_run_reads_as_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = load_config(rich_run(tmp_path))
    (tmp_path / "run.yaml").write_text(first.as_yaml(), encoding="utf-8")
    for again in (load_config(first.as_yaml()), load_config(first.resolved()), read_config("run.yaml")):
        assert again.resolved() == first.resolved()
        assert again.as_yaml() == first.as_yaml()


def test_a_resolved_run_reads_the_same_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = load_config(rich_run(tmp_path)).as_yaml()
    monkeypatch.chdir(tmp_path / "intent")
    again: Config = load_config(text)
    assert again.as_yaml() == text
    assert again.data_of("intent") == str(tmp_path / "intent")
    assert again.data_of("2nd") == {"train": str(tmp_path / "a.jsonl"), "test": str(tmp_path / "b.jsonl")}
    assert again.data_of("hub") == "org/name:config@main"


def test_relative_data_begins_at_the_data_root(tmp_path: Path) -> None:
    config = load_config({**PLAIN, "data_root": tmp_path})
    assert config.data_of("intent") == str(tmp_path / "data" / "intent")


def test_every_task_of_the_house_has_options_that_a_run_file_can_hold() -> None:
    for name in TASKS.names():
        config = load_config({**PLAIN, "tasks": {"t": {"type": name, "data": "x"}}})
        assert load_config(config.as_yaml()).options("t") == config.options("t")
