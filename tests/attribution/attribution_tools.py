"""What tests of attribution share: rows of every type whose answers can be explained, and tiny models for them."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import nn

from family_tokenizers import tokenizer_of
from taskloom.attribution.aims import Aim, aims_of
from taskloom.attribution.explaining import Explainer, answered_rows
from taskloom.model import MultiTaskModel
from taskloom.tasks import TASKS
from taskloom.types import Family, Item

HEADS = (
    "classification",
    "multi_label",
    "multiple_choice",
    "regression",
    "similarity",
    "token_classification",
    "extractive_qa",
)
WRITTEN = ("text_to_text", "completion", "classification_as_text", "tagging_as_text", "extraction", "chat")
CASES: list[tuple[str, Family]] = [(kind, "encoder") for kind in HEADS]
CASES += [(kind, "decoder") for kind in (*HEADS[:3], *WRITTEN)]
CASES += [(kind, "encoder_decoder") for kind in (*HEADS[:2], *WRITTEN[:-1])]

CITIES = ("New York", "St. Louis", "San Francisco")
LABELS = ("flight", "hotel", "music")


def row_of(kind: str, number: int) -> dict[str, Any]:
    """Make one row of a task type; texts differ by their number."""
    city, label = CITIES[number % 3], LABELS[number % 3]
    text = f"Don't take {number} later, to {city} on Monday."
    tokens = text.split()
    tags = ["O", "O", "B-no", "O", "O", "B-city", "I-city", "O", "O"]
    rows: dict[str, dict[str, Any]] = {
        "classification": {"text": text, "label": label, **({"text_pair": f"the {label}"} if number % 2 else {})},
        "multi_label": {"text": text, "labels": [label, "city"] if number % 2 else [label]},
        "multiple_choice": {
            "context": text,
            "question": "Which one?",
            "choices": ["the hotel", f"a {label}", "no music"],
            "label": number % 3,
        },
        "regression": {"text": text, "label": float(number)},
        "similarity": {"text": text, "text_pair": f"take the {label} instead", "label": float(number)},
        "token_classification": {"tokens": tokens, "tags": tags},
        "tagging_as_text": {"tokens": tokens, "tags": tags},
        "extractive_qa": {
            "question": "Where to?",
            "context": text + " " + "It is late, and the hotel is full. " * 4,
            "answers": {"text": [city], "answer_start": [text.index(city)]},
        },
        "text_to_text": {"source": text, "target": f"{label} {city}"},
        "completion": {"prompt": text, "completion": f" {label}"},
        "classification_as_text": {"text": text, "label": label},
        "extraction": {"text": text, "slots": {"city": city.split()[0], "number": str(number)}},
        "chat": {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": label}]},
    }
    return rows[kind]


def rows_of(kind: str, count: int = 6) -> list[dict[str, Any]]:
    return [row_of(kind, number) for number in range(count)]


def backbone_of(family: Family, *, words: bool, seed: int = 0) -> Any:
    """Make a random backbone of two layers."""
    tokenizer = tokenizer_of(family)
    torch.manual_seed(seed)
    special = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    sizes: dict[str, Any] = {"vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48}
    sizes |= {"num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 256}
    if family == "encoder":
        # A wider start than the usual one: else nothing that is read would make a difference.
        return transformers.BertModel(transformers.BertConfig(**sizes, initializer_range=0.2), add_pooling_layer=False)
    if family == "decoder":
        config = transformers.LlamaConfig(**sizes, **special, initializer_range=0.2)
        return transformers.LlamaForCausalLM(config) if words else transformers.LlamaModel(config)
    small = {"d_model": 32, "d_ff": 48, "d_kv": 16, "num_layers": 2, "num_heads": 2, "dropout_rate": 0.0}
    config = transformers.T5Config(vocab_size=len(tokenizer), decoder_start_token_id=0, **small, **special)
    return transformers.T5ForConditionalGeneration(config)


def explainer_for(kind: str, family: Family, **options: Any) -> Explainer:
    """Make a random model of one task, fitted on `rows_of`, and its explainer."""
    tokenizer = tokenizer_of(family)
    if kind == "extractive_qa":
        options |= {"max_length": 64, "stride": 16}
    if kind in WRITTEN:
        options |= {"max_new_tokens": 6}
    task = TASKS.load(kind)(**options)
    task.meet(family, tokenizer)
    task.fit(rows_of(kind))
    model = MultiTaskModel(backbone_of(family, words=kind in WRITTEN), {"asked": task}).eval()
    with torch.no_grad():
        for head in model.heads.values():
            for parameter in head.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return Explainer(model, {"asked": task}, "asked", tokenizer)


def items_of(explainer: Explainer, rows: list[dict[str, Any]]) -> list[Item]:
    task = explainer.tasks[explainer.name]
    encoded = task.encode(rows, explainer.tokenizer)
    return [item | {"row": number} for number, own in enumerate(encoded) for item in own]


def all_aims(explainer: Explainer, rows: list[dict[str, Any]]) -> list[Aim]:
    """Give what is explained of the model's answers to rows."""
    answered = answered_rows(explainer, rows, items_of(explainer, rows))
    return [aim for each in answered for aim in aims_of(each)]


class Embedded(nn.Module):
    """A backbone that makes nothing of its tokens but their embeddings, so that a mean head is linear in them."""

    def __init__(self, words: int, width: int) -> None:
        super().__init__()
        self.config = transformers.BertConfig(vocab_size=words, hidden_size=width)
        self.table = nn.Embedding(words, width)

    def get_input_embeddings(self) -> nn.Module:
        return self.table

    def get_output_embeddings(self) -> None:
        return None

    def forward(self, input_ids: Any, attention_mask: Any = None, token_type_ids: Any = None) -> Any:
        return transformers.modeling_outputs.BaseModelOutput(last_hidden_state=self.table(input_ids))
