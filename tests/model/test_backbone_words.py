"""Every family reads words: losses are those of transformers' own model, and heads stand beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn
from torch.nn import functional

from splitting_tools import BACKBONES, WORDS
from taskloom.batches.chunks import Padding, chunks, collate
from taskloom.model.families import family_of
from taskloom.model.multitask import MultiTaskModel
from taskloom.tasks import Task
from taskloom.tasks._words import WordsTask, written
from taskloom.tasks.classification import Classification
from taskloom.types import IGNORED, Item


def bart(_tie: bool) -> Any:
    sizes = {
        "vocab_size": WORDS,
        "d_model": 16,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "max_position_embeddings": 48,
    }
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24}
    return transformers.BartForConditionalGeneration(transformers.BartConfig(**sizes, **heads, dropout=0.0))


def capped(_tie: bool) -> Any:
    sizes = {"vocab_size": WORDS, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "head_dim": 8}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "final_logit_softcapping": 0.5}
    return transformers.Gemma2ForCausalLM(transformers.Gemma2Config(**sizes, **heads))


KINDS = {kind: BACKBONES[kind] for kind in ("llama", "qwen2", "mistral", "gemma", "gpt2", "t5")}
KINDS |= {"bart": bart, "gemma2": capped}
ENCODERS = {kind: BACKBONES[kind] for kind in ("bert", "roberta", "modernbert")}


class Copy(WordsTask):
    """Learns whatever its items say; nothing else of it is used here."""

    columns, predicts, default_metrics = {}, "text", ("exact_match",)

    def fault(self, row: Any) -> None:
        return None

    def encode(self, rows: Any, tokenizer: Any) -> Any:
        yield from ()

    def decode(self, row: Any, items: Any, outputs: Any) -> Any: ...

    def reference(self, row: Any) -> Any: ...

    def baseline(self, train: Any, rows: Any) -> Any: ...


def tasks_of(model: Any) -> dict[str, Task]:
    copy, mood = Copy(), Classification(dropout=0.0)
    mood._set(["bad", "good"])
    for task in (copy, mood):
        task.family = family_of(model.config)
    return {"copy": copy, "mood": mood}


def items_of(family: str, eos: int = 3) -> list[tuple[str, Item]]:
    make = {"eos": eos, "max_length": 32, "max_answer": 16}
    return [
        ("copy", written([5, 6, 7, 8], [9, 10], family, **make)),
        ("copy", written([11, 12], [13, 14, 15, 16], family, **make)),
        ("mood", {"input_ids": [[7, 8, 9]], "label": 1}),
    ]


def padding_of(model: Any) -> Padding:
    return Padding(0, getattr(model.config, "decoder_start_token_id", None))


@pytest.mark.parametrize("kind", KINDS)
def test_losses_are_those_of_the_family_s_own_model(kind: str) -> None:
    torch.manual_seed(0)
    base = KINDS[kind](True).eval()
    tasks, padding = tasks_of(base), padding_of(base)
    model = MultiTaskModel(base, tasks).eval()
    model.check_words()
    for name, item in items_of(family_of(base.config))[:2]:
        chunk = collate([(name, item)], tasks, padding)
        wanted = base(
            input_ids=torch.tensor(item["input_ids"]), labels=torch.tensor(item["labels"]), use_cache=False
        ).loss
        found = tasks[name].loss(model(chunk)[name], chunk.parts[name].targets)
        torch.testing.assert_close(found, wanted.reshape(1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ENCODERS)
def test_an_encoder_s_losses_are_those_of_its_masked_words(kind: str) -> None:
    torch.manual_seed(0)
    base = ENCODERS[kind](True).eval()
    tasks = tasks_of(base)
    model = MultiTaskModel(base, tasks).eval()
    model.check_words()
    item = {"input_ids": [[4, 5, 6, 7, 8]], "labels": [[IGNORED, 9, IGNORED, IGNORED, 10]], "prompt_tokens": 5}
    chunk = collate([("copy", item)], tasks, Padding(0))
    logits = base(input_ids=torch.tensor(item["input_ids"])).logits
    wanted = functional.cross_entropy(logits[0], torch.tensor(item["labels"][0]), ignore_index=IGNORED)
    found = tasks["copy"].loss(model(chunk)["copy"], chunk.parts["copy"].targets)
    torch.testing.assert_close(found, wanted.reshape(1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_words_and_heads_share_a_step_and_its_cut_changes_nothing(kind: str) -> None:
    torch.manual_seed(0)
    base = KINDS[kind](True).eval()
    tasks, padding = tasks_of(base), padding_of(base)
    model = MultiTaskModel(base, tasks).eval()
    drawn = items_of(family_of(base.config))
    alone: dict[str, list[float]] = {}
    for name, item in drawn:
        chunk = collate([(name, item)], tasks, padding)
        alone.setdefault(name, []).append(float(tasks[name].loss(model(chunk)[name], chunk.parts[name].targets)))
    together: dict[str, list[float]] = {}
    cut = chunks(drawn, tasks, padding, 4096)
    for chunk in cut:
        outputs = model(chunk)
        for name, part in chunk.parts.items():
            together.setdefault(name, []).extend(tasks[name].loss(outputs[name], part.targets).tolist())
        assert len({name == "copy" for name in chunk.parts}) == 1 or base.config.is_encoder_decoder is False
    assert together.keys() == alone.keys()
    for name, losses in alone.items():
        assert sorted(together[name]) == pytest.approx(sorted(losses), rel=1e-4, abs=1e-5)


def test_a_backbone_that_bends_its_logits_otherwise_is_refused() -> None:
    from taskloom.errors import ModelError

    base = BACKBONES["llama"](False)

    class Bent(nn.Linear):
        def forward(self, states: torch.Tensor) -> torch.Tensor:
            return super().forward(states) * 2

    bent = Bent(16, WORDS, bias=False)
    bent.weight = base.lm_head.weight
    base.lm_head = bent
    model = MultiTaskModel(base, tasks_of(base))
    with pytest.raises(ModelError, match="whose logits are not a linear map"):
        model.check_words()


@pytest.mark.parametrize(("kind", "family"), [("bert", "encoder"), ("llama", "decoder"), ("t5", "encoder_decoder")])
def test_a_saved_backbone_is_loaded_with_its_head_where_words_are_read(kind: str, family: str, tmp_path: Path) -> None:
    from taskloom.config.schema import ModelSection
    from taskloom.model import load_backbone

    base = BACKBONES[kind](True)
    base.save_pretrained(tmp_path)
    section = ModelSection(name_or_path=str(tmp_path))
    with_words = load_backbone(section, words=True)
    assert family_of(with_words.config) == family
    assert with_words.get_output_embeddings() is not None
    bare = load_backbone(section)
    assert (bare.get_output_embeddings() is None) == (family != "encoder_decoder")
