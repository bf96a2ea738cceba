"""Layers of runs: states against transformers, comparisons of tasks and runs, conflict and experts, the command."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from taskloom.cli import commands
from taskloom.cli.layers import run_layers
from taskloom.errors import RunFolderError
from taskloom.model import load_model
from taskloom.model.multitask import unwrapped
from taskloom.record import Record
from taskloom.representation.layers import compare_layers, conflict_by_layer, expert_load, read_layers
from taskloom.representation.similarity import linear_cka
from taskloom.representation.states import states_of
from taskloom.run import reopened, train


@pytest.fixture(scope="module")
def run_copy(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("layers") / "run"
    shutil.copytree(tiny_run, folder)
    return folder


@pytest.fixture(scope="module")
def parted(tiny_encoder: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose tasks have parts of their own and gates over experts, with recorded conflict."""
    tasks = {"intent": "classification", "urgency": "regression"}
    values = {
        "model": {"name_or_path": str(tiny_encoder), "sharing": {"scheme": "experts", "r": 4, "lora_alpha": 8}},
        "tasks": {name: {"type": kind, "data": str(tiny_data / name)} for name, kind in tasks.items()},
        "training": {"max_steps": 6, "per_device_train_batch_size": 8, "learning_rate": 5e-2, "seed": 0},
        "balance": {"record_steps": 2},
        "evaluation": {"resamples": 100},
    }
    for task in values["tasks"].values():
        task |= {"max_length": 64, "limit_rows": 16}
    folder = tmp_path_factory.mktemp("parted") / "run"
    train(values, folder)
    torch.manual_seed(0)
    for path in (folder / "model" / "sharing").glob("*.safetensors"):  # six steps move gates but little
        with safe_open(str(path), "pt") as held:
            metadata = held.metadata()
        moved = {name: value + 0.5 * torch.randn_like(value) for name, value in load_file(str(path)).items()}
        save_file(moved, str(path), metadata)
    return folder


@pytest.mark.parametrize("name", ["intent", "similarity"])
def test_states_are_the_means_of_what_transformers_gives_for_each_row_alone(run_copy: Path, name: str) -> None:
    session, _ = reopened(run_copy)
    model, items = session.model, session.prepared.items[name]["validation"]
    held = [items[index] for index in range(6)]
    found = states_of(model, session.prepared.padding, name, held)
    backbone = unwrapped(model.backbone).eval()
    assert len(found) == 3
    for place, item in enumerate(held):
        with torch.no_grad():
            ids = torch.tensor(item["input_ids"][:1])
            types = torch.tensor(item["token_type_ids"][:1]) if item.get("token_type_ids") else None
            states = backbone(input_ids=ids, token_type_ids=types, output_hidden_states=True).hidden_states
        for layer, expected in enumerate(states):
            assert found[layer][place] == pytest.approx(expected[0].mean(dim=0).numpy(), abs=1e-5)


def test_watching_leaves_the_model_as_it_was(run_copy: Path) -> None:
    model, _, _ = load_model(run_copy / "model")
    session, _ = reopened(run_copy)
    held = [session.prepared.items["intent"]["validation"][0]]
    states_of(model, session.prepared.padding, "intent", held)
    assert not model.body()._forward_hooks
    assert not model.body()._forward_pre_hooks


def test_a_run_with_one_adapter_for_all_is_compared_with_its_start(run_copy: Path) -> None:
    found = compare_layers(run_copy, rows=8, resamples=20)
    assert not found.parted
    assert {each.kind for each in found.alike} == {"before"}
    assert {each.task for each in found.alike} == set(reopened(run_copy)[0].prepared.tasks)
    words = [each for each in found.alike if each.layer == 0]
    assert [each.value for each in words] == pytest.approx([1.0] * 7)  # no adapter lies on the embeddings
    last = [each for each in found.alike if each.layer == 2]
    assert all(0 < each.value < 1 and each.low <= each.value <= each.high for each in last)
    assert read_layers(Record(run_copy))["alike"][0]["kind"] == "before"


def test_a_run_is_like_itself_and_like_another_as_its_states_are(run_copy: Path, parted: Path) -> None:
    same = compare_layers(run_copy, run_copy, rows=8, resamples=20)
    assert [each.value for each in same.alike if each.kind == "runs"] == pytest.approx([1.0] * 21)
    found = compare_layers(run_copy, parted, rows=8, resamples=20)
    runs = [each for each in found.alike if each.kind == "runs"]
    assert {each.task for each in runs} == {"intent", "urgency"}
    session, _ = reopened(run_copy)
    other, _ = reopened(parted)
    rows = session.prepared.corpora["intent"].splits["validation"][:8]
    states = []
    for each in (session, other):
        items = [own[0] for own in each.prepared.tasks["intent"].encode(rows, each.prepared.tokenizer)]
        states.append(states_of(each.model, each.prepared.padding, "intent", items))
    expected = [linear_cka(one, two) for one, two in zip(*states, strict=True)]
    assert [each.value for each in runs if each.task == "intent"] == pytest.approx(expected)


def test_tasks_with_parts_of_their_own_read_the_same_rows_otherwise(parted: Path) -> None:
    found = compare_layers(parted, rows=16, resamples=20)
    assert found.parted
    between = [each for each in found.alike if each.kind == "tasks"]
    assert [(each.task, each.other, each.layer) for each in between] == [("intent", "urgency", n) for n in range(3)]
    assert between[0].value == pytest.approx(1.0)
    assert between[2].value < 0.999
    assert set(found.experts) == {"intent", "urgency"}
    assert all(sum(load) == pytest.approx(1.0, abs=1e-3) for load in found.experts.values())
    assert {each.tasks for each in found.conflict} == {("intent", "urgency")}
    assert all(-1 <= each.cosine <= 1 for each in found.conflict)


def test_conflict_by_layer_is_the_mean_cosine_of_the_records() -> None:
    def record(product: float) -> dict[str, Any]:
        gramian = [[4.0, product], [product, 9.0]]
        return {"conflict": {"tasks": ["a", "b"], "gramian": gramian, "layers": {"layer.0": gramian}}}

    steps = [record(3.0), {"step": 2}, record(-1.5)]
    (found,) = conflict_by_layer(steps, ["a", "b"])
    assert (found.layer, found.tasks, found.n) == ("layer.0", ("a", "b"), 2)
    assert found.cosine == pytest.approx((3 / 6 - 1.5 / 6) / 2)


def test_expert_loads_are_means_over_steps_with_rows_of_the_task() -> None:
    steps = [{"experts": {"a": [1.0, 0.0]}}, {"loss": 1}, {"experts": {"a": [0.5, 0.5], "b": [0.2, 0.8]}}]
    assert expert_load(steps) == {"a": [0.75, 0.25], "b": [0.2, 0.8]}


def test_runs_without_a_task_in_common_are_refused(
    parted: Path, tiny_encoder: Path, tiny_data: Path, tmp_path: Path
) -> None:
    task = {"type": "multi_label", "data": str(tiny_data / "topics"), "max_length": 64, "limit_rows": 8}
    values = {
        "model": {"name_or_path": str(tiny_encoder)},
        "tasks": {"topics": task},
        "training": {"max_steps": 1, "per_device_train_batch_size": 4},
        "evaluation": {"resamples": 100},
    }
    train(values, tmp_path / "other")
    with pytest.raises(RunFolderError) as caught:
        compare_layers(parted, tmp_path / "other", rows=8, resamples=5)
    assert str(caught.value) == (
        f"`{tmp_path / 'other'}` should have a task in common with the other run. "
        "Found `topics` beside `intent`, `urgency`."
    )


def test_another_run_that_is_none_is_refused_before_anything_is_read(
    parted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_arguments: Any, **_options: Any) -> None:
        pytest.fail("the run was read")

    monkeypatch.setattr("taskloom.representation.layers.reopened", read)
    with pytest.raises(RunFolderError) as caught:
        compare_layers(parted, tmp_path / "none")
    assert str(caught.value).startswith(f"`{tmp_path / 'none'}` should be a run folder. Found no such folder. ")


def test_the_command_shows_layers_gates_and_conflict(parted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(commands, "console", Console(file=stream, width=160, highlight=False))
    run_layers(parted, None, 8)
    lines = [" ".join(line.split()) for line in stream.getvalue().splitlines()]
    assert "layer intent urgency" in lines
    assert "layer intent, urgency" in lines
    assert "task expert 1 expert 2 expert 3 expert 4" in lines
    assert lines[-1] == f"wrote {parted / 'layers.json'}"
    held = json.loads((parted / "layers.json").read_text())
    assert held["version"] == 1
    first = held["alike"][0]
    shown = f"words {first['value']:.2f} ({first['low']:.2f} … {first['high']:.2f})"
    assert any(line.startswith(shown) for line in lines)
    assert np.isfinite([each["value"] for each in held["alike"]]).all()
