from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer

from taskloom.errors import ModelError
from taskloom.model import load_model, load_weights
from taskloom.session import Session

pytest_plugins = ("tiny_model_fixtures",)

Make = Callable[..., Session]
ALLOWED = {".safetensors", ".json", ".txt", ".md", ".jinja"}


def saved(session: Session, folder: Path) -> Path:
    session.trainer().train()
    session.save(folder)
    return folder


def inputs_of(session: Session) -> dict[str, torch.Tensor]:
    return session.steps[0].chunks[0].inputs


def hidden_of(session: Session) -> torch.Tensor:
    with torch.inference_mode():
        return session.model.eval().backbone(**inputs_of(session)).last_hidden_state


def test_a_saved_adapter_loads_with_plain_peft_and_gives_the_same_hidden_states(
    make_session: Make, tmp_path: Path
) -> None:
    from peft import PeftModel

    session = make_session()
    folder = saved(session, tmp_path / "model")
    base = AutoModel.from_pretrained(session.config.model.name_or_path)
    untrained = base.eval()(**inputs_of(session)).last_hidden_state
    plain = PeftModel.from_pretrained(base, folder / "adapter").eval()
    with torch.inference_mode():
        again = plain(**inputs_of(session)).last_hidden_state
    assert torch.equal(again, hidden_of(session))
    assert not torch.allclose(again, untrained, atol=1e-3)


def test_a_saved_backbone_loads_with_plain_transformers_and_gives_the_same_hidden_states(
    make_session: Make, tmp_path: Path
) -> None:
    session = make_session(adapter=None)
    folder = saved(session, tmp_path / "model")
    with torch.inference_mode():
        again = AutoModel.from_pretrained(folder / "backbone").eval()(**inputs_of(session)).last_hidden_state
    assert torch.equal(again, hidden_of(session))


@pytest.mark.parametrize("adapter", [{"type": "lora", "r": 2}, None], ids=["lora", "full"])
def test_a_model_read_back_answers_bit_for_bit_as_before(
    make_session: Make, tmp_path: Path, adapter: dict[str, Any] | None
) -> None:
    session = make_session(adapter=adapter)
    folder = saved(session, tmp_path / "model")
    model, tasks, tokenizer = load_model(folder)
    assert not model.training
    before, after = session.model.eval().state_dict(), model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    for chunk in session.steps[0].chunks:
        with torch.inference_mode():
            one, other = session.model(chunk), model(chunk)
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert {name: task.state() for name, task in tasks.items()} == {
        name: task.state() for name, task in session.prepared.tasks.items()
    }
    for name, task in tasks.items():
        assert vars(task) == vars(session.prepared.tasks[name])
    words = "the order is late"
    assert tokenizer(words).data == session.prepared.tokenizer(words).data


@pytest.mark.parametrize("adapter", [{"type": "lora", "r": 2}, None], ids=["lora", "full"])
def test_an_exported_model_holds_weights_as_safetensors_and_texts_alone(
    make_session: Make, tmp_path: Path, adapter: dict[str, Any] | None
) -> None:
    folder = saved(make_session(adapter=adapter), tmp_path / "model")
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= ALLOWED
    names = {str(path.relative_to(folder)) for path in files}
    assert {"heads.safetensors", "tasks.json"} <= names
    assert not any("training_args" in name for name in names)
    assert ("adapter/config.json" in names, "backbone/config.json" in names) == (False, adapter is None)
    place = folder / ("backbone" if adapter is None else "adapter")
    assert AutoTokenizer.from_pretrained(place).is_fast


def test_a_saved_adapter_names_its_base_as_the_user_does(make_session: Make, tmp_path: Path) -> None:
    session = make_session()
    folder = saved(session, tmp_path / "model")
    written = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    assert written["base_model_name_or_path"] == session.config.model.name_or_path


def damaged(folder: Path, what: str) -> None:
    heads = folder / "heads.safetensors"
    if what == "heads are missing":
        heads.unlink()
    elif what == "heads are cut short":
        heads.write_bytes(heads.read_bytes()[:-40])
    elif what == "heads are of another shape":
        save_file({key: value[:1].contiguous() for key, value in load_file(str(heads)).items()}, str(heads))
    elif what == "adapter is missing":
        (folder / "adapter" / "adapter_model.safetensors").unlink()
    elif what == "adapter lacks a layer":
        path = folder / "adapter" / "adapter_model.safetensors"
        weights = load_file(str(path))
        save_file(dict(list(weights.items())[1:]), str(path))
    elif what == "adapter is of another backbone":
        path = folder / "adapter" / "adapter_model.safetensors"
        save_file({f"{key}_2": value for key, value in load_file(str(path)).items()}, str(path))


@pytest.mark.parametrize(
    "what",
    [
        "heads are missing",
        "heads are cut short",
        "heads are of another shape",
        "adapter is missing",
        "adapter lacks a layer",
        "adapter is of another backbone",
    ],
)
def test_a_damaged_model_is_refused(make_session: Make, tmp_path: Path, what: str) -> None:
    session = make_session()
    session.save(tmp_path / "model")
    damaged(tmp_path / "model", what)
    with pytest.raises(ModelError, match="hold the weights of this model"):
        load_weights(session.model, tmp_path / "model")


def test_a_backbone_without_one_of_its_weights_is_refused(make_session: Make, tmp_path: Path) -> None:
    session = make_session(adapter=None)
    session.save(tmp_path / "model")
    path = tmp_path / "model" / "backbone" / "model.safetensors"
    weights = load_file(str(path))
    save_file(dict(list(weights.items())[1:]), str(path), metadata={"format": "pt"})
    with pytest.raises(ModelError, match="missing"):
        load_weights(session.model, tmp_path / "model")


def test_a_folder_without_a_model_or_with_one_of_another_version_is_refused(make_session: Make, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"be a model folder with `tasks.json`"):
        load_model(tmp_path)
    make_session().save(tmp_path / "model")
    path = tmp_path / "model" / "tasks.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 99}))
    with pytest.raises(ModelError, match="version 99"):
        load_model(tmp_path / "model")


def test_weights_saved_over_older_ones_are_the_new_ones(make_session: Make, tmp_path: Path) -> None:
    session = make_session()
    session.save(tmp_path / "model")
    saved(session, tmp_path / "model")
    again, _, _ = load_model(tmp_path / "model")
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in session.model.state_dict().items())


def test_a_model_is_built_from_its_seed_alone(make_session: Make) -> None:
    torch.manual_seed(1)
    one = make_session().model.state_dict()
    torch.manual_seed(2)
    other = make_session().model.state_dict()
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_parameters_are_counted_by_part(make_session: Make) -> None:
    session = make_session()
    counts, model = session.model.trained_parameters(), session.model
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert counts["backbone"] == sum(p.numel() for p in model.backbone.parameters())
    assert counts["trained"] + sum(value for key, value in counts.items() if key.startswith("head ")) == trained
    assert all("lora_" in name for name, p in model.backbone.named_parameters() if p.requires_grad)
    labels = len(session.prepared.tasks["intent"].labels)
    assert counts["head intent"] == labels * 32 + labels


def test_another_base_than_the_one_trained_on_is_seen(make_session: Make, tmp_path: Path, tiny_encoder: Path) -> None:
    shutil.copytree(tiny_encoder, tmp_path / "base")
    session = make_session(name_or_path=str(tmp_path / "base"))
    session.save(tmp_path / "model")
    shutil.rmtree(tmp_path / "base")
    with pytest.raises(ModelError):
        load_model(tmp_path / "model")
