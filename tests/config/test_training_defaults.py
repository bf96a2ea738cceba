"""Training keys that follow each other, and settings that a machine lacks."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from taskloom.config import load_config
from taskloom.config.training import followed
from taskloom.errors import ConfigError
from taskloom.run import train
from taskloom.session import Session
from taskloom.training.arguments import training_arguments


@pytest.mark.parametrize(
    ("given", "added"),
    [
        ({"eval_steps": 100}, {"save_steps": 100}),
        ({"save_steps": 50}, {"eval_steps": 50}),
        ({"eval_steps": 100, "save_steps": 200}, {}),
        ({"eval_strategy": "epoch"}, {"save_strategy": "epoch"}),
        ({"save_strategy": "no"}, {"load_best_model_at_end": False, "metric_for_best_model": None}),
        ({"eval_strategy": "no", "load_best_model_at_end": True}, {"metric_for_best_model": None}),
    ],
)
def test_what_is_saved_follows_what_is_evaluated_where_one_of_them_is_given(given, added) -> None:
    assert followed(given) == {**given, **added}


@pytest.mark.parametrize("key", ["eval_steps", "save_steps", "eval_strategy", "save_strategy"])
def test_one_of_the_four_keys_alone_makes_a_run_that_transformers_accepts(key, run_values) -> None:
    run_values["training"][key] = "epoch" if "strategy" in key else 2
    assert load_config(run_values).training["load_best_model_at_end"]


@pytest.mark.skipif(torch.accelerator.is_available(), reason="a machine with an accelerator has both")
def test_a_processor_trains_in_bf16_and_refuses_fp16_by_name(run_values, tmp_path) -> None:
    run_values["training"]["bf16"] = True
    assert training_arguments(load_config(run_values).training, tmp_path, evaluates=True).device.type == "cpu"
    run_values["training"] |= {"bf16": False, "fp16": True}
    with pytest.raises(ConfigError) as caught:
        train(run_values, tmp_path / "run")
    assert str(caught.value) == (
        "`training.fp16` should be set where there is a GPU. Found a processor alone. "
        "Write `bf16: true`, or leave it out."
    )
    assert not (tmp_path / "run").exists()


def test_an_optimizer_that_is_not_installed_is_named(run_values, tmp_path) -> None:
    run_values["training"]["optim"] = "grokadamw"
    with pytest.raises(ConfigError, match=r"`training\.optim` should be an optimizer that is installed here"):
        train(run_values, tmp_path / "run")


def test_a_head_takes_its_own_rate_then_the_models_then_ten_times_the_runs(run_values) -> None:
    def rates() -> dict[str, float]:
        session = Session.__new__(Session)
        session.config = load_config(run_values)
        session.model = SimpleNamespace(heads=run_values["tasks"])
        return session.head_rates()

    first, second = list(run_values["tasks"])[:2]
    assert rates()[first] == pytest.approx(10 * run_values["training"]["learning_rate"])
    run_values["model"]["head_learning_rate"] = 0.02
    run_values["tasks"][first]["learning_rate"] = 0.03
    assert (rates()[first], rates()[second]) == (0.03, 0.02)


def test_a_folder_whose_name_begins_like_rows_in_memory_is_a_folder(run_values, tiny_data, tmp_path) -> None:
    (tmp_path / "memory_of_intents").symlink_to(tiny_data / "intent")
    run_values["tasks"]["intent"]["data"] = "memory_of_intents"
    run_values["data_root"] = str(tmp_path)
    assert load_config(run_values).data_of("intent") == str((tiny_data / "intent").resolve())
    run_values["tasks"]["intent"]["data"] = "memory"
    assert load_config(run_values).data_of("intent") == "memory"
