"""Laws that hold for every task type; a new file in `taskloom/tasks` joins by itself, its rows come from the help desk
or from the golden example of its docstring."""

from __future__ import annotations

import ast
import inspect
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from taskloom import helpdesk
from taskloom.metrics import METRICS
from taskloom.tasks import TASKS, Task

NAMES = TASKS.names()
KINDS = {"label", "labels", "tags", "text", "number", "choice"}
ANSWERS = {"label", "labels", "tags", "answers"}
WIDTH = 6
HELP_DESK = {kind: name for name, kind in helpdesk.TASKS.items()}
ROWS = helpdesk.generate(seed=3, train=12, validation=2, test=4)


def golden(name: str) -> dict[str, Any]:
    """Read the row that the docstring gives as its golden example."""
    found = re.search(r"Golden example: rows (\{.*?\})\.\s*$", inspect.getdoc(TASKS.load(name)) or "", re.S | re.M)
    assert found, f"the docstring of `{name}` should end one paragraph with `Golden example: rows {{...}}.`"
    row: dict[str, Any] = ast.literal_eval(found[1])
    return row


def rows_of(name: str, split: str = "train") -> list[dict[str, Any]]:
    return ROWS[HELP_DESK[name]][split] if name in HELP_DESK else [golden(name)] * 4


def fitted(name: str) -> Task:
    task = TASKS.load(name)()
    task.fit(rows_of(name))
    return task


def bare(row: dict[str, Any]) -> dict[str, Any]:
    """Take the answer out of a row, as rows to be predicted come."""
    return {key: value for key, value in row.items() if key not in ANSWERS}


@pytest.fixture(scope="module")
def tokenizer(tiny_tokenizer: Path) -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(tiny_tokenizer)


def encoded(task: Task, rows: list[dict[str, Any]], tokenizer: PreTrainedTokenizerFast) -> list[list[dict[str, Any]]]:
    return list(task.encode(rows, tokenizer))


def random_output(task: Task, items: list[dict[str, Any]], tokens: int, seed: int = 0) -> torch.Tensor:
    """Give what the task's own head makes of random hidden states, in float64."""
    torch.manual_seed(seed)
    sequences = sum(len(item["input_ids"]) for item in items)
    head = task.head(WIDTH).double().eval()
    hidden = torch.randn(sequences, tokens, WIDTH, dtype=torch.float64)
    lengths = torch.tensor([len(ids) for item in items for ids in item["input_ids"]])
    return double_of(head, hidden, torch.arange(tokens) < lengths[:, None])


def double_of(head: torch.nn.Module, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Run a head; heads answer in float32, which laws on gradients widen."""
    return head(hidden, mask).double().detach()


def width_of(items: list[dict[str, Any]]) -> int:
    return max(len(ids) for item in items for ids in item["input_ids"])


@pytest.mark.parametrize("name", NAMES)
def test_a_task_is_documented_in_its_class(name: str) -> None:
    text = inspect.getdoc(TASKS.load(name)) or ""
    assert text.split("\n")[0].endswith(".")
    assert TASKS.summary(name) == text.split("\n\n")[0].replace("\n", " ")
    for section in ("Prefer", "Do not", "Formula:", "Shapes: output [", "Options:", "Golden example:"):
        assert section in text, section
    options = text.partition("Options:")[2]
    for option in TASKS.options(name):
        assert f"    {option}: " in options, option


@pytest.mark.parametrize("name", NAMES)
def test_the_golden_example_is_a_row_of_the_task(name: str) -> None:
    task, row = TASKS.load(name)(), golden(name)
    assert row.keys() >= task.columns.keys()
    assert task.fault(row) is None


@pytest.mark.parametrize("name", NAMES)
def test_columns_are_declared_with_what_they_hold(name: str) -> None:
    task = TASKS.load(name)
    assert task.columns
    assert not task.columns.keys() & task.optional_columns.keys()
    assert all(words for words in (*task.columns.values(), *task.optional_columns.values()))
    assert set(task.identity_columns) <= task.columns.keys() | task.optional_columns.keys()
    assert not set(task.identity_columns) & ANSWERS


@pytest.mark.parametrize("name", NAMES)
def test_a_tasks_default_metrics_read_what_it_predicts(name: str) -> None:
    task = TASKS.load(name)
    assert task.predicts in KINDS
    assert task.default_metrics
    for metric in task.default_metrics:
        assert task.predicts in METRICS.load(metric).accepts


@pytest.mark.parametrize("name", NAMES)
def test_help_desk_rows_have_no_fault_and_nothing_unseen(name: str) -> None:
    task = fitted(name)
    assert [task.fault(row) for row in rows_of(name)] == [None] * len(rows_of(name))
    assert [task.unseen(row) for row in rows_of(name)] == [None] * len(rows_of(name))


@pytest.mark.parametrize("name", NAMES)
def test_a_row_without_anything_is_faulty_in_words_that_follow_should(name: str) -> None:
    task = TASKS.load(name)()
    for row in ({}, dict.fromkeys((*task.columns, *task.optional_columns)), dict.fromkeys(task.columns, 3.5)):
        assert (task.fault(row) or "").startswith("have ")


@pytest.mark.parametrize("name", NAMES)
def test_what_a_task_learned_survives_json(name: str, tokenizer: PreTrainedTokenizerFast) -> None:
    task, again = fitted(name), TASKS.load(name)()
    again.restore(json.loads(json.dumps(task.state())))
    assert again.state() == task.state()
    assert vars(again) == vars(task)
    rows = rows_of(name)
    assert encoded(again, rows, tokenizer) == encoded(task, rows, tokenizer)


@pytest.mark.parametrize("name", NAMES)
def test_items_hold_lists_of_tokens_and_are_ready_for_json(name: str, tokenizer: PreTrainedTokenizerFast) -> None:
    task, rows = fitted(name), rows_of(name)
    for held in (encoded(task, rows, tokenizer), encoded(task, [bare(row) for row in rows], tokenizer)):
        assert len(held) == len(rows)
        for items in held:
            assert items
            for item in items:
                assert json.loads(json.dumps(item, allow_nan=True)).keys() == item.keys()
                assert item["input_ids"]
                for ids, types in zip(item["input_ids"], item["token_type_ids"], strict=True):
                    assert 0 < len(ids) <= task.max_length
                    assert len(ids) == len(types)
                    assert all(type(number) is int for number in (*ids, *types))


@pytest.mark.parametrize("name", NAMES)
def test_the_model_reads_the_same_with_and_without_the_answer(name: str, tokenizer: PreTrainedTokenizerFast) -> None:
    task, rows = fitted(name), rows_of(name)
    for with_answer, without in zip(
        encoded(task, rows, tokenizer), encoded(task, [bare(row) for row in rows], tokenizer), strict=True
    ):
        assert [item["input_ids"] for item in with_answer] == [item["input_ids"] for item in without]


@pytest.mark.parametrize("name", NAMES)
def test_encoding_rows_together_or_one_by_one_gives_the_same_items(
    name: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    task, rows = fitted(name), rows_of(name)
    assert encoded(task, rows, tokenizer) == [encoded(task, [row], tokenizer)[0] for row in rows]


@pytest.mark.parametrize("name", NAMES)
def test_a_short_max_length_is_kept(name: str, tokenizer: PreTrainedTokenizerFast) -> None:
    task = TASKS.load(name)(max_length=32)
    task.fit(rows_of(name))
    for items in encoded(task, rows_of(name), tokenizer):
        assert width_of(items) <= 32


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_has_one_finite_entry_for_each_item(name: str, tokenizer: PreTrainedTokenizerFast) -> None:
    task = fitted(name)
    items = [item for own in encoded(task, rows_of(name), tokenizer) for item in own]
    tokens = width_of(items)
    loss = task.loss(random_output(task, items, tokens), task.targets(items, tokens))
    assert loss.shape == (len(items),)
    assert torch.isfinite(loss).all()
    assert (loss >= 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_an_items_loss_depends_on_its_own_sequences_alone(name: str, tokenizer: PreTrainedTokenizerFast) -> None:
    task = fitted(name)
    items = [own[0] for own in encoded(task, rows_of(name)[:3], tokenizer)]
    tokens = width_of(items)
    output = random_output(task, items, tokens).requires_grad_()
    loss = task.loss(output, task.targets(items, tokens))
    owner = np.repeat(np.arange(3), [len(item["input_ids"]) for item in items])
    for index in range(3):
        (gradient,) = torch.autograd.grad(loss[index], output, retain_graph=True)
        touched = gradient.flatten(1).abs().sum(1) > 0
        assert not touched[torch.tensor(owner != index)].any()
        assert touched[torch.tensor(owner == index)].all()


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_of_the_loss_equals_finite_differences(name: str, tokenizer: PreTrainedTokenizerFast) -> None:
    task = fitted(name)
    items = [own[0] for own in encoded(task, rows_of(name)[:2], tokenizer)]
    # Short enough for differences in every entry; what is cut off would only repeat the check.
    tokens = width_of(items)
    output = random_output(task, items, tokens)
    targets = task.targets(items, tokens)
    targets = {key: value.double() if value.is_floating_point() else value for key, value in targets.items()}
    entries = np.random.default_rng(0).choice(output.numel(), size=min(40, output.numel()), replace=False)
    wanted = output.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(task.loss(wanted, targets).sum(), wanted)
    for entry in entries:
        shift = torch.zeros(output.numel(), dtype=torch.float64)
        shift[entry] = 1e-5
        above, below = (task.loss(output + sign * shift.view_as(output), targets).sum() for sign in (1, -1))
        assert float(above - below) / 2e-5 == pytest.approx(float(gradient.flatten()[entry]), abs=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_wider_padding_changes_neither_loss_nor_answer(name: str, tokenizer: PreTrainedTokenizerFast) -> None:
    task, rows = fitted(name), rows_of(name)[:3]
    held = encoded(task, rows, tokenizer)
    items = [item for own in held for item in own]
    tokens = width_of(items)
    torch.manual_seed(1)
    head = task.head(WIDTH).eval()
    lengths = torch.tensor([len(ids) for item in items for ids in item["input_ids"]])
    hidden = torch.randn(len(lengths), tokens, WIDTH)
    noise = 100 * torch.randn(len(lengths), 9, WIDTH)
    results = []
    for states in (hidden, torch.cat([hidden, noise], dim=1)):
        width = states.shape[1]
        # What stands in the padding of the narrow rectangle is not the same as in the wide one.
        mask = torch.arange(width) < lengths[:, None]
        output = head(states, mask.long())
        loss = task.loss(output, task.targets(items, width))
        answers, sequence, place = [], 0, 0
        for row, own in zip(rows, held, strict=True):
            outputs = []
            for item in own:
                part = output[sequence : sequence + len(item["input_ids"])].detach().numpy()
                sequence += len(item["input_ids"])
                outputs.append(part[:, : int(lengths[place])] if part.ndim == 3 else part)
                place += len(item["input_ids"])
            answers.append(task.decode(row, own, outputs))
        results.append((loss, answers))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-5, atol=1e-6)
    assert [answer.value for answer in results[0][1]] == [answer.value for answer in results[1][1]]


@pytest.mark.parametrize("name", NAMES)
def test_decoded_values_are_read_by_the_tasks_metrics(name: str, tokenizer: PreTrainedTokenizerFast) -> None:
    task, rows = fitted(name), rows_of(name)
    held = encoded(task, [bare(row) for row in rows], tokenizer)
    answers = []
    for row, own in zip(rows, held, strict=True):
        outputs = [random_output(task, [item], width_of([item]), seed=len(answers)).float().numpy() for item in own]
        answers.append(task.decode(bare(row), own, outputs))
    json.dumps([answer.detail for answer in answers], allow_nan=False)
    values = json.loads(json.dumps([answer.value for answer in answers], allow_nan=False))
    references = [task.reference(row) for row in rows]
    for metric in task.default_metrics:
        assert np.isfinite(METRICS.load(metric)().score(values, references))


@pytest.mark.parametrize("name", NAMES)
def test_the_baseline_gives_one_readable_answer_for_each_row(name: str) -> None:
    task, train, test = fitted(name), rows_of(name), rows_of(name, "test")
    answers = task.baseline(train, test)
    assert len(answers) == len(test)
    references = [task.reference(row) for row in test]
    for metric in task.default_metrics:
        assert np.isfinite(METRICS.load(metric)().score(answers, references))


@pytest.mark.parametrize("name", NAMES)
def test_the_baseline_does_not_look_at_the_answers_of_what_it_judges(name: str) -> None:
    task, train, test = fitted(name), rows_of(name), rows_of(name, "test")
    assert task.baseline(train, test) == task.baseline(train, [bare(row) for row in test])


@pytest.mark.parametrize("name", NAMES)
def test_a_preview_names_what_is_trained_on(name: str, tokenizer: PreTrainedTokenizerFast) -> None:
    task, row = fitted(name), rows_of(name)[0]
    described = task.describe(row, encoded(task, [row], tokenizer)[0][0])
    assert described
    assert all(isinstance(text, str) and text for pair in described for text in pair)
