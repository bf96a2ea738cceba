"""Tiny models of the real classes with each sharing scheme in them, and the rows of three tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional

from taskloom.model.sharing import SHARINGS

WORDS = 41
TASKS = ("intent", "slots", "reply")
TASK_OF_ROW = (2, 0, 2, 1, 0, 2)
SIZES = {"vocab_size": WORDS, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
SIZES |= {"num_attention_heads": 2, "max_position_embeddings": 32}


def _bert() -> Any:
    quiet = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return transformers.BertForMaskedLM(transformers.BertConfig(**SIZES, **quiet))


def _llama() -> Any:
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES, num_key_value_heads=1, use_cache=False))


def _t5() -> Any:
    sizes = {"vocab_size": WORDS, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}
    config = transformers.T5Config(**sizes, dropout_rate=0.0, decoder_start_token_id=0, use_cache=False)
    return transformers.T5ForConditionalGeneration(config)


def _gpt2() -> Any:
    sizes = {"vocab_size": WORDS, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}
    quiet = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": 2, "eos_token_id": 3}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, **quiet, use_cache=False))


MODELS: dict[str, Callable[[], Any]] = {"bert": _bert, "llama": _llama, "t5": _t5, "gpt2": _gpt2}

LOW = {"r": 3, "lora_alpha": 6.0}
SCHEMES: dict[str, dict[str, Any]] = {
    "per_task": {"scheme": "per_task", **LOW},
    "shared_and_task": {"scheme": "shared_and_task", **LOW, "task_r": 2},
    "groups": {"scheme": "groups", **LOW, "groups": {"short": ["intent", "reply"], "long": ["slots"]}},
    "mtl_lora": {"scheme": "mtl_lora", **LOW},
    "experts": {"scheme": "experts", **LOW},
    "experts_top": {"scheme": "experts", **LOW, "top_k": 2},
    "experts_token": {"scheme": "experts", **LOW, "gate": "token", "top_k": 2},
    "experts_both": {"scheme": "experts", **LOW, "gate": "task_and_token"},
    "bottleneck": {"scheme": "bottleneck", "width": 5, "nonlinearity": "gelu"},
    "bottleneck_shared": {"scheme": "bottleneck", "width": 5, "own": False},
    "task_layers": {"scheme": "task_layers", "top": 1},
    "prefix": {"scheme": "prefix", "length": 3},
    "prefix_shared": {"scheme": "prefix", "length": 3, "own": False},
}
"""Name in tests -> the scheme and its options."""

SHARED = [name for name in SCHEMES if name not in {"per_task", "bottleneck", "task_layers", "prefix"}]
"""Those with parameters that several tasks use."""

PLAIN = ["per_task", "shared_and_task", "groups", "mtl_lora", "experts", "experts_top"]
"""Those that are one LoRA to a task."""


def scheme_of(name: str, **options: Any) -> Any:
    """Make a scheme by its name in `SCHEMES`."""
    given = {**SCHEMES[name], **options}
    return SHARINGS.load(given.pop("scheme"))(**given)


def installed(
    kind: str, name: str, *, trained: bool = True, dtype: torch.dtype = torch.float32, **options: Any
) -> tuple[Any, Any]:
    """Give a model with a scheme in it, in training mode, and its routing; `trained` moves parts off their start."""
    torch.manual_seed(0)
    model = MODELS[kind]().train().to(dtype)
    routing = scheme_of(name, **options).install(model, TASKS)
    if trained:
        move(model, routing)
    return model, routing


def move(model: nn.Module, routing: Any, names: Sequence[str] | None = None) -> None:
    """Move parts off their start, as training would."""
    with torch.no_grad():
        for name in routing.owner if names is None else names:
            parameter = model.get_parameter(name)
            parameter += torch.randn_like(parameter) * 0.2


def inputs_of(model: Any, rows: int, tokens: int = 7, seed: int = 0) -> dict[str, Tensor]:
    """Draw rows for a model, the first of them with padding."""
    generator = torch.Generator().manual_seed(seed)
    inputs = {
        "input_ids": torch.randint(4, WORDS, (rows, tokens), generator=generator),
        "attention_mask": torch.ones(rows, tokens, dtype=torch.int64),
    }
    inputs["attention_mask"][0, -2:] = 0
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = torch.randint(4, WORDS, (rows, 4), generator=generator)
    return inputs


def picked(inputs: dict[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
    """Take some rows."""
    return {name: value[rows] for name, value in inputs.items()}


def row_losses(logits: Tensor) -> Tensor:
    """Give a loss of each row: [row]."""
    labels = (torch.arange(logits.shape[1]) % WORDS).expand(logits.shape[:2])
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32)).transpose(1, 2)
    return functional.cross_entropy(wide, labels, reduction="none").sum(dim=1)


def gradients(model: nn.Module, routing: Any) -> dict[str, Tensor]:
    """Give copies of the gradients of all trained parts, zeros where there is none, and clear them."""
    found = {}
    for name in routing.owner:
        parameter = model.get_parameter(name)
        found[name] = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
    model.zero_grad()
    return found


def passed(model: Any, routing: Any, tasks: Sequence[int], inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Run forward and backward pass of the summed losses, and give the gradients."""
    routing.rows(tasks)
    row_losses(model(**inputs).logits).sum().backward()
    return gradients(model, routing)


def assert_near(found: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float = 1e-5) -> None:
    """Hold gradients against others, each relative to the largest of its parameter."""
    assert found.keys() == wanted.keys()
    assert any(value.any() for value in wanted.values())
    for name, value in wanted.items():
        assert (found[name] - value).abs().max() <= tolerance * (1 + value.abs().max()), name


def checkpointed(model: Any, *, reentrant: bool) -> Any:
    """Have activations computed again in the backward pass."""
    model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": reentrant})
    model.enable_input_require_grads()
    return model
