"""Packed rows through real encoders: what heads say of a sequence does not depend on its neighbours in the row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModel

from taskloom.batches.chunks import Padding, collate
from taskloom.batches.packing import packed_chunks
from taskloom.errors import ConfigError
from taskloom.model import MultiTaskModel, check_packing
from taskloom.model.bundled import bundled_folder
from taskloom.tasks import Task
from taskloom.tasks.classification import Classification
from taskloom.tasks.extractive_qa import ExtractiveQa
from taskloom.tasks.multiple_choice import MultipleChoice
from taskloom.tasks.token_classification import TokenClassification

pytest_plugins = ("tiny_model_fixtures",)

WORDS = 300
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
TOKENS = "max_position_embeddings"
PLACES = {"vocab_size": WORDS, TOKENS: 80}
MARKS = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
MODERN = {**MARKS, "cls_token_id": 0, "sep_token_id": 2, "local_attention": 16}

FAMILIES: dict[str, Callable[[], Any]] = {
    "bert": lambda: transformers.BertConfig(**PLACES, **SIZES),
    "roberta": lambda: transformers.RobertaConfig(type_vocab_size=1, **PLACES, **SIZES, **MARKS),
    "distilbert": lambda: transformers.DistilBertConfig(dim=32, n_layers=2, n_heads=2, hidden_dim=48, **PLACES),
    "electra": lambda: transformers.ElectraConfig(embedding_size=16, **PLACES, **SIZES),
    "albert": lambda: transformers.AlbertConfig(embedding_size=16, **PLACES, **SIZES),
    "mpnet": lambda: transformers.MPNetConfig(**PLACES, **SIZES),
}
"""Encoders that take packed rows."""

OTHERS: dict[str, Callable[[], Any]] = {
    "modernbert": lambda: transformers.ModernBertConfig(**PLACES, **SIZES, **MODERN),
    "deberta": lambda: transformers.DebertaV2Config(
        relative_attention=True, pos_att_type=["p2c", "c2p"], position_biased_input=False, **PLACES, **SIZES
    ),
}
"""Encoders that do not: one keeps windows of attention that a mask of ours takes from it, one wants another mask."""

LENGTHS = (70, 9, 14, 33, 5, 21, 8, 40, 12, 6, 17, 11)


def tasks_of_four_kinds() -> dict[str, Task]:
    intent, slots = Classification(), TokenClassification()
    intent.fit([{"text": "", "label": label} for label in "abc"])
    slots.fit([{"tokens": [], "tags": ["O", "B-x"]}])
    return {"intent": intent, "slots": slots, "reply": MultipleChoice(), "answer": ExtractiveQa()}


def drawn_items(words: int = WORDS) -> list[tuple[str, dict[str, Any]]]:
    random = torch.Generator().manual_seed(4)
    drawn = []
    for row, length in enumerate(LENGTHS * 2):
        name = ("intent", "slots", "reply", "answer")[row % 4]
        ids = torch.randint(5, words, (length,), generator=random).tolist()
        held = [ids, ids[: length // 2 + 1], ids[::-1]] if name == "reply" else [ids]
        types = [[0] * (len(each) // 2) + [1] * (len(each) - len(each) // 2) for each in held]
        own: dict[str, Any] = {"label": row % 3 if name == "intent" else 0} if name in {"intent", "reply"} else {}
        own |= {"tags": [each % 2 for each in range(length)]} if name == "slots" else {}
        own |= {"start": 1, "end": 2, "begins": [0] * length} if name == "answer" else {}
        drawn.append((name, {"input_ids": held, "token_type_ids": types, "row": row, **own}))
    return drawn


def model_of(config: Any, attention: str | None = None) -> MultiTaskModel:
    torch.manual_seed(0)
    backbone = AutoModel.from_config(config, **({"attn_implementation": attention} if attention else {}))
    return MultiTaskModel(backbone, tasks_of_four_kinds()).eval()


def largest_difference(model: MultiTaskModel, words: int = WORDS) -> float:
    """Give the largest difference of a head's output on packed rows from that on rows of one sequence each."""
    tasks, drawn = tasks_of_four_kinds(), drawn_items(words)
    found = packed_chunks(drawn, tasks, Padding(1), 4096, halves=False)
    assert any(chunk.packing is not None for chunk in found)
    largest = 0.0
    with torch.inference_mode():
        for chunk in found:
            outputs = model(chunk)
            for name, part in chunk.parts.items():
                alone = [model(collate([(name, item)], tasks, Padding(1)))[name] for item in part.items]
                place = 0
                for wanted in alone:
                    own = outputs[name][place : place + len(wanted)]
                    place += len(wanted)
                    own = own[:, : wanted.shape[1]] if own.ndim == 3 else own
                    largest = max(largest, float((own - wanted)[torch.isfinite(wanted)].abs().max()))
    return largest


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", FAMILIES)
def test_heads_say_the_same_of_packed_rows(kind: str, attention: str) -> None:
    if (kind, attention) == ("mpnet", "sdpa"):
        pytest.skip("transformers has none for it")
    model = model_of(FAMILIES[kind](), attention)
    assert largest_difference(model) < 1e-5
    check_packing(model, drawn_items()[0][1], Padding(1), kind)


@pytest.mark.skipif(bundled_folder() is None, reason="the extra `offline` is not installed")
def test_heads_say_the_same_of_packed_rows_of_the_real_encoder() -> None:
    backbone = AutoModel.from_pretrained(bundled_folder(), add_pooling_layer=False)
    model = MultiTaskModel(backbone, tasks_of_four_kinds()).eval()
    assert largest_difference(model, words=30_000) < 1e-5
    check_packing(model, drawn_items(30_000)[0][1], Padding(0), "MiniLM")


def test_a_backbone_whose_windows_of_attention_are_lost_is_refused() -> None:
    with pytest.raises(ConfigError) as raised:
        check_packing(model_of(OTHERS["modernbert"]()), drawn_items()[0][1], Padding(1), "modern")
    text = str(raised.value)
    assert text.startswith(
        "`batching.packing` should be used with a backbone that sees in packed rows what it sees of each sequence "
        "alone. Found `modern`, whose hidden states differ by "
    )
    assert text.endswith(" of their norm. Write `packing: false`.")
    assert "\n" not in text


def test_a_backbone_whose_windows_are_longer_than_every_sequence_is_taken() -> None:
    item = {"input_ids": [list(range(10, 18))], "token_type_ids": [[0] * 8]}
    check_packing(model_of(OTHERS["modernbert"]()), item, Padding(1), "modern")


def test_a_backbone_that_does_not_take_the_mask_is_refused() -> None:
    with pytest.raises(ConfigError) as raised:
        check_packing(model_of(OTHERS["deberta"]()), drawn_items()[0][1], Padding(1), "deberta")
    assert "Found `deberta`, which does not take them: " in str(raised.value)
    assert str(raised.value).endswith(" Write `packing: false`.")


@pytest.mark.parametrize("lost", ["attention_mask", "position_ids", "token_type_ids"])
def test_a_backbone_that_passes_over_what_is_told_of_packed_rows_is_refused(lost: str) -> None:
    model = model_of(FAMILIES["bert"]())
    forward = model.backbone.forward

    def deaf(**inputs: Any) -> Any:
        if lost == "token_type_ids":
            inputs["token_type_ids"] = torch.zeros_like(inputs[lost]) if "position_ids" in inputs else inputs[lost]
        elif "position_ids" in inputs:
            ones = torch.ones_like(inputs["input_ids"])
            inputs[lost] = ones if lost == "attention_mask" else (ones.cumsum(dim=1) - 1) % PLACES[TOKENS]
        return forward(**inputs)

    model.backbone.forward = deaf
    with pytest.raises(ConfigError, match="whose hidden states differ by"):
        check_packing(model, drawn_items()[0][1], Padding(0), "deaf")


def test_a_backbone_that_takes_no_places_is_refused() -> None:
    model = model_of(FAMILIES["bert"]())
    forward = model.backbone.forward
    model.backbone.forward = lambda input_ids, attention_mask, token_type_ids: forward(
        input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
    )
    with pytest.raises(ConfigError, match=r"which does not take them: .*position_ids"):
        check_packing(model, drawn_items()[0][1], Padding(0), "bert")


def test_states_that_are_not_numbers_are_refused() -> None:
    model = model_of(FAMILIES["bert"]())
    forward = model.backbone.forward

    def broken(**inputs: Any) -> Any:
        found = forward(**inputs)
        if "position_ids" in inputs:
            found.last_hidden_state = found.last_hidden_state * float("nan")
        return found

    model.backbone.forward = broken
    with pytest.raises(ConfigError, match="differ by nan of their norm"):
        check_packing(model, drawn_items()[0][1], Padding(0), "bert")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_in_half_precision_is_tried_in_single_precision_and_left_as_it_was(dtype: torch.dtype) -> None:
    model = model_of(FAMILIES["bert"]()).train()
    model.backbone.to(dtype)
    before = {name: (tensor.data_ptr(), tensor.clone()) for name, tensor in model.state_dict().items()}
    check_packing(model, drawn_items()[0][1], Padding(0), "bert")
    assert model.training
    for name, tensor in model.state_dict().items():
        place, held = before[name]
        assert tensor.data_ptr() == place
        assert tensor.dtype == held.dtype
        assert torch.equal(tensor, held)
    modern = model_of(OTHERS["modernbert"]())
    modern.backbone.to(dtype)
    with pytest.raises(ConfigError, match="differ"):
        check_packing(modern, drawn_items()[0][1], Padding(1), "modern")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_packed_rows_run_under_autocast_and_in_half_precision(dtype: torch.dtype) -> None:
    model = model_of(FAMILIES["bert"]())
    kept = [each for each in drawn_items() if each[0] == "intent"]
    tasks = tasks_of_four_kinds()
    (chunk,) = [each for each in packed_chunks(kept, tasks, Padding(0), 4096, halves=False) if each.packing]
    with torch.inference_mode():
        wanted = model(chunk)["intent"]
        model.backbone.to(dtype)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype is torch.float32):
            found = model(chunk)["intent"]
    assert not torch.equal(found, wanted)
    torch.testing.assert_close(found.float(), wanted, rtol=0.05, atol=0.05)
