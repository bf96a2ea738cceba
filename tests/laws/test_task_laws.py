"""Laws that hold for every task type; a new file in `taskloom/tasks` joins by itself, its rows come from the help desk
or from the golden example of its docstring."""

from __future__ import annotations

import inspect
import json
from typing import Any

import numpy as np
import pytest
import torch
from task_cases import CASES, NAMES, encoded, fitted, golden, items_of, made, rows_of

from taskloom.metrics import METRICS
from taskloom.tasks import TASKS, Task
from taskloom.types import Family

KINDS = {"label", "labels", "tags", "text", "number", "choice", "extraction", "loss"}
ANSWERS = frozenset().union(*(TASKS.load(name).answer_columns for name in NAMES))
WIDTH = 6
HEADED = [case for case in CASES if TASKS.load(case[0]).reads == "hidden"]
"""Task types with a head of their own over hidden states."""
COMPARED_WITH = {"consistency": 0}
"""Type -> the place, among an item's sequences, of one that others are compared with and that learns nothing."""

in_every_family = pytest.mark.parametrize(("name", "family"), CASES)
with_a_head = pytest.mark.parametrize(("name", "family"), HEADED)


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


def learning(name: str, items: list[dict[str, Any]]) -> torch.Tensor:
    """Say which sequences of items learn: [sequence]."""
    return torch.tensor([COMPARED_WITH.get(name) != at for item in items for at in range(len(item["input_ids"]))])


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


@in_every_family
def test_rows_of_a_task_have_no_fault_and_nothing_unseen(name: str, family: Family) -> None:
    task = fitted(name, family)
    assert [task.fault(row) for row in rows_of(name)] == [None] * len(rows_of(name))
    assert [task.unseen(row) for row in rows_of(name)] == [None] * len(rows_of(name))


@pytest.mark.parametrize("name", NAMES)
def test_a_row_without_anything_is_faulty_in_words_that_follow_should(name: str) -> None:
    task = TASKS.load(name)()
    for row in ({}, dict.fromkeys((*task.columns, *task.optional_columns)), dict.fromkeys(task.columns, 3.5)):
        assert (task.fault(row) or "").startswith("have ")
        assert (task.question_fault(row) or "").startswith("have ")


@in_every_family
def test_what_a_row_asks_is_no_answer_and_can_be_answered(name: str, family: Family) -> None:
    task = fitted(name, family)
    for row in rows_of(name):
        asked = task.asked(row)
        assert not asked.keys() & task.answer_columns
        assert task.question_fault(asked) is None
        assert task.asked(asked) == asked


@in_every_family
def test_what_a_task_learned_survives_json(name: str, family: Family) -> None:
    task, again = fitted(name, family), made(name, family)
    again.restore(json.loads(json.dumps(task.state())))
    assert again.state() == task.state()
    assert vars(again) == vars(task)
    assert encoded(again, rows_of(name)) == encoded(task, rows_of(name))


@in_every_family
def test_items_hold_lists_of_tokens_and_are_ready_for_json(name: str, family: Family) -> None:
    task, rows = fitted(name, family), rows_of(name)
    for held in (encoded(task, rows), encoded(task, [task.asked(row) for row in rows])):
        assert len(held) == len(rows)
        for items in held:
            assert items
            for item in items:
                assert json.loads(json.dumps(item, allow_nan=True)).keys() == item.keys()
                assert item["input_ids"]
                assert ("token_type_ids" in item) == (family == "encoder")
                for ids, types in zip(item["input_ids"], item.get("token_type_ids", item["input_ids"]), strict=True):
                    assert 0 < len(ids) <= task.max_length
                    assert len(ids) == len(types)
                    assert all(type(number) is int for number in (*ids, *types))


@in_every_family
def test_encoding_rows_together_or_one_by_one_gives_the_same_items(name: str, family: Family) -> None:
    task, rows = fitted(name, family), rows_of(name)
    assert encoded(task, rows) == [encoded(task, [row])[0] for row in rows]
    assert encoded(task, []) == []


@in_every_family
def test_a_short_max_length_is_kept(name: str, family: Family) -> None:
    task = fitted(name, family, max_length=32)
    for rows in (rows_of(name), [task.asked(row) for row in rows_of(name)]):
        assert width_of(items_of(task, rows)) <= 32


@with_a_head
def test_the_model_reads_the_same_with_and_without_the_answer(name: str, family: Family) -> None:
    task, rows = fitted(name, family), rows_of(name)
    for with_answer, without in zip(encoded(task, rows), encoded(task, [task.asked(row) for row in rows]), strict=True):
        assert [item["input_ids"] for item in with_answer] == [item["input_ids"] for item in without]


@with_a_head
def test_the_loss_has_one_finite_entry_for_each_item(name: str, family: Family) -> None:
    task = fitted(name, family)
    items = items_of(task, rows_of(name))
    tokens = width_of(items)
    targets = task.targets(items, tokens)
    loss = task.loss(random_output(task, items, tokens), targets)
    assert loss.shape == task.terms(targets).shape == (len(items),)
    assert torch.isfinite(loss).all()
    assert (loss >= 0).all()
    assert (task.terms(targets) >= 0).all()


@with_a_head
def test_an_items_loss_depends_on_its_own_sequences_alone(name: str, family: Family) -> None:
    task = fitted(name, family)
    items = [own[0] for own in encoded(task, rows_of(name)[:3])]
    tokens = width_of(items)
    output = random_output(task, items, tokens).requires_grad_()
    loss = task.loss(output, task.targets(items, tokens))
    owner = torch.from_numpy(np.repeat(np.arange(3), [len(item["input_ids"]) for item in items]))
    for index in range(3):
        (gradient,) = torch.autograd.grad(loss[index], output, retain_graph=True)
        touched = gradient.flatten(1).abs().sum(1) > 0
        assert touched.tolist() == ((owner == index) & learning(name, items)).tolist()


@with_a_head
def test_the_gradient_of_the_loss_equals_finite_differences(name: str, family: Family) -> None:
    task = fitted(name, family)
    items = [own[0] for own in encoded(task, rows_of(name)[:2])]
    tokens = width_of(items)
    output = random_output(task, items, tokens)
    targets = task.targets(items, tokens)
    targets = {key: value.double() if value.is_floating_point() else value for key, value in targets.items()}
    learns = learning(name, items).view(-1, *[1] * (output.ndim - 1)).expand_as(output).flatten().nonzero().flatten()
    entries = np.random.default_rng(0).choice(learns.numpy(), size=min(40, len(learns)), replace=False)
    wanted = output.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(task.loss(wanted, targets).sum(), wanted)
    for entry in entries:
        shift = torch.zeros(output.numel(), dtype=torch.float64)
        shift[entry] = 1e-5
        above, below = (task.loss(output + sign * shift.view_as(output), targets).sum() for sign in (1, -1))
        assert float(above - below) / 2e-5 == pytest.approx(float(gradient.flatten()[entry]), rel=1e-6, abs=1e-7)


@with_a_head
def test_wider_padding_changes_neither_loss_nor_answer(name: str, family: Family) -> None:
    task, rows = fitted(name, family), rows_of(name)[:3]
    held = encoded(task, rows)
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
        answers, sequence = [], 0
        for row, own in zip(rows, held, strict=True):
            outputs = []
            for item in own:
                part = output[sequence : sequence + len(item["input_ids"])].detach().numpy()
                outputs.append(part[:, : int(lengths[sequence])] if part.ndim == 3 else part)
                sequence += len(item["input_ids"])
            answers.append(task.decode(row, own, outputs))
        results.append((loss, answers))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-5, atol=1e-6)
    narrow, wide = ([answer.value for answer in answers] for _, answers in results)
    # Numbers may differ in their last digit, where a mean is summed over more places.
    near = task.predicts in {"number", "loss"}
    assert wide == [pytest.approx(value, rel=1e-5) if near else value for value in narrow]


@with_a_head
def test_decoded_values_are_read_by_the_tasks_metrics(name: str, family: Family) -> None:
    task, rows = fitted(name, family), rows_of(name)
    asked = [task.asked(row) for row in rows]
    answers = []
    for row, own in zip(asked, encoded(task, asked), strict=True):
        outputs = [random_output(task, [item], width_of([item]), seed=len(answers)).float().numpy() for item in own]
        answers.append(task.decode(row, own, outputs))
    json.dumps([answer.detail for answer in answers], allow_nan=False)
    values = json.loads(json.dumps([answer.value for answer in answers], allow_nan=False))
    references = [task.reference(row) for row in rows]
    for metric in task.default_metrics:
        assert np.isfinite(METRICS.load(metric)().score(values, references))


@in_every_family
def test_the_baseline_gives_one_readable_answer_for_each_row(name: str, family: Family) -> None:
    task, train, test = fitted(name, family), rows_of(name), rows_of(name, "test")
    answers = task.baseline(train, test)
    assert len(answers) == len(test)
    references = [task.reference(row) for row in test]
    for metric in task.default_metrics:
        assert np.isfinite(METRICS.load(metric)().score(answers, references))


@in_every_family
def test_the_baseline_does_not_look_at_the_answers_of_what_it_judges(name: str, family: Family) -> None:
    task, train, test = fitted(name, family), rows_of(name), rows_of(name, "test")
    assert task.baseline(train, test) == task.baseline(train, [task.asked(row) for row in test])


@in_every_family
def test_a_preview_names_what_is_trained_on(name: str, family: Family) -> None:
    task, row = fitted(name, family), rows_of(name)[0]
    described = task.describe(row, encoded(task, [row])[0][0])
    assert described
    assert all(isinstance(text, str) and text for pair in described for text in pair)
