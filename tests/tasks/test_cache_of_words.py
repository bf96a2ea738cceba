"""Items of tasks that read words come back from the cache as they were encoded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from chat_families import CHATML, TURNS

from taskloom.data.cache import Items, tokenised
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
