"""Laws of task types that read words, in every family that they can be trained in; a new file joins by itself."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from task_cases import CASES, encoded, fitted, items_of, rows_of

from family_tokenizers import tokenizer_of
from taskloom.metrics import METRICS
from taskloom.tasks import TASKS, Task
from taskloom.types import IGNORED, Family

Items = list[dict[str, Any]]

FORMS: dict[str, list[dict[str, Any]]] = {"preference": [{"loss": form} for form in ("dpo", "simpo", "orpo")]}
"""Type -> the options under which its laws are looked at; others under their defaults alone."""
COMPARES = {"preference"}
"""Types whose loss compares two answers, and so is no mean over tokens."""
SPEAKS_BEFORE = {"chat"}
"""Types that also learn from what stands before the last thing that is asked."""

WORDED: list[Any] = [
    pytest.param(name, family, options, id="-".join([name, family, *options.values()]))
    for name, family in CASES
    if TASKS.load(name).reads == "words"
    for options in FORMS.get(name, [{}])
]
FORETOLD = [case for case in WORDED if TASKS.load(case.values[0]).predicts == "loss"]
"""Types that are judged by how well they foresee a text."""
WRITING = [case for case in WORDED if TASKS.load(case.values[0]).generates]
in_every_family = pytest.mark.parametrize(("name", "family", "options"), WORDED)
where_it_writes = pytest.mark.parametrize(("name", "family", "options"), WRITING)


def first_items(task: Task, name: str, count: int) -> Items:
    """Give the first item of each of some rows, with what the model said before training where the loss asks for it."""
    items = [own[0] for own in encoded(task, rows_of(name)[:count])]
    if getattr(task, "needs_reference", False):
        items = [item | {"reference": [-20.0 - place, -22.5]} for place, item in enumerate(items)]
    return items


def width_of(items: Items) -> int:
    return max(len(labels) for item in items for labels in item["labels"])


def costs(items: Items, width: int, seed: int = 0) -> torch.Tensor:
    """Give negative log-likelihoods as a language head gives them: [sequence, label token], 0 where nothing is read."""
    generator = torch.Generator().manual_seed(seed)
    found = torch.zeros(sum(len(item["labels"]) for item in items), width, dtype=torch.float64)
    for row, labels in enumerate(labels for item in items for labels in item["labels"]):
        held = torch.tensor(labels) != IGNORED
        found[row, : len(labels)] = held * (0.1 + 2 * torch.rand(len(labels), dtype=torch.float64, generator=generator))
    return found


def learned(labels: list[int]) -> list[int]:
    return [label for label in labels if label != IGNORED]


# --- what is read and learned -------------------------------------------------------------------------------------


@in_every_family
def test_labels_stand_where_the_family_learns_them(name: str, family: Family, options: dict[str, Any]) -> None:
    task = fitted(name, family, **options)
    known = set(range(len(tokenizer_of(family))))
    for item in items_of(task, rows_of(name)):
        assert len(item["labels"]) == len(item["input_ids"])
        for ids, labels in zip(item["input_ids"], item["labels"], strict=True):
            assert learned(labels)
            assert {*ids, *learned(labels)} <= known
            assert 0 < item["prompt_tokens"] <= len(ids)
            if family == "encoder_decoder":
                assert item["prompt_tokens"] == len(ids)
                assert IGNORED not in labels
            else:
                assert len(labels) == len(ids)
            if family == "decoder":
                assert labels[0] == IGNORED, "nothing stands before the first token"
                assert all(label in (IGNORED, token) for token, label in zip(ids, labels, strict=True))
                before = labels[: item["prompt_tokens"]]
                assert name in SPEAKS_BEFORE or set(before) == {IGNORED}
                assert learned(labels[item["prompt_tokens"] :])


@where_it_writes
def test_an_answer_that_is_whole_is_learned_with_its_end(name: str, family: Family, options: dict[str, Any]) -> None:
    task: Any = fitted(name, family, **options)
    ends = task.ends(tokenizer_of(family))
    assert ends
    for item in items_of(task, rows_of(name)):
        assert learned(item["labels"][0])[-1] in ends


@where_it_writes
@pytest.mark.parametrize("limit", [400, 64, 24])
def test_a_row_without_its_answer_asks_what_is_asked_in_training(
    name: str, family: Family, options: dict[str, Any], limit: int
) -> None:
    task = fitted(name, family, max_length=limit, **options)
    rows = rows_of(name)
    eos = tokenizer_of(family).eos_token_id
    for item, bare in zip(items_of(task, rows), items_of(task, [task.asked(row) for row in rows]), strict=True):
        asked = item["prompt_tokens"]
        assert bare["prompt_tokens"] == len(bare["input_ids"][0])
        if name not in SPEAKS_BEFORE or limit == 400:  # of a conversation that is too long turns are left out
            assert bare["input_ids"][0] == item["input_ids"][0][:asked]
        if family == "encoder_decoder":
            assert bare["labels"] == [[eos]]
        elif name not in SPEAKS_BEFORE:
            assert bare["labels"] == [[IGNORED] * asked]


@where_it_writes
def test_what_is_learned_is_what_may_be_written(name: str, family: Family, options: dict[str, Any]) -> None:
    task: Any = fitted(name, family, **options)
    rows, tokenizer = rows_of(name), tokenizer_of(family)
    for row, item in zip(rows, items_of(task, rows), strict=True):
        constraint = task.constraint(row, item, tokenizer)
        answer = learned(item["labels"][0])
        assert constraint is None or constraint.accepts(answer[:-1])
        assert constraint is None or constraint.eos == answer[-1]


# --- the loss -----------------------------------------------------------------------------------------------------


@in_every_family
def test_the_loss_of_words_has_one_finite_entry_for_each_item(
    name: str, family: Family, options: dict[str, Any]
) -> None:
    task = fitted(name, family, **options)
    items = first_items(task, name, 6)
    width = width_of(items)
    targets = task.targets(items, width)
    output = costs(items, width)
    loss, terms = task.loss(output, targets), task.terms(targets)
    assert targets["labels"].shape == output.shape
    assert targets["labels"].dtype == torch.int64
    assert loss.shape == terms.shape == (len(items),)
    assert loss.isfinite().all()
    assert (loss >= 0).all()
    if name in COMPARES:
        assert terms.tolist() == [1] * len(items)
        return
    counted = [sum(len(learned(labels)) for labels in item["labels"]) for item in items]
    assert terms.tolist() == counted
    owner = torch.tensor([place for place, item in enumerate(items) for _ in item["labels"]])
    summed = torch.zeros(len(items), dtype=torch.float64).index_add(0, owner, output.sum(dim=1))
    torch.testing.assert_close(loss, summed / torch.tensor(counted))


@in_every_family
def test_rows_without_answers_have_a_finite_loss_too(name: str, family: Family, options: dict[str, Any]) -> None:
    task = fitted(name, family, **options)
    items = items_of(task, [task.asked(row) for row in rows_of(name)[:3]])
    if getattr(task, "needs_reference", False):
        items = [item | {"reference": [-20.0, -22.5]} for item in items]
    width = width_of(items)
    assert task.loss(costs(items, width), task.targets(items, width)).isfinite().all()


@in_every_family
def test_an_items_loss_has_the_gradient_of_its_own_learned_tokens_alone(
    name: str, family: Family, options: dict[str, Any]
) -> None:
    task = fitted(name, family, **options)
    items = first_items(task, name, 3)
    width = width_of(items)
    output, targets = costs(items, width).requires_grad_(), task.targets(items, width)
    loss = task.loss(output, targets)
    owner = torch.from_numpy(np.repeat(np.arange(3), [len(item["labels"]) for item in items]))
    for index in range(3):
        (gradient,) = torch.autograd.grad(loss[index], output, retain_graph=True)
        wanted = (targets["labels"] != IGNORED) & (owner == index)[:, None]
        assert torch.equal(gradient != 0, wanted)


@in_every_family
def test_the_gradient_of_the_loss_of_words_equals_finite_differences(
    name: str, family: Family, options: dict[str, Any]
) -> None:
    task = fitted(name, family, **options)
    items = first_items(task, name, 2)
    width = width_of(items)
    output, targets = costs(items, width), task.targets(items, width)
    targets = {key: value.double() if value.is_floating_point() else value for key, value in targets.items()}
    wanted = output.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(task.loss(wanted, targets).sum(), wanted)
    read = (targets["labels"] != IGNORED).flatten().nonzero().flatten().numpy()
    for entry in np.random.default_rng(0).choice(read, size=min(30, len(read)), replace=False):
        shift = torch.zeros(output.numel(), dtype=torch.float64)
        shift[entry] = 1e-5
        above, below = (task.loss(output + sign * shift.view_as(output), targets).sum() for sign in (1, -1))
        assert float(above - below) / 2e-5 == pytest.approx(float(gradient.flatten()[entry]), abs=1e-7)


@in_every_family
def test_wider_padding_and_other_company_change_no_loss_and_no_answer(
    name: str, family: Family, options: dict[str, Any]
) -> None:
    task = fitted(name, family, **options)
    rows, items = rows_of(name)[:3], first_items(task, name, 3)
    width = width_of(items)
    output = costs(items, width)
    wide = torch.cat([output, torch.full((len(output), 9), 100.0)], dim=1)
    loss = task.loss(output, task.targets(items, width))
    torch.testing.assert_close(task.loss(wide, task.targets(items, width + 9)), loss)
    start = 0
    for place, (row, item) in enumerate(zip(rows, items, strict=True)):
        own = slice(start, start + len(item["labels"]))
        start = own.stop
        alone = task.loss(output[own], task.targets([item], width))
        torch.testing.assert_close(alone, loss[place : place + 1])
        if not task.generates:
            narrow, wider = (task.decode(row, [item], [each[own].numpy()]) for each in (output, wide))
            assert narrow == wider


# --- back to the user ---------------------------------------------------------------------------------------------


def right_text(item: dict[str, Any], family: Family) -> str:
    """Give what is learned as an answer, as text; of a decoder's item that is what stands behind its prompt."""
    labels = item["labels"][0][item["prompt_tokens"] if family == "decoder" else 0 :]
    text: str = tokenizer_of(family).decode(learned(labels), skip_special_tokens=True)
    return text.strip()


def texts_for(item: dict[str, Any], family: Family, seed: int) -> list[str]:
    """Give what a model might write: nothing, what is right, things that cannot be read, tokens at random."""
    right, tokenizer = right_text(item, family), tokenizer_of(family)
    drawn = np.random.default_rng(seed).integers(len(tokenizer), size=12).tolist()
    return ["", right, "none", f"{right}; {right}", ": ; label:; :", tokenizer.decode(drawn, skip_special_tokens=True)]


@in_every_family
def test_answers_of_words_are_read_by_the_tasks_metrics(name: str, family: Family, options: dict[str, Any]) -> None:
    task = fitted(name, family, **options)
    rows = rows_of(name)
    asked = [task.asked(row) for row in rows]
    held, bare = encoded(task, rows), encoded(task, asked)
    for way in range(6 if task.generates else 1):
        answers = []
        for place, (row, items, without) in enumerate(zip(asked, held, bare, strict=True)):
            outputs: list[Any] = [costs([item], width_of([item])).float().numpy() for item in without]
            if task.generates:
                outputs = [texts_for(items[0], family, place)[way]]
            answers.append(task.decode(row, without, outputs))
        json.dumps([answer.detail for answer in answers], allow_nan=False)
        values = json.loads(json.dumps([answer.value for answer in answers], allow_nan=False))
        references = [task.reference(row) for row in rows]
        for metric in task.default_metrics:
            assert np.isfinite(METRICS.load(metric)().score(values, references))


@pytest.mark.parametrize(("name", "family", "options"), FORETOLD)
def test_what_a_text_costs_is_what_its_learned_tokens_cost(name: str, family: Family, options: dict[str, Any]) -> None:
    task = fitted(name, family, max_length=48, **options)
    for row, items in zip(rows_of(name), encoded(task, rows_of(name)), strict=True):
        width = width_of(items)
        targets, outputs = task.targets(items, width), costs(items, width)
        # A head's outputs stand beside every place, also beside those that nothing is learned at.
        value = task.decode(row, items, [(1 + outputs[at : at + 1]).numpy() for at in range(len(items))]).value
        terms = task.terms(targets)
        assert value["tokens"] == int(terms.sum())
        assert value["nll"] == pytest.approx(float((terms * (1 + task.loss(outputs, targets))).sum()))


@where_it_writes
def test_the_answer_that_is_learned_gets_the_best_score(name: str, family: Family, options: dict[str, Any]) -> None:
    task = fitted(name, family, **options)
    rows = rows_of(name)
    answers = [
        task.decode(row, items, [right_text(items[0], family)]).value
        for row, items in zip(rows, encoded(task, rows), strict=True)
    ]
    metric = METRICS.load(task.default_metrics[0])()
    assert metric.score(answers, [task.reference(row) for row in rows]) == pytest.approx(metric.perfect)
