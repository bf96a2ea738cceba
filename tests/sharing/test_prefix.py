"""Prefixes of attention are what a cache of the same keys and values would be, in every family that can have them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from sharing_tools import MODELS, SIZES, TASK_OF_ROW, TASKS, WORDS, inputs_of, installed, move, picked, row_losses
from torch import Tensor

from taskloom.config import load_config
from taskloom.errors import ConfigError, ModelError
from taskloom.model import build_model, check_packing
from taskloom.model.sharing import SHARINGS
from taskloom.preparation import prepare

WIDE = {"vocab_size": WORDS, "d_model": 16, "max_position_embeddings": 32}
BART = {f"{part}_{key}": size for part in ("encoder", "decoder") for key, size in (("layers", 2), ("ffn_dim", 24))}
BART |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
MLA = {"kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 6}
FAMILIES: dict[str, Any] = {
    "roberta": lambda: transformers.RobertaConfig(**SIZES, pad_token_id=0),
    "modernbert": lambda: transformers.ModernBertConfig(**SIZES, pad_token_id=0, bos_token_id=1, eos_token_id=2),
    "albert": lambda: transformers.AlbertConfig(**SIZES, embedding_size=8),
    "bart": lambda: transformers.BartConfig(**WIDE, **BART),
    "qwen3": lambda: transformers.Qwen3Config(**SIZES, num_key_value_heads=1, head_dim=8),
    "mistral": lambda: transformers.MistralConfig(**SIZES, num_key_value_heads=1, sliding_window=3),
    "deepseek": lambda: transformers.DeepseekV3Config(**SIZES, num_key_value_heads=2, first_k_dense_replace=2, **MLA),
}
"""Beside those of the other tests: a window, one layer used again, cross-attention, values of another width."""

REFUSED: dict[str, Any] = {
    "DebertaV2Model": (lambda: transformers.DebertaV2Config(**SIZES), "whose attention is `eager`"),
    "MPNetModel": (lambda: transformers.MPNetConfig(**SIZES), "whose attention is `eager`"),
    "FalconModel": (
        lambda: transformers.FalconConfig(vocab_size=WORDS, hidden_size=16, num_hidden_layers=1, num_attention_heads=2),
        "which calls its attention by itself",
    ),
}


def made(config: Any, length: int = 3) -> tuple[Any, Any]:
    """Give a model with a prefix of each task, moved off its start."""
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(config).eval()
    routing = SHARINGS.load("prefix")(length=length).install(model, TASKS)
    move(model, routing)
    return model, routing


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_prefix_is_what_a_cache_of_the_same_keys_and_values_is(kind: str) -> None:
    model, routing = installed(kind, "prefix", dtype=torch.float64)
    model.eval()
    inputs, rows = inputs_of(model, len(TASK_OF_ROW)), len(TASK_OF_ROW)
    routing.rows(TASK_OF_ROW)
    found = model(**inputs).logits
    torch.manual_seed(0)
    plain = MODELS[kind]().eval().to(torch.float64)
    cache = transformers.DynamicCache(config=plain.config)
    for number, path in enumerate(sorted({name.rpartition(".keys.")[0] for name in routing.owner if ".keys." in name})):
        part = model.get_submodule(path)
        states = [torch.stack([each.of(TASKS[task]) for task in TASK_OF_ROW]) for each in (part.keys, part.values)]
        heads = getattr(plain.config, "num_key_value_heads", None) or plain.config.num_attention_heads
        keys, values = (state.view(rows, 3, heads, -1).transpose(1, 2) for state in states)
        cache.update(keys, values, number)
    mask = torch.cat([torch.ones(rows, 3, dtype=torch.int64), inputs["attention_mask"]], dim=1)
    places = torch.arange(inputs["input_ids"].shape[1]).expand(rows, -1)
    wanted = plain(
        input_ids=inputs["input_ids"], attention_mask=mask, position_ids=places, past_key_values=cache, use_cache=True
    ).logits
    torch.testing.assert_close(found, wanted, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_reads_each_row_with_its_own_prefix(family: str) -> None:
    model, routing = made(FAMILIES[family]())
    inputs, tasks = inputs_of(model, len(TASK_OF_ROW), tokens=8), torch.tensor(TASK_OF_ROW)
    real = inputs["attention_mask"].bool() if not model.config.is_encoder_decoder else slice(None)
    routing.rows(tasks)
    mixed = model(**inputs).last_hidden_state
    row_losses(mixed).sum().backward()
    assert all(model.get_parameter(name).grad.abs().sum() > 0 for name in routing.owner)
    for row in range(len(tasks)):
        routing.rows(tasks[row : row + 1])
        alone = model(**picked(inputs, torch.tensor([row]))).last_hidden_state[0]
        kept = real[row] if isinstance(real, Tensor) else real
        torch.testing.assert_close(mixed[row][kept], alone[kept], atol=1e-5, rtol=1e-5)
    routing.rows((tasks + 1) % 3)
    other = model(**inputs).last_hidden_state
    assert ((other - mixed).abs().amax(dim=(1, 2)) > 1e-4).all()


@pytest.mark.parametrize("kind", ["llama", "gpt2", "t5"])
def test_a_cache_gives_what_whole_sequences_give_and_holds_no_prefix(kind: str) -> None:
    model, routing = installed(kind, "prefix")
    model.eval()
    routing.rows([0, 2])
    inputs = inputs_of(model, 2)
    del inputs["attention_mask"]
    inputs.pop("decoder_input_ids", None)
    options: dict[str, Any] = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    told = [
        model.generate(**inputs, **options, use_cache=cached, return_dict_in_generate=True) for cached in (True, False)
    ]
    assert torch.equal(told[0].sequences, told[1].sequences)
    assert told[0].past_key_values.get_seq_length() == told[0].sequences.shape[1] - 1


def test_a_causal_model_sees_its_prefix_and_no_later_token() -> None:
    model, routing = installed("llama", "prefix")
    model.eval()
    ids = inputs_of(model, 2)["input_ids"]
    routing.rows([0, 1])
    before = model(input_ids=ids).logits
    ids[:, -1] = (ids[:, -1] + 1) % WORDS
    after = model(input_ids=ids).logits
    assert torch.equal(before[:, :-1], after[:, :-1])
    routing.rows([1, 0])
    assert not torch.allclose(model(input_ids=ids).logits[:, 0], after[:, 0], atol=1e-3)


def test_a_fresh_prefix_is_what_the_backbone_makes_of_tokens_and_the_same_for_all_tasks() -> None:
    model, routing = installed("bert", "prefix", trained=False)
    part = model.get_submodule("bert.encoder.layer.0.attention.self.task_prefix")
    held = [part.keys.of(task) for task in TASKS]
    assert torch.equal(held[0], held[1])
    model.eval()
    torch.manual_seed(0)
    MODELS["bert"]()  # draws what was drawn before the tokens
    ids = torch.randint(WORDS, (1, 3))
    states = model.bert.embeddings(ids)
    torch.testing.assert_close(held[0], model.bert.encoder.layer[0].attention.self.key(states)[0])
    routing.add_task("tone")
    assert torch.equal(part.keys.of("tone"), held[0])


@pytest.mark.parametrize("kind", REFUSED)
def test_a_backbone_that_calls_its_own_attention_is_refused(kind: str) -> None:
    config, found = REFUSED[kind]
    with pytest.raises(ModelError) as error:
        made(config())
    assert str(error.value) == (
        "`model.sharing.scheme` should be one for a backbone whose attention transformers calls by its interface "
        f"(`sdpa`). Found `prefix` with a `{kind}`, {found}. "
        "Take `per_task`, or a backbone such as BERT, RoBERTa, T5, BART, GPT-2, Llama, Qwen or Mistral."
    )


def test_attention_that_the_user_chose_is_left_to_the_user() -> None:
    config = transformers.BertConfig(**SIZES, attn_implementation="eager")
    with pytest.raises(ModelError, match=r"whose attention is `eager`. Leave out `model.attn_implementation`\.$"):
        made(config)


def test_a_prefix_has_one_token_at_least() -> None:
    with pytest.raises(ConfigError, match=r"`model.sharing.length` should be a whole number of 1 or more. Found `0`."):
        SHARINGS.load("prefix")(length=0)


def test_other_models_of_the_process_attend_as_before() -> None:
    torch.manual_seed(0)
    plain = MODELS["bert"]().eval()
    inputs = inputs_of(plain, 2)
    wanted = plain(**inputs).logits
    installed("bert", "prefix")
    assert torch.equal(plain(**inputs).logits, wanted)


def test_packed_rows_see_their_task_s_prefix_and_no_other_sequence(run_values: dict[str, Any]) -> None:
    run_values["tasks"] = {name: run_values["tasks"][name] for name in ("intent", "slots")}
    run_values["model"] = {"name_or_path": run_values["model"]["name_or_path"], "sharing": {"scheme": "prefix"}}
    prepared = prepare(load_config(run_values))
    model = build_model(prepared.config.model, prepared.tasks, seed=0)
    check_packing(model, prepared.longest(), prepared.padding, "tiny")


def test_the_parts_are_counted_by_task() -> None:
    _, routing = installed("bert", "prefix")
    assert routing.counts() == {"shared": 0, **dict.fromkeys(TASKS, 2 * 2 * 3 * 16)}
    _, routing = installed("bert", "prefix_shared")
    assert routing.counts() == {"shared": 2 * 2 * 3 * 16, **dict.fromkeys(TASKS, 0)}
