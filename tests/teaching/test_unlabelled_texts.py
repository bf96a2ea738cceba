"""Tasks over texts without labels: their losses in closed form, whose head they train, and a case where they help."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import AutoTokenizer
from unlabelled_tools import LABELS, WordModel, labelled_task, planted, word_tokenizer

from taskloom.errors import ConfigError
from taskloom.metrics import METRICS
from taskloom.tasks import TASKS, Task
from taskloom.tasks._unlabelled import UnlabelledTask, share_heads, shared_heads
from taskloom.tasks.classification import Classification
from taskloom.tasks.consistency import Consistency
from taskloom.tasks.pseudo_labels import PLACE, PseudoLabels
from taskloom.tasks.regression import Regression
from taskloom.types import IGNORED

KINDS = ("pseudo_labels", "consistency")


def made(kind: str, **options: Any) -> Any:
    task = TASKS.load(kind)(of="intent", **options)
    assert isinstance(task, UnlabelledTask)
    task.share(labelled_task())
    return task


@pytest.fixture(scope="module")
def tokenizer(tiny_tokenizer: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_tokenizer)


# --- pseudo-labels ----------------------------------------------------------------------------------------------------


def test_texts_are_learned_by_the_labels_they_were_given_and_others_cost_nothing() -> None:
    task = made("pseudo_labels")
    output = torch.randn(4, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
    targets = task.targets([{PLACE: place} for place in (2, 0, 1, 2)], 5)
    assert not task.loss(output, targets).any()
    task.take(np.array([1, IGNORED, 0]))
    loss = task.loss(output, targets)
    wanted = functional.cross_entropy(output, torch.tensor([0, 1, 0, 0]), reduction="none")
    torch.testing.assert_close(loss, torch.stack([wanted[0], wanted[1], torch.zeros(()), wanted[3]]))
    (gradient,) = torch.autograd.grad(loss.sum(), output)
    assert not gradient[2].any()
    task.take(None)
    assert not task.loss(output, targets).any()


def test_what_was_collated_before_a_labelling_is_learned_by_the_labels_after_it() -> None:
    task = made("pseudo_labels")
    targets = task.targets([{PLACE: 0}], 5)
    task.take(np.array([1]))
    assert float(task.loss(torch.tensor([[0.0, 0.0]]), targets)) == pytest.approx(math.log(2))


def test_texts_that_are_not_trained_on_are_labelled_on_the_spot() -> None:
    task = made("pseudo_labels", threshold=0.9)
    task.take(np.array([0, 0]))
    output = torch.tensor([[0.0, 3.0], [0.0, 1.0]])
    loss = task.loss(output, task.targets([{}, {}], 5))
    assert loss.tolist() == pytest.approx([math.log(1 + math.exp(-3)), 0.0])


def test_labels_are_given_from_the_threshold_on() -> None:
    chances = np.array([[0.9, 0.1], [0.89, 0.11], [0.5, 0.5], [0.02, 0.98]])
    outputs = list(np.log(chances)[:, None].astype(np.float32))
    assert made("pseudo_labels", threshold=0.895).label(outputs).tolist() == [0, IGNORED, IGNORED, 1]
    assert made("pseudo_labels", threshold=0.5).label(outputs).tolist() == [0, 0, 0, 1]


def test_of_each_label_the_surest_texts_are_taken() -> None:
    chance = np.random.default_rng(0)
    outputs = list(chance.normal(scale=3, size=(60, 1, 2)).astype(np.float32))
    labels = made("pseudo_labels", threshold=0.7, limit_per_label=5).label(outputs)
    tops = [float(torch.from_numpy(output[0]).double().softmax(0).max()) for output in outputs]
    for label in (0, 1):
        own = [i for i, output in enumerate(outputs) if output[0].argmax() == label and tops[i] >= 0.7]
        assert len(own) > 5
        assert set(np.flatnonzero(labels == label)) == set(sorted(own, key=lambda i: -tops[i])[:5])


# --- consistency ------------------------------------------------------------------------------------------------------


def test_an_altered_text_is_brought_to_the_sharpened_answer_of_a_sure_text() -> None:
    task = made("consistency", threshold=0.8, temperature=0.5)
    output = torch.tensor([[2.0, 0], [0.5, 0], [1.0, 0], [0, 1]], requires_grad=True)  # sure, altered; unsure, altered
    loss = task.loss(output, {"sizes": torch.tensor([2, 2])})
    q, p = np.array([math.e**4, 1]) / (math.e**4 + 1), np.array([math.e**0.5, 1]) / (math.e**0.5 + 1)
    assert loss.tolist() == pytest.approx([float((q * np.log(q / p)).sum()), 0.0], abs=1e-6)
    (gradient,) = torch.autograd.grad(loss.sum(), output)
    torch.testing.assert_close(gradient[1], torch.from_numpy(p - q).float())
    assert not gradient[[0, 2, 3]].any()


@pytest.mark.parametrize("noise", ["mask", "drop"])
def test_a_share_of_the_tokens_is_altered_and_special_ones_stay(tokenizer: Any, noise: str) -> None:
    task = made("consistency", noise=noise, rate=0.3)
    row = {"text": "please play some jazz and turn the lights down in the living room tonight"}
    ((item,),) = task.encode([row], tokenizer)
    clean, altered = item["input_ids"]
    assert clean == tokenizer(row["text"])["input_ids"]
    assert (clean[0], clean[-1]) == (altered[0], altered[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
    count = round(0.3 * (len(clean) - 2))
    if noise == "mask":
        changed = [place for place in range(len(clean)) if clean[place] != altered[place]]
        assert {altered[place] for place in changed} == {tokenizer.mask_token_id}
        assert len(changed) == count
    else:
        assert len(altered) == len(clean) - count
        rest = iter(clean)
        assert all(token in rest for token in altered)
    assert [len(types) for types in item["token_type_ids"]] == [len(clean), len(altered)]
    assert list(task.encode([row], tokenizer)) == [[item]]
    ((other,),) = made("consistency", noise=noise, rate=0.3, seed=1).encode([row], tokenizer)
    assert other["input_ids"][0] == clean
    assert other["input_ids"][1] != altered
    assert str(count) in task.describe(row, item)[0][1]


def test_one_token_of_a_text_stays() -> None:
    one, two = (
        list(ids[0]["input_ids"])
        for ids in made("consistency", rate=0.9).encode([{"text": "watch"}, {"text": "watch movie"}], word_tokenizer())
    )
    assert one[0] == one[1]
    assert sum(first != second for first, second in zip(*two, strict=True)) == 1


def test_a_mask_is_asked_of_tokenizers_that_have_one_alone() -> None:
    without = word_tokenizer()
    without.mask_token = None
    with pytest.raises(ConfigError) as caught:
        made("consistency", noise="mask").meet("decoder", without)
    assert str(caught.value) == (
        "`noise` should find a mask token in the tokenizer. Found a tokenizer without one. Write `noise: drop`."
    )
    task = made("consistency", rate=0.5)
    task.meet("decoder", without)
    ((item,),) = task.encode([{"text": "watch movie actor scene"}], without)
    assert [len(ids) for ids in item["input_ids"]] == [4, 2]


# --- both -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_without_labels_says_how_much_its_head_is_in_doubt(kind: str, tokenizer: Any) -> None:
    task, row = made(kind), {"text": "watch a movie"}
    ((item,),) = task.encode([row], tokenizer)
    output = np.log([[0.25, 0.75], [0.5, 0.5]])[: len(item["input_ids"])].astype(np.float32)
    answer = task.decode(row, [item], [output])
    assert answer.value == {
        "nll": pytest.approx(-0.25 * math.log(0.25) - 0.75 * math.log(0.75), abs=1e-6),
        "tokens": 1,
    }
    assert answer.detail == {"label": "music", "probability": 0.75}
    json.dumps([answer.value, answer.detail], allow_nan=False)
    metric = METRICS.load("perplexity")()
    assert metric.score(task.baseline([row], [row]), [task.reference(row)]) == pytest.approx(len(LABELS))
    assert task.describe(row, item)


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_without_labels_has_a_head_like_the_one_it_shares(kind: str) -> None:
    task = made(kind)
    torch.manual_seed(0)
    own = task.head(8).state_dict()
    torch.manual_seed(0)
    assert all(torch.equal(own[key], value) for key, value in labelled_task().head(8).state_dict().items())
    assert task.choices() == len(LABELS)
    assert task.terms(task.targets([{"input_ids": [[1], [1]]}] * 3, 1)).tolist() == [1, 1, 1]
    assert (task.fault({"text": " "}) or "").startswith("have ")
    assert task.fault({"text": "a"}) is None


def test_heads_are_shared_by_name_and_every_fault_is_told_at_once() -> None:
    tasks: dict[str, Task] = {
        "intent": labelled_task(),
        "urgency": Regression(),
        "more": PseudoLabels(of="intent"),
        "near": Consistency(of="intnt"),
        "far": PseudoLabels(of="urgency"),
    }
    assert shared_heads(tasks) == {"more": "intent", "near": "intnt", "far": "urgency"}
    with pytest.raises(ConfigError) as caught:
        share_heads(tasks)
    assert [str(fault) for fault in caught.value.faults] == [
        "`tasks.near.of` should name a task of the run. Found `intnt`. Did you mean `intent`?",
        "`tasks.far.of` should name a task of the type `classification`. Found `urgency`, a `Regression`.",
    ]
    more = tasks["more"]
    assert isinstance(more, PseudoLabels)
    assert more.labelled is tasks["intent"]


def test_the_only_classification_of_a_run_need_not_be_named() -> None:
    more = PseudoLabels()
    tasks: dict[str, Task] = {"more": more, "urgency": Regression(), "intent": labelled_task()}
    share_heads(tasks)
    assert shared_heads(tasks) == {"more": "intent"}
    assert more.labelled is tasks["intent"]
    again = PseudoLabels()
    again.restore(json.loads(json.dumps(more.state())))
    share_heads({"again": again, "intent": labelled_task(), "topic": labelled_task()})
    assert again.of == "intent"
    for others, fix in (
        ({"intent": labelled_task(), "topic": labelled_task()}, "Choose one of `intent`, `topic`."),
        ({"urgency": Regression()}, "Add a task of the type `classification`."),
    ):
        with pytest.raises(ConfigError) as caught:
            share_heads({"more": PseudoLabels(), **others})
        assert str(caught.value) == f"`tasks.more.of` should name a task of the run. Found nothing. {fix}"


def accuracy(model: WordModel, task: Classification, rows: list[dict[str, str]], tokenizer: Any) -> float:
    items = [own[0] for own in task.encode(rows, tokenizer)]
    with torch.no_grad():
        chosen = model(items).argmax(dim=1).tolist()
    return float(np.mean([task.labels[each] == row["label"] for each, row in zip(chosen, rows, strict=True)]))


def trained(kind: str | None, steps: int = 40) -> float:
    """Train on few labelled rows, and on many texts without labels where there is a task for them; gives accuracy.

    Texts are labelled anew every ten steps.
    """
    tokenizer, task = word_tokenizer(), labelled_task()
    few, many, asked = planted()
    labelled = [own[0] for own in task.encode(few, tokenizer)]
    model = WordModel(len(tokenizer), task)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    extra: Any = (
        None if kind is None else made(kind, **({"rate": 0.34, "noise": "drop"} if kind == "consistency" else {}))
    )
    texts = [] if extra is None else [own[0] | {PLACE: i} for i, own in enumerate(extra.encode(many, tokenizer))]
    for step in range(steps):
        if kind == "pseudo_labels" and step % 10 == 0:
            with torch.no_grad():
                extra.take(extra.label(list(model(texts)[:, None].numpy())))
        loss = task.loss(model(labelled), task.targets(labelled, 8)).mean()
        if extra is not None:
            loss = loss + extra.loss(model(texts), extra.targets(texts, 8)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return accuracy(model, task, asked, tokenizer)


@pytest.mark.parametrize("kind", KINDS)
def test_words_that_only_texts_without_labels_have_are_learned_from_these(kind: str) -> None:
    alone, together = trained(None), trained(kind)
    assert alone < 0.75
    assert together > 0.95
