"""Losses of tasks that read words, held against the loss that transformers' own models give the same labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from chat_families import CHATML, TURNS
from torch.nn import functional
from transformers import (
    BertConfig,
    BertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from taskloom.batches.chunks import Padding, collate
from taskloom.model import MultiTaskModel
from taskloom.tasks import Task
from taskloom.tasks.causal_language_modelling import CausalLanguageModelling
from taskloom.tasks.chat import Chat
from taskloom.tasks.completion import Completion
from taskloom.tasks.masked_language_modelling import MaskedLanguageModelling
from taskloom.tasks.preference import Preference
from taskloom.tasks.span_corruption import SpanCorruption
from taskloom.tasks.text_to_text import TextToText

pytest_plugins = ("tokenizer_fixtures", "word_tokenizers")

TEXTS = ["The parcel came late and the box was torn.", "Where is my parcel? It arrives tomorrow, thank you.", "hello"]
ROWS: dict[type[Task], list[dict[str, Any]]] = {
    CausalLanguageModelling: [{"text": text} for text in TEXTS],
    Completion: [{"prompt": text, "completion": " hello you"[: 4 + 3 * place]} for place, text in enumerate(TEXTS)],
    Chat: [{"messages": TURNS[:2]}, {"messages": TURNS}],
    TextToText: [{"source": text, "target": text[:9]} for text in TEXTS],
    SpanCorruption: [{"text": text} for text in TEXTS],
    MaskedLanguageModelling: [{"text": text} for text in TEXTS],
}


def decoder(tokenizer) -> Any:
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), initializer_range=0.5, **shape)).eval()


def encoder_decoder(tokenizer) -> Any:
    torch.manual_seed(0)
    shape = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    config = T5Config(vocab_size=len(tokenizer), decoder_start_token_id=0, pad_token_id=0, eos_token_id=1, **shape)
    return T5ForConditionalGeneration(config).eval()


def encoder(tokenizer) -> Any:
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    return BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), initializer_range=0.5, **shape)).eval()


def outputs_of(task: Task, items, backbone, tokenizer) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    start = backbone.config.decoder_start_token_id if task.family == "encoder_decoder" else None
    chunk = collate([("own", item) for item in items], {"own": task}, Padding(int(tokenizer.pad_token_id), start))
    return MultiTaskModel(backbone, {"own": task})(chunk)["own"], chunk.parts["own"].targets


def loss_of_transformers(backbone, item, place: int = 0) -> float:
    """Give the mean cost of the labels of one sequence, which transformers shifts by itself where its family does."""
    inputs = {key: torch.tensor([item[key][place]]) for key in ("input_ids", "labels", "token_type_ids") if key in item}
    return float(backbone(**inputs).loss)


@pytest.mark.parametrize(
    "kind", [CausalLanguageModelling, Completion, Chat, TextToText], ids=lambda kind: kind.__name__
)
def test_a_decoders_loss_is_that_of_transformers(kind, turns_of_decoder) -> None:
    task = kind(chat_template=CHATML) if kind is Chat else kind()
    task.meet("decoder", turns_of_decoder)
    compare(task, decoder(turns_of_decoder), turns_of_decoder, ROWS[kind])


@pytest.mark.parametrize("kind", [Completion, TextToText, SpanCorruption], ids=lambda kind: kind.__name__)
def test_an_encoder_decoders_loss_is_that_of_transformers(kind, sentinels) -> None:
    task = kind(max_length=64)
    task.meet("encoder_decoder", sentinels)
    compare(task, encoder_decoder(sentinels), sentinels, ROWS[kind])


def test_an_encoders_loss_is_that_of_transformers(pieces) -> None:
    task = MaskedLanguageModelling(mask_share=0.3)
    task.meet("encoder", pieces)
    compare(task, encoder(pieces), pieces, ROWS[MaskedLanguageModelling])


def compare(task: Task, backbone, tokenizer, rows) -> None:
    items = [item for own in task.encode(rows, tokenizer) for item in own]
    with torch.no_grad():
        output, targets = outputs_of(task, items, backbone, tokenizer)
        wanted = [loss_of_transformers(backbone, item) for item in items]
    assert task.loss(output, targets).tolist() == pytest.approx(wanted, rel=1e-4)
    if task.predicts == "loss":
        costs = [
            task.decode(row, [item], [output[place : place + 1].numpy()]).value
            for place, (row, item) in enumerate(zip(rows, items, strict=True))
        ]
        assert [each["nll"] / each["tokens"] for each in costs] == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("family", ["decoder", "encoder_decoder"])
def test_a_pairs_log_probabilities_are_those_of_transformers(family, turns_of_decoder, sentinels) -> None:
    tokenizer = turns_of_decoder if family == "decoder" else sentinels
    backbone = (decoder if family == "decoder" else encoder_decoder)(tokenizer)
    task = Preference(beta=0.7)
    task.meet(family, tokenizer)
    rows = [{"prompt": text, "chosen": " hello you", "rejected": " thank"} for text in TEXTS]
    items = [item | {"reference": [-3.0, -4.0]} for own in task.encode(rows, tokenizer) for item in own]
    with torch.no_grad():
        output, targets = outputs_of(task, items, backbone, tokenizer)
        counts = np.array([[sum(label != -100 for label in labels) for labels in item["labels"]] for item in items])
        means = np.array([[-loss_of_transformers(backbone, item, place) for place in (0, 1)] for item in items])
    gain = counts * means - np.array([-3.0, -4.0])
    wanted = -functional.logsigmoid(torch.tensor(0.7 * (gain[:, 0] - gain[:, 1])))
    torch.testing.assert_close(task.loss(output, targets).double(), wanted, rtol=1e-4, atol=1e-5)
