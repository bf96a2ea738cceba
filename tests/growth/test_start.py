"""A run begins with the adapter and the heads of another one, where these fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from growth_tools import lora, run_of
from transformers import AutoTokenizer, BertConfig, BertModel

from taskloom.config import Config, load_config
from taskloom.errors import ModelError
from taskloom.growth import start_from
from taskloom.model import MultiTaskModel, build_model, load_model
from taskloom.preparation import prepare
from taskloom.run import train

pytest_plugins = ("growth_fixtures",)
pytestmark = pytest.mark.usefixtures("_plain_page")

Built = tuple[MultiTaskModel, dict[str, Any], Config]


def built(values: dict[str, Any]) -> Built:
    """Build the model of a run that has not begun."""
    config = load_config(values)
    prepared = prepare(config)
    return build_model(config.model, prepared.tasks, seed=7), prepared.tasks, config


@pytest.fixture
def fresh(tiny_encoder: Path, tiny_data: Path) -> Callable[..., Built]:
    def make(adapter: dict[str, Any] | None = None, **changes: Any) -> Built:
        return built(run_of(tiny_encoder, tiny_data, adapter=adapter, **changes))

    return make


def test_adapter_and_heads_of_the_same_tasks_are_taken(small_run: Path, fresh: Callable[..., Built]) -> None:
    model, tasks, config = fresh(lora())
    taken = start_from(model, tasks, small_run, config.model)
    assert taken.heads == ["intent", "urgency"]
    assert taken.fresh == []
    assert str(taken) == f"starts from {small_run}: its adapter, heads of intent, urgency"
    other, _, _ = load_model(small_run / "model")
    wanted = other.state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in model.state_dict().items())


def test_a_head_of_another_type_or_name_stays_as_drawn(
    small_run: Path, tiny_encoder: Path, tiny_data: Path, fresh: Callable[..., Built]
) -> None:
    values = run_of(tiny_encoder, tiny_data, adapter=lora())
    values["tasks"]["mood"] = values["tasks"].pop("urgency")
    model, tasks, config = built(values)
    before = {name: value.clone() for name, value in model.heads["mood"].state_dict().items()}
    taken = start_from(model, tasks, small_run, config.model)
    assert taken.heads == ["intent"]
    assert taken.fresh == ["mood"]
    assert all(torch.equal(value, before[name]) for name, value in model.heads["mood"].state_dict().items())


def test_a_whole_backbone_is_taken_where_both_train_it(
    tiny_encoder: Path, tiny_data: Path, tmp_path: Path, fresh: Callable[..., Built]
) -> None:
    train(run_of(tiny_encoder, tiny_data, adapter=None), tmp_path / "full")
    model, tasks, config = fresh()
    start_from(model, tasks, tmp_path / "full", config.model)
    other, _, _ = load_model(tmp_path / "full" / "model")
    wanted = other.state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        (lora(r=8), "`model.start_from` should name a run whose adapter has `r: 8`. Found `{run}` with `r: 4`."),
        (
            lora(target_modules=["query"]),
            "`model.start_from` should name a run whose adapter has `target_modules: ['query']`. "
            "Found `{run}` with `target_modules: all-linear`.",
        ),
        (
            {"type": "ia3", "target_modules": ["query"], "feedforward_modules": []},
            "`model.start_from` should name a run with an adapter of type `ia3`. Found `{run}` with `lora`.",
        ),
        (
            None,
            "`model.start_from` should name a run that trains the same part of its backbone. "
            "Found `{run}`, which has an adapter.",
        ),
    ],
)
def test_another_adapter_is_refused(
    small_run: Path, fresh: Callable[..., Built], adapter: dict[str, Any] | None, message: str
) -> None:
    model, tasks, config = fresh(adapter)
    with pytest.raises(ModelError) as error:
        start_from(model, tasks, small_run, config.model)
    assert str(error.value) == message.format(run=small_run)


def test_an_adapter_of_another_backbone_is_refused(
    small_run: Path, tiny_encoder: Path, tiny_data: Path, tmp_path: Path
) -> None:
    config = BertConfig.from_pretrained(tiny_encoder)
    BertModel(config).save_pretrained(tmp_path / "other")
    AutoTokenizer.from_pretrained(tiny_encoder).save_pretrained(tmp_path / "other")
    model, tasks, described = built(run_of(tmp_path / "other", tiny_data, adapter=lora()))
    with pytest.raises(ModelError) as error:
        start_from(model, tasks, small_run, described.model)
    assert str(error.value) == (
        f"`model.start_from` should name a run on `{tmp_path / 'other'}`. "
        f"Found `{small_run}` with an adapter of another backbone, `{tiny_encoder}`."
    )


def test_a_folder_without_a_model_is_refused(tmp_path: Path, fresh: Callable[..., Built]) -> None:
    model, tasks, config = fresh(lora())
    with pytest.raises(ModelError, match=r"should name the folder of a finished run. Found `.*` without a model"):
        start_from(model, tasks, tmp_path, config.model)
