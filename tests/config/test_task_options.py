"""Options of a task's loss and its share of the shared update, as run files say them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest

from taskloom.config import json_schema, load_config, read_config
from taskloom.config.document import parse_document
from taskloom.errors import ConfigError

RUN = """\
model: {name_or_path: some/encoder}
tasks:
  intent:
    type: classification
    data: data/intent
    focal_gamma: 2
    label_smoothing: 0.1
    class_weights: {2: 2.5, true: 4, "no": 0.5}
  slots: {type: token_classification, data: data/slots, class_weights: balanced, shared_update: 0.5}
  urgency: {type: regression, data: data/urgency, huber_delta: 1.35}
"""


def told(**options: Any) -> list[str]:
    tasks = {"intent": {"type": "classification", "data": "data/intent", **options}}
    with pytest.raises(ConfigError) as caught:
        load_config({"model": {"name_or_path": "some/encoder"}, "tasks": tasks})
    return str(caught.value).replace("config: ", "").splitlines()


def test_options_are_read_filled_in_and_read_again_the_same(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(RUN)
    config = read_config(tmp_path / "run.yaml")
    assert config.options("intent")["class_weights"] == {"2": 2.5, "True": 4.0, "no": 0.5}
    assert config.options("slots")["class_weights"] == "balanced"
    assert config.options("urgency")["huber_delta"] == 1.35
    assert {name: task.shared_update for name, task in config.tasks.items()} == {
        "intent": 1.0,
        "slots": 0.5,
        "urgency": 1.0,
    }
    assert "shared_update" not in config.options("slots"), "it is a key of every task, and no option of its type"
    assert load_config(config.as_yaml()).resolved() == config.resolved()


def test_the_schema_knows_them() -> None:
    validator = jsonschema.Draft202012Validator(json_schema())
    values = parse_document(RUN, "run.yaml").values
    validator.validate(values)
    validator.validate(load_config(RUN).resolved())
    for key, wrong in (("class_weights", "uniform"), ("label_smoothing", 1), ("huber_delta", 1), ("shared_update", -1)):
        changed = {**values, "tasks": {"intent": {**values["tasks"]["intent"], key: wrong}}}
        with pytest.raises(jsonschema.ValidationError):
            validator.validate(changed)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_smoothing": 1.0}, "`tasks.intent.label_smoothing` should be less than 1. Found `1.0`."),
        ({"focal_gamma": -1}, "`tasks.intent.focal_gamma` should be at least 0. Found `-1`."),
        ({"noise_robustness": 2}, "`tasks.intent.noise_robustness` should be at most 1. Found `2`."),
        ({"class_weights": {"a": 0}}, "`tasks.intent.class_weights.a` should be more than 0. Found `0`."),
        (
            {"class_weights": "balancd"},
            "`tasks.intent.class_weights` should be one of `balanced` or a mapping. Found `balancd`. "
            "Did you mean `balanced`?",
        ),
        (
            {"huber_delta": 1.0},
            "`tasks.intent.huber_delta` should be a key that Taskloom knows. Found `huber_delta`.",
        ),
        ({"shared_update": -0.5}, "`tasks.intent.shared_update` should be at least 0. Found `-0.5`."),
    ],
)
def test_a_wrong_value_is_told_in_one_sentence(options: dict[str, Any], message: str) -> None:
    (line,) = told(**options)
    assert line.partition(" Choose one of")[0] == message


def test_forms_that_do_not_go_together_are_told_with_their_line_beside_all_other_faults(tmp_path: Path) -> None:
    text = RUN.replace("    focal_gamma: 2\n", "    focal_gamma: 2\n    noise_robustness: 0.7\n")
    (tmp_path / "run.yaml").write_text(text + "training: {lr: 1}\n")
    with pytest.raises(ConfigError) as caught:
        read_config(tmp_path / "run.yaml")
    assert str(caught.value).splitlines() == [
        "run.yaml:7: `tasks.intent.noise_robustness` should be 0 beside `label_smoothing`, `focal_gamma`. Found `0.7`. "
        "It bounds what one row can cost, and is another form of the loss; keep one of them.",
        "run.yaml:12: `training.lr` should be named as in transformers 5. Found the old name `lr`. "
        "Write `learning_rate: 1`.",
    ]


@pytest.mark.parametrize("method", ["equal", "uncertainty", "mgda", "upgrad"])
def test_a_task_without_shared_gradient_is_refused_where_gradients_are_compared(method: str) -> None:
    text = RUN.replace("shared_update: 0.5", "shared_update: 0")
    if method in {"equal", "uncertainty"}:
        assert load_config(text, [f"balance={method}"]).tasks["slots"].shared_update == 0
        return
    with pytest.raises(ConfigError) as caught:
        load_config(text, [f"balance={method}"])
    assert str(caught.value) == (
        f"config:9: `tasks.slots.shared_update` should be more than 0 with `{method}`, which compares the tasks' "
        "gradients. Found `0`. Write a small number such as `0.01`, or another `balance.method`."
    )
