"""The JSON Schema that editors complete run files with."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import BaseModel

from taskloom.balance import BALANCES
from taskloom.composite import COMPOSITES
from taskloom.config import json_schema, load_config
from taskloom.config.document import parse_document
from taskloom.config.schema import (
    BalanceSection,
    BatchingSection,
    ModelSection,
    SplitsSection,
    TaskSection,
    adapter_names,
)
from taskloom.config.sections import CurriculumSection, EvaluationSection, ItemCurriculum, TaskCurriculum
from taskloom.metrics import METRICS
from taskloom.mitigation import MITIGATIONS
from taskloom.mixture import MIXTURES
from taskloom.policy import POLICIES
from taskloom.tasks import TASKS

SECTIONS = [ModelSection, TaskSection, BalanceSection, SplitsSection, BatchingSection, EvaluationSection]
SECTIONS += [CurriculumSection, TaskCurriculum, ItemCurriculum]
RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def quickstart() -> dict[str, Any]:
    text = resources.files("taskloom.helpdesk").joinpath("quickstart.yaml").read_text(encoding="utf-8")
    return parse_document(text, "quickstart.yaml").values


def names_in(schema: Any, key: str) -> set[str]:
    """Give every constant that the schema has for one key, wherever it stands."""
    if isinstance(schema, dict):
        found = {schema["properties"][key]["const"]} if "const" in schema.get("properties", {}).get(key, {}) else set()
        return found.union(*(names_in(value, key) for value in schema.values()))
    return set().union(*(names_in(value, key) for value in schema)) if isinstance(schema, list) else set()


def test_the_schema_accepts_the_quickstart_and_every_recipe(validator: Any) -> None:
    validator.validate(quickstart())
    for path in set(RECIPES.glob("*.yaml")) - set(RECIPES.glob("*study*.yaml")):
        validator.validate(parse_document(path.read_text(encoding="utf-8"), path.name).values)


def test_the_schema_accepts_what_a_run_resolves_to(validator: Any) -> None:
    validator.validate(load_config(quickstart()).resolved())
    validator.validate({**quickstart(), "balance": "upgrad"})
    for method in ("stch", "cagrad", "coba"):
        validator.validate(load_config({**quickstart(), "balance": method}).resolved())
    curriculum = {"tasks": {"by": "listed", "order": list(quickstart()["tasks"])}, "items": {"by": "length"}}
    validator.validate({**quickstart(), "curriculum": curriculum})
    validator.validate(load_config({**quickstart(), "curriculum": curriculum}).resolved())
    policies = ["drop_harmful", {"name": "rest_converged", "patience": 3}, "lower_overfitting"]
    validator.validate({**quickstart(), "policies": policies})
    validator.validate(load_config({**quickstart(), "policies": policies}).resolved())


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("modle", {}),
        ("tasks.intent.type", "clasification"),
        ("tasks.intent.wieght", 1),
        ("tasks.intent.weight", 0),
        ("tasks.intent.metrics", "accuracy"),
        ("tasks.answer.stride", "far"),
        ("tasks.intent.stride", 3),
        ("model.adapter.type", "prefix_tuning"),
        ("model.adapter.r", 0),
        ("mixture.strategy", "unifrm"),
        ("mixture.temperature", 2),
        ("balance.method", "upgrd"),
        ("balance.weights", {"intent": 1}),
        ("balance.sketch_size", 63),
        ("balance.reduction", "row"),
        ("balance", "upgrd"),
        ("policies", "rest_converged"),
        ("policies", ["rest_convergd"]),
        ("policies", [{"name": "raise_behind"}]),
        ("policies", [{"name": "rest_converged", "patience": 0}]),
        ("policies", [{"name": "rest_converged", "margin": 1}]),
        ("training.learning_rte", 1),
        ("training.eval_strategy", "sometimes"),
        ("training.output_dir", "x"),
        ("training.lr", 1),
        ("evaluation.splits", []),
        ("curriculum.tasks", {"by": "weight"}),
        ("curriculum.tasks", {"by": "length", "until": 1}),
        ("curriculum.items", {"by": "length", "start": 0}),
        ("curriculum.itms", None),
    ],
)
def test_the_schema_refuses_what_reading_refuses(validator: Any, path: str, value: Any) -> None:
    values = quickstart()
    target = values
    *parents, last = path.split(".")
    for key in parents:
        target = target.setdefault(key, {})
    target[last] = value
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(values)


def test_the_schema_knows_every_method_of_the_rooms(validator: Any) -> None:
    assert names_in(validator.schema, "type") == {*TASKS.names(), *adapter_names()}
    assert names_in(validator.schema, "strategy") == set(MIXTURES.names())
    assert names_in(validator.schema, "method") == {*BALANCES.names(), *MITIGATIONS.names()}
    assert names_in(validator.schema, "name") == {*POLICIES.names(), *COMPOSITES.names()}
    assert METRICS.names()


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_of_ours_has_a_description_for_the_editor_to_show(section: type[BaseModel]) -> None:
    assert not [name for name, field in section.model_fields.items() if not field.description]
