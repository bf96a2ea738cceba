"""Backbones of other families, random and tiny: one step, saved, read back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

from taskloom.errors import ConfigError
from taskloom.model import load_model
from taskloom.model.families import class_for
from taskloom.model.multitask import unwrapped
from taskloom.session import Session

pytest_plugins = ("tiny_model_fixtures",)

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
PLACES = {"max_position_embeddings": 140}
SPECIAL = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
MODERN = {**PLACES, **SPECIAL, "cls_token_id": 2, "sep_token_id": 3, "local_attention": 16}

FAMILIES: dict[str, Callable[[int], Any]] = {
    "roberta": lambda words: transformers.RobertaConfig(
        vocab_size=words, type_vocab_size=1, **SIZES, **PLACES, **SPECIAL
    ),
    "xlm-roberta": lambda words: transformers.XLMRobertaConfig(
        vocab_size=words, type_vocab_size=1, **SIZES, **PLACES, **SPECIAL
    ),
    "deberta-v2": lambda words: transformers.DebertaV2Config(
        vocab_size=words,
        type_vocab_size=0,
        relative_attention=True,
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
        share_att_key=True,
        position_buckets=16,
        norm_rel_ebd="layer_norm",
        **SIZES,
        **PLACES,
    ),
    "electra": lambda words: transformers.ElectraConfig(vocab_size=words, embedding_size=16, **SIZES, **PLACES),
    "distilbert": lambda words: transformers.DistilBertConfig(
        vocab_size=words, dim=32, n_layers=2, n_heads=2, hidden_dim=48, **PLACES
    ),
    "modernbert": lambda words: transformers.ModernBertConfig(vocab_size=words, **SIZES, **MODERN),
    "mpnet": lambda words: transformers.MPNetConfig(vocab_size=words, **SIZES, **PLACES),
    "albert": lambda words: transformers.AlbertConfig(vocab_size=words, embedding_size=16, **SIZES, **PLACES),
    "gpt2": lambda words: transformers.GPT2Config(vocab_size=words, n_embd=32, n_layer=2, n_head=2, n_positions=140),
    "llama": lambda words: transformers.LlamaConfig(vocab_size=words, **SIZES, **PLACES, **SPECIAL),
    "qwen2": lambda words: transformers.Qwen2Config(vocab_size=words, num_key_value_heads=1, **SIZES, **PLACES),
    "t5": lambda words: transformers.T5Config(
        vocab_size=words, d_model=32, d_kv=16, d_ff=48, num_layers=2, num_heads=2, decoder_start_token_id=0
    ),
    "bart": lambda words: transformers.BartConfig(
        vocab_size=words,
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        max_position_embeddings=140,
    ),
}
"""Family -> its configuration with so many words."""


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest, tiny_tokenizer: Path, tmp_path: Path) -> Path:
    """A folder with a random encoder, and with a tokenizer that gives token types whatever the encoder takes."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_tokenizer)
    assert "token_type_ids" in tokenizer("a", "b")
    config = FAMILIES[request.param](len(tokenizer))
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(tmp_path / request.param)
    tokenizer.save_pretrained(tmp_path / request.param)
    return tmp_path / request.param


@pytest.mark.parametrize("adapter", [{"type": "lora", "r": 2}, None], ids=["lora", "full"])
def test_a_family_trains_one_step_and_is_read_back_bit_for_bit(
    family: Path, adapter: dict[str, Any] | None, make_session: Callable[..., Session], tmp_path: Path
) -> None:
    session = make_session(name_or_path=str(family), adapter=adapter)
    before = {name: p.detach().clone() for name, p in session.model.named_parameters()}
    session.trainer().train()
    moved = [
        name for name, p in session.model.backbone.named_parameters() if not torch.equal(p, before[f"backbone.{name}"])
    ]
    assert moved
    assert all(torch.isfinite(p).all() for p in session.model.parameters())
    session.save(tmp_path / "model")
    again, _, _ = load_model(tmp_path / "model")
    with torch.inference_mode():
        for chunk in session.steps[0].chunks:
            one, other = session.model.eval()(chunk), again(chunk)
            assert all(torch.equal(one[name], other[name]) for name in one)
    inputs = {key: value for key, value in chunk.inputs.items() if key not in session.model.refused}
    loader = class_for(session.model.config, words=False)
    with torch.inference_mode():
        if adapter:
            from peft import PeftModel

            plain = PeftModel.from_pretrained(loader.from_pretrained(family), tmp_path / "model" / "adapter")
        else:
            plain = loader.from_pretrained(tmp_path / "model" / "backbone")
        hidden, wanted = (reading(each.eval())(**inputs)[0] for each in (plain, session.model.backbone))
    assert torch.equal(hidden, wanted)


def reading(backbone: Any) -> Any:
    """Give the part that reads, of a backbone that also writes."""
    return unwrapped(backbone).get_encoder() if backbone.config.is_encoder_decoder else backbone


def test_padding_changes_no_answer_of_a_family(family: Path, make_session: Callable[..., Session]) -> None:
    session = make_session(name_or_path=str(family))
    model = session.model.eval()
    found = []
    for limit in (1, 10**6):
        session.steps.limit_tokens = limit
        outputs: dict[tuple[str, int], torch.Tensor] = {}
        with torch.inference_mode():
            for chunk in session.steps[0].chunks:
                given = model(chunk)
                for name, part in chunk.parts.items():
                    losses = session.prepared.tasks[name].loss(given[name], part.targets)
                    for item, loss in zip(part.items, losses, strict=True):
                        outputs[name, item["row"]] = loss
        found.append(outputs)
    assert found[0].keys() == found[1].keys()
    for key, loss in found[0].items():
        torch.testing.assert_close(loss, found[1][key], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["roberta", "distilbert", "modernbert"], indirect=True)
def test_token_types_are_kept_from_encoders_that_have_no_use_for_them(
    family: Path, make_session: Callable[..., Session]
) -> None:
    model = make_session(name_or_path=str(family)).model
    assert model.refused == {"token_type_ids"}


@pytest.mark.parametrize("family", ["electra", "albert"], indirect=True)
def test_token_types_reach_encoders_that_tell_them_apart(family: Path, make_session: Callable[..., Session]) -> None:
    session = make_session(name_or_path=str(family))
    model = session.model.eval()
    assert not model.refused
    chunk = next(chunk for chunk in session.steps[0].chunks if "answer" in chunk.parts)
    with torch.inference_mode():
        before = model(chunk)["answer"]
        chunk.inputs["token_type_ids"] = 1 - chunk.inputs["token_type_ids"]
        after = model(chunk)["answer"]
    assert not torch.allclose(before, after)


def test_a_full_model_is_saved_whole(make_session: Callable[..., Session], tmp_path: Path) -> None:
    session = make_session(adapter=None)
    session.save(tmp_path / "model")
    weights = load_file(str(tmp_path / "model" / "backbone" / "model.safetensors"))
    assert sum(value.numel() for value in weights.values()) == session.model.trained_parameters()["backbone"]


@pytest.mark.parametrize(
    ("family", "places"),
    [
        ("roberta", 139),
        ("electra", 140),
        ("mpnet", 138),
        ("distilbert", 140),
        ("modernbert", None),
        ("deberta-v2", None),
    ],
    indirect=["family"],
)
def test_a_family_has_places_for_so_many_tokens(
    family: Path, places: int | None, make_session: Callable[..., Session]
) -> None:
    model = make_session(name_or_path=str(family)).model
    assert model.places() == places
    if places:
        for tokens in (places, places + 1):
            inputs = {"input_ids": torch.full((1, tokens), 9), "attention_mask": torch.ones(1, tokens).long()}
            with contextlib.nullcontext() if tokens == places else pytest.raises((IndexError, RuntimeError)):
                model.backbone(**inputs)


def test_texts_longer_than_the_backbone_has_places_for_are_refused_where_the_tokenizer_does_not_know(
    tiny_encoder: Path, make_session: Callable[..., Session], tmp_path: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)
    tokenizer.model_max_length = int(1e30)
    config = transformers.BertConfig(vocab_size=len(tokenizer), max_position_embeddings=64, **SIZES)
    AutoModel.from_config(config).save_pretrained(tmp_path / "short")
    tokenizer.save_pretrained(tmp_path / "short")
    with pytest.raises(ConfigError) as raised:
        make_session(name_or_path=str(tmp_path / "short"))
    assert [fault.where for fault in raised.value.faults] == [
        "tasks.intent.max_length",
        "tasks.slots.max_length",
        "tasks.answer.max_length",
    ]
    assert "be at most the backbone's 64 tokens" in str(raised.value)
