"""A task's own adapter is one that peft loads, beside the shared one or folded with it into plain weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from growth_tools import topics
from peft import PeftModel
from transformers import AutoModel

from taskloom.batches.chunks import Padding, collate
from taskloom.errors import ModelError
from taskloom.growth import add_task
from taskloom.model import load_model
from taskloom.model.multitask import share_of
from taskloom.types import Chunk

pytest_plugins = ("growth_fixtures",)
pytestmark = pytest.mark.usefixtures("_plain_page")


@pytest.fixture(scope="module")
def grown(small_run: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own") / "b"
    add_task(small_run, topics(tiny_data, own_adapter={"r": 2, "target_modules": ["query", "value"]}), folder)
    return folder


def chunk_of(folder: Path, *names: str) -> tuple[Any, Chunk, dict[str, Any]]:
    """Load a run, and make a chunk of two texts for each of some tasks."""
    model, tasks, tokenizer = load_model(folder / "model")
    rows = [{"text": "where is my parcel"}, {"text": "please refund the invoice of last week"}]
    drawn = []
    for name in names:
        drawn += [(name, {"value": 0.0, **item[0]}) for item in tasks[name].encode(rows, tokenizer)]
    return model, collate(drawn, tasks, Padding(0)), tasks


def plain(encoder: Path, folder: Path) -> Any:
    """Load both adapters of a run as anyone would."""
    place = folder / "model" / "adapter"
    loaded = PeftModel.from_pretrained(AutoModel.from_pretrained(encoder, add_pooling_layer=False), place)
    loaded.load_adapter(place / "own-topics", adapter_name="own-topics")
    return loaded.eval()


def test_peft_gives_the_same_hidden_states_with_one_adapter_and_with_both(grown: Path, tiny_encoder: Path) -> None:
    model, chunk, _ = chunk_of(grown, "topics")
    loaded = plain(tiny_encoder, grown)
    with torch.no_grad():
        shared = loaded(**chunk.inputs).last_hidden_state
        assert torch.allclose(model.hidden(chunk), shared, atol=1e-6)
        loaded.base_model.set_adapter(["default", "own-topics"])
        both = loaded(**chunk.inputs).last_hidden_state
        with model.adapted("topics"):
            assert torch.allclose(model.hidden(chunk), both, atol=1e-6)
    assert not torch.allclose(shared, both, atol=1e-4)


def test_both_adapters_fold_into_plain_weights(grown: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    model, chunk, _ = chunk_of(grown, "topics")
    loaded = plain(tiny_encoder, grown)
    loaded.base_model.set_adapter(["default", "own-topics"])
    loaded.merge_and_unload(adapter_names=["default", "own-topics"]).save_pretrained(tmp_path / "whole")
    whole = AutoModel.from_pretrained(tmp_path / "whole", add_pooling_layer=False).eval()
    with torch.no_grad(), model.adapted("topics"):
        assert torch.allclose(model.hidden(chunk), whole(**chunk.inputs).last_hidden_state, atol=1e-5)


def test_the_shared_adapter_is_back_after_a_task_with_its_own(grown: Path) -> None:
    model, chunk, _ = chunk_of(grown, "intent")
    _, other, _ = chunk_of(grown, "topics")
    with torch.no_grad():
        before = model(chunk)["intent"]
        model(other)
        assert torch.equal(model(chunk)["intent"], before)
        with pytest.raises(KeyError), model.adapted("topics"):
            raise KeyError
        assert torch.equal(model(chunk)["intent"], before)


def test_a_share_of_a_chunk_holds_the_rows_of_its_tasks(grown: Path) -> None:
    _, chunk, _ = chunk_of(grown, "intent", "urgency", "topics")
    share = share_of(chunk, ["intent", "topics"])
    assert list(share.parts) == ["intent", "topics"]
    for name, part in share.parts.items():
        wanted = chunk.inputs["input_ids"][chunk.parts[name].sequences]
        assert torch.equal(share.inputs["input_ids"][part.sequences], wanted)
        assert share.mask.shape == share.inputs["input_ids"].shape


def test_a_share_of_packed_rows_gives_the_same_outputs(grown: Path, tiny_data: Path) -> None:
    from taskloom.batches.packing import packed_chunks

    model, tasks, tokenizer = load_model(grown / "model")
    model.own_adapters.clear()
    texts = ["where is my parcel", "refund", "the invoice of last week is wrong", "hello", "cancel my order please"]
    rows = [{"text": text} for text in texts * 3]
    drawn = []
    for name in tasks:
        drawn += [(name, {"value": 0.0, **item[0]}) for item in tasks[name].encode(rows, tokenizer)]
    packed = packed_chunks(drawn, tasks, Padding(0), 4096, halves=False)
    chunks = [each for each in packed if each.packing is not None and len(each.parts) > 1]
    assert chunks
    with torch.no_grad():
        for chunk in chunks:
            whole = model(chunk)
            for name in chunk.parts:
                assert torch.allclose(model(share_of(chunk, [name]))[name], whole[name], atol=1e-5)


def test_recomputed_activations_are_refused_beside_an_own_adapter(grown: Path) -> None:
    model, _, _ = load_model(grown / "model")
    with pytest.raises(ModelError) as error:
        model.activation_checkpointing_enable()
    assert str(error.value) == (
        "`training.activation_checkpointing` should be left out where a task has an adapter of its own. "
        "Found `true` beside that of `topics`."
    )


def test_a_model_whose_own_adapter_is_gone_is_refused(grown: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(grown / "model", tmp_path / "model")
    shutil.rmtree(tmp_path / "model" / "adapter" / "own-topics")
    with pytest.raises(ModelError, match="hold the weights of this model"):
        load_model(tmp_path / "model")
