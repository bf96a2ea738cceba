"""A backbone in 4 or 8 bits with an adapter: trained, balanced, saved and read back; or refused in a sentence."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from taskloom.config import load_config
from taskloom.errors import ConfigError, MissingExtraError
from taskloom.model import load_model
from taskloom.model.backbone import quantised
from taskloom.run import train

SIZES = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 128}
"""As wide as a block of 4-bit numbers at least."""

INSTALLED = importlib.util.find_spec("bitsandbytes") is not None


def wide(tokenizer: Path, folder: Path) -> Path:
    held = transformers.AutoTokenizer.from_pretrained(tokenizer)
    transformers.BertModel(transformers.BertConfig(vocab_size=len(held), **SIZES)).save_pretrained(folder)
    held.save_pretrained(folder)
    return folder


@pytest.mark.skipif(not INSTALLED, reason="bitsandbytes is not installed")
@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_a_quantised_backbone_is_trained_and_read_back(
    kind: str, run_values: dict[str, Any], tiny_tokenizer: Path, tmp_path: Path
) -> None:
    run_values["model"]["name_or_path"] = str(wide(tiny_tokenizer, tmp_path / "wide"))
    run_values["tasks"] = {name: run_values["tasks"][name] for name in ("intent", "slots")}
    run_values["model"] |= {"quantization": kind, "adapter": {"type": "lora", "r": 2}}
    run_values["balance"] = "upgrad"
    run = train(run_values, tmp_path / "run")
    model, _, _ = run.loaded()
    assert model.backbone.get_base_model().is_quantized
    again, _, _ = load_model(run.record.model)
    trained = {name: each for name, each in again.named_parameters() if "lora" in name}
    assert trained
    assert all(torch.equal(each, trained[name]) for name, each in model.named_parameters() if "lora" in name)
    assert {score.task for score in run.scores} == {"intent", "slots", "composite"}


def test_a_quantised_backbone_without_an_adapter_is_refused(run_values: dict[str, Any]) -> None:
    run_values["model"] |= {"quantization": "nf4", "adapter": None}
    with pytest.raises(ConfigError) as raised:
        load_config(run_values)
    assert str(raised.value).endswith(
        "`model.quantization` should stand beside `model.adapter`. Found `nf4` without one. "
        "Write `adapter: lora`, or leave out `quantization`."
    )


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'taskloom\[quantize\]'"):
        quantised("nf4")
