"""Tiny models of the real classes, and their tasks' gradients by one plain backward pass each."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional

from taskloom.gradients import Engine, Step

WORDS = 61
LLAMA = {
    "vocab_size": WORDS,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 48,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
QUIET = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def _llama(kind: str, **extra: Any) -> Any:
    config = getattr(transformers, f"{kind}Config")
    model = getattr(transformers, f"{kind}ForCausalLM")
    return lambda tie: model(config(**LLAMA, num_key_value_heads=1, use_cache=False, tie_word_embeddings=tie, **extra))


def _masked(kind: str, **extra: Any) -> Any:
    config = getattr(transformers, f"{kind}Config")
    model = getattr(transformers, f"{kind}ForMaskedLM")
    return lambda tie: model(config(**{**LLAMA, **QUIET, **extra}, tie_word_embeddings=tie))


def _gpt2(tie: bool) -> Any:
    sizes = {"vocab_size": WORDS, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 48}
    quiet = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": 2, "eos_token_id": 3}
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(**sizes, **quiet, use_cache=False, tie_word_embeddings=tie)
    )


def _t5(tie: bool) -> Any:
    sizes = {"vocab_size": WORDS, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}
    config = transformers.T5Config(
        **sizes, dropout_rate=0.0, pad_token_id=0, decoder_start_token_id=0, use_cache=False, tie_word_embeddings=tie
    )
    return transformers.T5ForConditionalGeneration(config)


DEBERTA = {
    "type_vocab_size": 0,
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "share_att_key": True,
    "position_buckets": 8,
    "norm_rel_ebd": "layer_norm",
}

BACKBONES: dict[str, Callable[[bool], Any]] = {
    "bert": _masked("Bert"),
    "roberta": _masked("Roberta", type_vocab_size=1),
    "modernbert": _masked("ModernBert", cls_token_id=2, sep_token_id=3, local_attention=8),
    "deberta": _masked("DebertaV2", **DEBERTA),
    "llama": _llama("Llama"),
    "qwen2": _llama("Qwen2"),
    "mistral": _llama("Mistral"),
    "gemma": _llama("Gemma", head_dim=8),
    "gpt2": _gpt2,
    "t5": _t5,
}


def adapted(model: Any, **options: Any) -> Any:
    """Put a LoRA adapter on every linear layer, its second factor not zero."""
    import peft

    config = peft.LoraConfig(**{"r": 3, "lora_alpha": 6, "target_modules": "all-linear", **options})
    wrapped = peft.get_peft_model(model, config)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name or "lora_embedding_A" in name:
            nn.init.normal_(parameter, std=0.1)
    return wrapped


def checkpointed(model: Any, *, reentrant: bool) -> Any:
    """Have activations computed again in the backward pass."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    base.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": reentrant})
    if base is not model:
        base.enable_input_require_grads()
    return model


class Batch:
    """Rows of some tasks for a model of the kinds above.

    Args:
        model: a model.
        tasks: [row] the task of each row.
        tokens: of a row.
        seed: of the words.
    """

    def __init__(self, model: Any, tasks: Sequence[int], tokens: int = 7, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        shape = (len(tasks), tokens)
        self.model = model
        self.tasks = torch.tensor(list(tasks))
        self.inputs: dict[str, Tensor] = {
            "input_ids": torch.randint(4, WORDS, shape, generator=generator),
            "attention_mask": torch.ones(shape, dtype=torch.int64),
        }
        if tokens > 2:
            self.inputs["attention_mask"][0, -2:] = 0
        self.labels = torch.randint(4, WORDS, shape, generator=generator)
        if model.config.is_encoder_decoder:
            self.inputs["decoder_input_ids"] = torch.randint(4, WORDS, shape, generator=generator)

    def losses(self, rows: slice = slice(None)) -> dict[int, Tensor]:
        """Give each present task's mean loss over its rows in the whole batch; with `rows`, these rows' share of it."""
        inputs = {name: value[rows] for name, value in self.inputs.items()} if rows != slice(None) else self.inputs
        return self.of(self.model(**inputs).logits, rows)

    def of(self, logits: Tensor, rows: slice = slice(None)) -> dict[int, Tensor]:
        """Form the losses of logits [row, token, word]."""
        labels, tasks = self.labels[rows], self.tasks[rows]
        each = functional.cross_entropy(logits.float().transpose(1, 2), labels, reduction="none").mean(dim=1)
        counts = torch.bincount(self.tasks)
        return {int(task): each[tasks == task].sum() / counts[task] for task in tasks.unique()}


def shared(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Give the parameters that are trained."""
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


def flat_gradient(parameters: Sequence[tuple[str, nn.Parameter]]) -> Tensor:
    """Give ``.grad`` of some parameters as one vector."""
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for _, p in parameters])


def separate_passes(
    model: nn.Module,
    losses: Callable[[], Mapping[int, Tensor]],
    count: int,
    parameters: Sequence[tuple[str, nn.Parameter]] | None = None,
    seed: int = 7,
) -> Tensor:
    """Give the tasks' gradients by one plain backward pass each: [task, param]."""
    parameters = shared(model) if parameters is None else parameters
    rows = []
    for task in range(count):
        model.zero_grad()
        torch.manual_seed(seed)
        found = losses()
        if task in found:
            found[task].backward()
        rows.append(flat_gradient(parameters))
    model.zero_grad()
    return torch.stack(rows)


def one_pass(engine: Engine, batch: Batch, seed: int = 7, **options: Any) -> Step:
    """Take one step of the engine over a whole batch."""
    torch.manual_seed(seed)
    with engine.step(**options) as step:
        step.rows(batch.tasks, batch.inputs)
        step.backward(batch.losses())
    return step


def distance(one: Tensor, other: Tensor) -> float:
    """Give the relative distance of two tensors."""
    return float((one.double() - other.double()).norm() / other.double().norm())


def half(on: bool) -> Any:
    """Open autocast in bf16 where asked for."""
    return torch.autocast("cpu", dtype=torch.bfloat16) if on else contextlib.nullcontext()
