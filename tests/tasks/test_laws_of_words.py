"""Laws that hold for tasks that read words, in each family of backbones that they can be trained in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chat_families import CHATML, TURNS

from taskloom.data.cache import Items, tokenised
from taskloom.metrics import METRICS
from taskloom.tasks import TASKS, Task

pytest_plugins = ("tokenizer_fixtures", "word_tokenizers")

TEXTS = ["The parcel came late and the box was torn.", "Where is my parcel? It arrives tomorrow.", "hello you"]
ROWS: dict[str, list[dict[str, Any]]] = {
    "text_to_text": [{"source": text, "target": text[:9]} for text in TEXTS],
    "completion": [{"prompt": text, "completion": f" {text[:7]}"} for text in TEXTS],
    "chat": [{"messages": TURNS}, {"messages": TURNS[:2]}, {"messages": TURNS * 2}],
    "causal_language_modelling": [{"text": text} for text in TEXTS],
    "masked_language_modelling": [{"text": text} for text in TEXTS],
    "span_corruption": [{"text": text} for text in TEXTS],
    "preference": [{"prompt": text, "chosen": f" {text[:9]}", "rejected": " thank you"} for text in TEXTS],
}
OPTIONS: dict[str, dict[str, Any]] = {
    "chat": {"chat_template": CHATML},
    "span_corruption": {"max_length": 100},
    "preference": {"loss": "orpo"},
}
CASES = [(name, family) for name in ROWS for family in sorted(TASKS.load(name).families)]
TOKENIZERS = {"encoder": "pieces", "decoder": "turns_of_decoder", "encoder_decoder": "sentinels"}


def of_family(family: str, request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(TOKENIZERS[family])


def made(name: str, family, tokenizer, **options: Any) -> Task:
    task = TASKS.load(name)(**(OPTIONS.get(name, {}) | options))
    task.meet(family, tokenizer)
    task.fit(ROWS[name])
    return task


def width_of(items: list[dict[str, Any]]) -> int:
    return max(len(labels) for item in items for labels in item["labels"])


def costs(items: list[dict[str, Any]], width: int) -> torch.Tensor:
    """Give negative log-likelihoods as a language head could: [sequence, label token], in float64."""
    sequences = sum(len(item["labels"]) for item in items)
    generator = torch.Generator().manual_seed(0)
    return 0.1 + 3 * torch.rand(sequences, width, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize(("name", "family"), CASES)
def test_items_come_back_from_the_cache_as_they_were_encoded(name, family, request, tmp_path: Path) -> None:
    tokenizer = of_family(family, request)
    task = made(name, family, tokenizer)
    wanted = [item for own in task.encode(ROWS[name], tokenizer) for item in own]
    held = Items(tokenised(task, ROWS[name], tokenizer, folder=tmp_path))
    assert len(held) == len(wanted)
    for index, item in enumerate(wanted):
        assert json.loads(json.dumps(item)) == item
        assert {key: held[index][key] for key in item} == item


@pytest.mark.parametrize(("name", "family"), CASES)
def test_labels_stand_beside_tokens_but_for_what_an_encoder_decoder_writes(name, family, request) -> None:
    tokenizer = of_family(family, request)
    for own in made(name, family, tokenizer).encode(ROWS[name], tokenizer):
        for item in own:
            assert len(item["input_ids"]) == len(item["labels"])
            assert 0 < item["prompt_tokens"] <= len(item["input_ids"][0])
            for ids, labels in zip(item["input_ids"], item["labels"], strict=True):
                assert any(label >= 0 for label in labels)
                if family != "encoder_decoder":
                    assert len(ids) == len(labels)
                if family == "decoder":
                    assert all(label in {-100, number} for number, label in zip(ids, labels, strict=True))
                    assert labels[0] == -100


@pytest.mark.parametrize(("name", "family"), CASES)
def test_rows_are_encoded_alike_together_and_one_by_one(name, family, request) -> None:
    tokenizer = of_family(family, request)
    task = made(name, family, tokenizer)
    together = list(task.encode(ROWS[name], tokenizer))
    assert together == [next(iter(task.encode([row], tokenizer))) for row in ROWS[name]]
    assert list(task.encode([], tokenizer)) == []


@pytest.mark.parametrize(("name", "family"), CASES)
def test_what_a_task_of_words_learned_survives_json(name, family, request) -> None:
    tokenizer = of_family(family, request)
    task = made(name, family, tokenizer)
    again = TASKS.load(name)(**OPTIONS.get(name, {}))
    again.meet(family, tokenizer)
    again.restore(json.loads(json.dumps(task.state())))
    assert vars(again) == vars(task)


@pytest.mark.parametrize(("name", "family"), CASES)
def test_a_short_limit_is_kept_by_what_is_read(name, family, request) -> None:
    tokenizer = of_family(family, request)
    for own in made(name, family, tokenizer, max_length=12).encode(ROWS[name], tokenizer):
        assert all(len(ids) <= 12 for item in own for ids in item["input_ids"])


@pytest.mark.parametrize(("name", "family"), CASES)
def test_the_loss_of_an_item_is_its_own_and_has_the_gradient_of_its_differences(name, family, request) -> None:
    tokenizer = of_family(family, request)
    task = made(name, family, tokenizer)
    items = [own[0] for own in task.encode(ROWS[name], tokenizer)]
    width = width_of(items)
    output, targets = costs(items, width).requires_grad_(), task.targets(items, width)
    loss = task.loss(output, targets)
    assert loss.shape == (len(items),)
    assert loss.isfinite().all()
    assert (loss >= 0).all()
    assert torch.autograd.gradcheck(lambda given: task.loss(given, targets), output)
    owner = np.repeat(np.arange(len(items)), [len(item["labels"]) for item in items])
    for index in range(len(items)):
        (gradient,) = torch.autograd.grad(loss[index], output, retain_graph=True)
        touched = gradient.abs().sum(dim=1) > 0
        assert touched.tolist() == (owner == index).tolist()
    assert task.terms(targets).shape == (len(items),)


@pytest.mark.parametrize(("name", "family"), CASES)
def test_a_wider_output_changes_neither_loss_nor_answer(name, family, request) -> None:
    tokenizer = of_family(family, request)
    task = made(name, family, tokenizer)
    rows, items = ROWS[name], [own[0] for own in task.encode(ROWS[name], tokenizer)]
    width = width_of(items)
    output = costs(items, width)
    wide = torch.cat([output, 100 * torch.ones(len(output), 5)], dim=1)
    wanted = task.loss(output, task.targets(items, width))
    torch.testing.assert_close(task.loss(wide, task.targets(items, width + 5)), wanted)
    if task.generates:
        return
    size = len(items[0]["labels"])
    answers = [
        [
            task.decode(row, [item], [each[place * size : (place + 1) * size].numpy()])
            for place, (row, item) in enumerate(zip(rows, items, strict=True))
        ]
        for each in (output, wide)
    ]
    assert answers[0] == answers[1]


@pytest.mark.parametrize(("name", "family"), CASES)
def test_answers_and_baselines_are_read_by_the_tasks_metrics(name, family, request) -> None:
    tokenizer = of_family(family, request)
    task = made(name, family, tokenizer)
    rows, said = ROWS[name], []
    for row, items in zip(rows, task.encode(rows, tokenizer), strict=True):
        outputs: Any = ["hello"] if task.generates else [costs([item], width_of([item])).numpy() for item in items]
        said.append(task.decode(row, items, outputs))
    json.dumps([answer.detail for answer in said], allow_nan=False)
    values, references = [answer.value for answer in said], [task.reference(row) for row in rows]
    for metric in map(METRICS.load, task.default_metrics):
        assert task.predicts in metric.accepts
        assert np.isfinite(metric().score(json.loads(json.dumps(values)), references))
        assert np.isfinite(metric().score(task.baseline(rows, rows), references))


@pytest.mark.parametrize(("name", "family"), CASES)
def test_a_preview_of_words_names_what_is_learned(name, family, request) -> None:
    tokenizer = of_family(family, request)
    task = made(name, family, tokenizer)
    described = task.describe(ROWS[name][0], next(iter(task.encode(ROWS[name], tokenizer)))[0])
    assert described
    assert all(isinstance(text, str) and text for pair in described for text in pair)
