"""Tasks are added to runs that write: texts of old tasks stay as they were, and a reader may have its own adapter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from growth_tools import lora, run_of, topics

from taskloom.growth import add_task, proof
from taskloom.model import load_model
from taskloom.model.multitask import unwrapped
from taskloom.run import train

pytest_plugins = ("growth_fixtures",)
pytestmark = pytest.mark.usefixtures("_plain_page")

SPECIAL = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}


def decoder(words: int) -> Any:
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "vocab_size": words}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 128}
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, **heads, **SPECIAL))


def encoder_decoder(words: int) -> Any:
    sizes = {"d_model": 16, "d_ff": 24, "d_kv": 8, "num_layers": 1, "num_heads": 2, "vocab_size": words}
    return transformers.T5ForConditionalGeneration(
        transformers.T5Config(**sizes, pad_token_id=0, eos_token_id=3, decoder_start_token_id=0)
    )


@pytest.fixture(params=[decoder, encoder_decoder], ids=["decoder", "encoder_decoder"])
def writing_run(request: pytest.FixtureRequest, tiny_tokenizer: Path, tiny_data: Path, tmp_path: Path) -> Path:
    """A finished run of a task that writes and one that reads, in a backbone with a language head."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_tokenizer)
    tokenizer.eos_token = "[SEP]"
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    torch.manual_seed(0)
    request.param(len(tokenizer)).save_pretrained(tmp_path / "backbone")
    tokenizer.save_pretrained(tmp_path / "backbone")
    lines = [json.dumps({"source": f"parcel number {index}", "target": f"refund {index % 3}"}) for index in range(24)]
    (tmp_path / "texts.jsonl").write_text("\n".join(lines) + "\n")
    values = run_of(tmp_path / "backbone", tiny_data, adapter=lora())
    del values["tasks"]["urgency"]
    values["tasks"]["reply"] = text_task(tmp_path)
    train(values, tmp_path / "a")
    return tmp_path / "a"


def text_task(folder: Path, **more: Any) -> dict[str, Any]:
    limits = {"max_length": 32, "max_target_length": 8, "max_new_tokens": 6}
    return {"type": "text_to_text", "data": str(folder / "texts.jsonl"), **limits, **more}


def test_written_texts_are_the_same_after_a_reader_with_its_own_adapter_was_added(
    writing_run: Path, tiny_data: Path
) -> None:
    grown = add_task(writing_run, topics(tiny_data, own_adapter={"r": 2}))
    tasks = json.loads((grown.folder / proof.FILE).read_text())["tasks"]
    assert list(tasks) == ["intent", "reply"]
    assert all(each["same"] for each in tasks.values())
    rows = [{"source": "parcel number 3"}]
    assert [each.value for each in grown.predict("reply", rows)] == [
        each.value for each in type(grown)(writing_run).predict("reply", rows)
    ]


def test_a_writer_writes_through_an_adapter_of_its_own(writing_run: Path) -> None:
    request = {"tasks": {"second": text_task(writing_run.parent, prefix="again: ")}, "own_adapter": {"r": 2}}
    grown = add_task(writing_run, request)
    tasks = json.loads((grown.folder / proof.FILE).read_text())["tasks"]
    assert list(tasks) == ["intent", "reply"]
    assert all(each["same"] for each in tasks.values())
    model, _, _ = load_model(grown.folder / "model")
    seen: list[list[str]] = []
    backbone: Any = unwrapped(model.backbone)
    layer: Any = next(each for each in backbone.modules() if "own-second" in getattr(each, "lora_A", {}))
    layer.register_forward_hook(lambda *_: seen.append(list(layer.active_adapters)))
    grown._loaded = (model, *grown.loaded()[1:])
    for name, active in (("second", ["default", "own-second"]), ("reply", ["default"])):
        seen.clear()
        grown.predict(name, [{"source": "parcel number 3"}])
        assert seen
        assert all(each == active for each in seen)


def test_a_writer_is_trained_on_by_replay(writing_run: Path) -> None:
    request = {"tasks": {"second": text_task(writing_run.parent, prefix="again: ")}}
    grown = add_task(writing_run, {**request, "gentle": "replay"})
    model, tasks, _ = load_model(grown.folder / "model")
    assert list(tasks) == ["intent", "reply", "second"]
    assert model.reads_words == {"reply", "second"}
