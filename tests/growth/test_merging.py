"""Adapters of several runs are added up as peft does it, and their heads answer side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from growth_tools import lora, run_of, topics
from peft import PeftModel
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

from taskloom.errors import ConfigError, ModelError, RunFolderError
from taskloom.growth import add_task, merge
from taskloom.growth.merging import METHODS, Mix
from taskloom.run import Run, evaluate, train

pytest_plugins = ("growth_fixtures",)
pytestmark = pytest.mark.usefixtures("_plain_page")


def second(encoder: Path, data: Path, **fields: Any) -> dict[str, Any]:
    """Describe a run of another task on the same backbone."""
    return {**run_of(encoder, data, adapter=lora(**fields)), **topics(data)}


@pytest.fixture(scope="module")
def other_run(tiny_encoder: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("other") / "b"
    train(second(tiny_encoder, tiny_data), folder)
    return folder


@pytest.fixture(scope="module")
def wide_run(tiny_encoder: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wide") / "c"
    train(second(tiny_encoder, tiny_data, r=6, lora_alpha=6), folder)
    return folder


def inputs(encoder: Path) -> dict[str, torch.Tensor]:
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    texts = ["where is my parcel", "please refund the invoice of last week"]
    return dict(tokenizer(texts, padding=True, return_tensors="pt"))


def hidden(model: Any, given: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        states: torch.Tensor = model.eval()(**given).last_hidden_state
    return states


def plain(encoder: Path, folder: Path) -> Any:
    """Load a run's adapter as anyone would."""
    return PeftModel.from_pretrained(AutoModel.from_pretrained(encoder), folder / "model" / "adapter")


@pytest.mark.parametrize("method", list(METHODS))
def test_a_merged_adapter_is_what_peft_makes_of_the_two(
    small_run: Path, other_run: Path, tiny_encoder: Path, tmp_path: Path, method: str
) -> None:
    merged = merge([small_run, other_run], tmp_path / "m", Mix(method, (0.7, 0.4), density=0.6, seed=5))
    by_peft = plain(tiny_encoder, small_run)
    by_peft.load_adapter(other_run / "model" / "adapter", adapter_name="b")
    options = {"density": 0.6} if method in {"ties", "dare_linear", "dare_ties"} else {}
    torch.manual_seed(5)
    by_peft.add_weighted_adapter(["default", "b"], [0.7, 0.4], "m", combination_type=METHODS[method], **options)
    by_peft.set_adapter("m")
    given = inputs(tiny_encoder)
    wanted = hidden(by_peft, given)
    model, tasks, _ = merged.loaded()
    assert torch.allclose(hidden(model.backbone, given), wanted, atol=1e-6)
    assert torch.allclose(hidden(plain(tiny_encoder, merged.folder), given), wanted, atol=1e-6)
    assert list(tasks) == ["intent", "urgency", "topics"]


@pytest.mark.parametrize("method", ["task_arithmetic", "cat"])
def test_updates_of_unlike_ranks_are_added_up_exactly(
    small_run: Path, wide_run: Path, tiny_encoder: Path, tmp_path: Path, method: str
) -> None:
    merged = merge([small_run, wide_run], tmp_path / "m", Mix(method, (1.0, -0.5)))
    bare = dict(AutoModel.from_pretrained(tiny_encoder).named_parameters())

    def update(folder: Path) -> dict[str, torch.Tensor]:
        whole = plain(tiny_encoder, folder).merge_and_unload()
        return {name: value - bare[name] for name, value in whole.named_parameters() if not name.startswith("pooler")}

    one, other, both = (update(folder) for folder in (small_run, wide_run, merged.folder))
    for name in both:
        assert torch.allclose(both[name], one[name] - 0.5 * other[name], atol=1e-5), name


def test_a_merged_adapter_unloads_into_plain_transformers(
    small_run: Path, other_run: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    merged = merge([small_run, other_run], tmp_path / "m")
    plain(tiny_encoder, merged.folder).merge_and_unload().save_pretrained(tmp_path / "whole")
    given, (model, _, _) = inputs(tiny_encoder), merged.loaded()
    whole = AutoModel.from_pretrained(tmp_path / "whole")
    assert torch.allclose(hidden(whole, given), hidden(model.backbone, given), atol=1e-5)


def test_a_merged_run_is_evaluated_as_any_other(small_run: Path, other_run: Path, tmp_path: Path) -> None:
    merged = merge([small_run, other_run], tmp_path / "m")
    assert merged.scores == []
    scores = evaluate(merged.folder)
    assert {score.task for score in scores} == {"intent", "urgency", "topics", "composite"}
    assert Run(merged.folder).scores == scores


def test_a_run_merged_with_nothing_of_the_other_answers_as_before(
    small_run: Path, other_run: Path, tmp_path: Path
) -> None:
    merged = merge([small_run, other_run], tmp_path / "m", Mix("cat", (1.0, 0.0)))
    rows = [{"text": "where is my parcel"}, {"text": "refund me"}]
    one, other = (Run(folder).predict("intent", rows) for folder in (small_run, merged.folder))
    assert [each.value for each in one] == [each.value for each in other]
    assert one[0].detail["probabilities"] == pytest.approx(other[0].detail["probabilities"], abs=1e-5)


def test_unlike_ranks_are_refused_by_ways_that_cannot(small_run: Path, wide_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as error:
        merge([small_run, wide_run], tmp_path / "m", Mix("ties"))
    assert str(error.value) == (
        "`--method` should be a way that adds up ranks 4 and 6. Found `ties`. "
        "Take one of `task_arithmetic`, `cat`, `svd`, which can."
    )
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("mix", "message"),
    [
        (Mix("tie"), "`--method` should be a way to merge adapters. Found `tie`. Did you mean `ties`?"),
        (Mix(weights=(1.0,)), "`--weights` should be 2 numbers, one for each run. Found 1."),
        (Mix(weights=(1.0, float("nan"))), "`--weights` should be finite numbers. Found `[1.0, nan]`."),
        (Mix(density=0.0), "`--density` should be above 0 and at most 1. Found `0.0`."),
    ],
)
def test_wrong_settings_are_refused(small_run: Path, other_run: Path, tmp_path: Path, mix: Mix, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        merge([small_run, other_run], tmp_path / "m", mix)
    assert str(error.value) == message


def test_one_run_is_refused(small_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        merge([small_run], tmp_path / "m")
    assert str(error.value) == "`merge` should be given two runs at least. Found one. Name the folders of both."


def test_runs_with_a_task_of_the_same_name_are_refused(small_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"be given runs whose tasks have different names. Found `intent` in"):
        merge([small_run, small_run], tmp_path / "m")


def test_a_folder_with_files_is_refused(small_run: Path, other_run: Path, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(RunFolderError, match=r"should be a folder to be made. Found a folder with files in it"):
        merge([small_run, other_run], tmp_path)


def test_another_backbone_is_refused(small_run: Path, tiny_encoder: Path, tiny_data: Path, tmp_path: Path) -> None:
    BertModel(BertConfig.from_pretrained(tiny_encoder)).save_pretrained(tmp_path / "bert")
    AutoTokenizer.from_pretrained(tiny_encoder).save_pretrained(tmp_path / "bert")
    train(second(tmp_path / "bert", tiny_data), tmp_path / "b")
    with pytest.raises(ModelError, match=r"`merge` should name a run on .* with an adapter of another backbone"):
        merge([small_run, tmp_path / "b"], tmp_path / "m")


def test_runs_without_a_lora_or_with_one_for_a_task_alone_are_refused(
    small_run: Path, other_run: Path, tiny_encoder: Path, tiny_data: Path, tmp_path: Path
) -> None:
    train(run_of(tiny_encoder, tiny_data, adapter=None), tmp_path / "full")
    with pytest.raises(ModelError, match=r"be given runs with adapters of type `lora`. Found `.*full` without"):
        merge([tmp_path / "full", other_run], tmp_path / "m")
    add_task(small_run, topics(tiny_data, own_adapter={}), tmp_path / "own")
    with pytest.raises(ModelError, match=r"with one adapter for all tasks. Found `.*own`, where `topics` has one"):
        merge([other_run, tmp_path / "own"], tmp_path / "m")
