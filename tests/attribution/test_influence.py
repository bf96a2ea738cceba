"""Influence of tasks on answers: products of gradients against autograd by hand and against a step that is taken."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor

from taskloom.attribution import influence as module
from taskloom.attribution.influence import drawn_batches, influence
from taskloom.batches.chunks import collate
from taskloom.cli import commands
from taskloom.cli.explaining import run_influence
from taskloom.errors import ModelError
from taskloom.run import Run, reopened, train


@pytest.fixture(scope="module")
def run_copy(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("influenced") / "run"
    shutil.copytree(tiny_run, folder)
    return folder


class ByHand:
    """Losses and gradients of a run's tasks, the plain way."""

    def __init__(self, folder: Path) -> None:
        session, _ = reopened(folder)
        self.model, self.prepared = session.model.eval(), session.prepared
        self.shared = [each for _, each in self.model.shared_parameters() if each.requires_grad]

    def loss(self, name: str, items: list[Any]) -> Tensor:
        chunk = collate([(name, item) for item in items], self.prepared.tasks, self.prepared.padding)
        return self.prepared.tasks[name].loss(self.model(chunk)[name], chunk.parts[name].targets).mean()

    def training_loss(self, name: str, batches: int) -> Tensor:
        items = self.prepared.items[name]["train"]
        drawn = drawn_batches(len(items), batches)
        return torch.stack([self.loss(name, [items[row] for row in rows]) for rows in drawn]).mean()

    def gradient(self, scalar: Tensor) -> Tensor:
        found = torch.autograd.grad(scalar, self.shared, allow_unused=True)
        held = [torch.zeros_like(p) if g is None else g for g, p in zip(found, self.shared, strict=True)]
        return torch.cat([each.flatten() for each in held]).double()

    def items(self, name: str, row: dict[str, Any]) -> list[Any]:
        return next(iter(self.prepared.tasks[name].encode([row], self.prepared.tokenizer)))

    def step(self, direction: Tensor, size: float) -> None:
        start = 0
        with torch.no_grad():
            for parameter in self.shared:
                part = direction[start : start + parameter.numel()].view_as(parameter)
                parameter.add_(size * part.to(parameter.dtype))
                start += parameter.numel()


def row_of(folder: Path, name: str) -> dict[str, Any]:
    session, _ = reopened(folder)
    return session.prepared.corpora[name].splits["test"][0]


@pytest.mark.parametrize("name", ["intent", "slots", "answer", "similarity", "reply"])
def test_products_and_cosines_are_those_of_autograd(run_copy: Path, name: str) -> None:
    row, hand = row_of(run_copy, name), ByHand(run_copy)
    (found,) = influence(Run(run_copy), name, [row], batches=2)
    assert (found.of, found.target) == ("loss", "")
    own = hand.gradient(hand.loss(name, hand.items(name, row)))
    assert {each.task for each in found.tasks} == set(hand.prepared.tasks)
    for each in found.tasks:
        other = hand.gradient(hand.training_loss(each.task, 2))
        product, cosine = float(own @ other), float(own @ other / own.norm() / other.norm())
        assert each.product == pytest.approx(product, rel=1e-3, abs=1e-5 * float(own.norm() * other.norm()))
        assert each.cosine == pytest.approx(cosine, abs=1e-4)
    assert [each.product for each in found.tasks] == sorted((each.product for each in found.tasks), reverse=True)


def test_a_small_step_on_a_task_changes_the_loss_as_foretold(run_copy: Path) -> None:
    row, hand = row_of(run_copy, "intent"), ByHand(run_copy)
    (found,) = influence(Run(run_copy), "intent", [row], batches=2)
    items = hand.items("intent", row)
    for each in (found.tasks[0], found.tasks[-1]):
        direction = hand.gradient(hand.training_loss(each.task, 2))
        size = 1e-2 / float(direction.norm())
        losses = []
        for sign in (-1.0, 2.0, -1.0):  # a step down the task's gradient, one up, and back
            hand.step(direction, sign * size)
            with torch.no_grad():
                losses.append(float(hand.loss("intent", items).double()))
        fall = (losses[1] - losses[0]) / (2 * size)
        assert fall == pytest.approx(each.product, rel=0.05, abs=2e-4 * float(direction.norm()))


def test_without_a_right_answer_the_models_own_is_spoken_for(run_copy: Path) -> None:
    row = {"text": row_of(run_copy, "intent")["text"]}
    (found,) = influence(Run(run_copy), "intent", [row], batches=2)
    hand = ByHand(run_copy)
    chunk = collate([("intent", hand.items("intent", row)[0])], hand.prepared.tasks, hand.prepared.padding)
    logits = hand.model(chunk)["intent"][0]
    assert found.of == "answer"
    assert found.target == hand.prepared.tasks["intent"].labels[int(logits.argmax())]  # type: ignore[attr-defined]
    own = hand.gradient(-logits.max())
    for each in found.tasks:
        other = hand.gradient(hand.training_loss(each.task, 2))
        assert each.product == pytest.approx(float(own @ other), rel=1e-3, abs=1e-5 * float(own.norm() * other.norm()))


def test_batches_have_no_row_in_common_and_are_fewer_of_few_rows() -> None:
    for items, batches in ((200, 8), (40, 8), (5, 8), (1, 8)):
        drawn = drawn_batches(items, batches)
        flat = [row for batch in drawn for row in batch]
        assert len(flat) == len(set(flat)) == min(items, batches * module.ROWS)
        assert len(drawn) == min(items, batches)
        assert all(0 < len(batch) <= module.ROWS for batch in drawn)


def test_a_sketch_tells_nearly_the_same(run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = row_of(run_copy, "intent")
    (exact,) = influence(Run(run_copy), "intent", [row], batches=2)
    monkeypatch.setattr(module, "LIMIT_NUMBERS", 0)
    (sketched,) = influence(Run(run_copy), "intent", [row], batches=2)
    cosines = [{each.task: each.cosine for each in found.tasks} for found in (exact, sketched)]
    assert np.abs([cosines[0][name] - cosines[1][name] for name in cosines[0]]).max() < 0.05


def test_the_command_shows_and_writes_each_task(run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(commands, "console", Console(file=stream, width=140, highlight=False))
    monkeypatch.setattr(module, "ROWS", 4)
    run_influence(run_copy, "urgency", "where is my [parcel]?", 5, None)
    (line,) = [json.loads(each) for each in (run_copy / "influence" / "urgency.jsonl").read_text().splitlines()]
    assert line["of"] == "answer"
    assert line["input"] == {"text": "where is my [parcel]?"}
    assert len(line["tasks"]) == 7
    lines = [" ".join(each.split()) for each in stream.getvalue().splitlines()]
    assert lines[0].startswith("row 0 where is my [parcel]? (the answer ")
    assert lines[1] == "training on cosine product 95 % interval"
    assert [each.split()[0] for each in lines[2:9]] == [each["task"] for each in line["tasks"]]


def test_tasks_that_train_nothing_together_are_refused(run_values: dict[str, Any], tmp_path: Path) -> None:
    run_values["tasks"] = {name: {**run_values["tasks"][name], "limit_rows": 6} for name in ("intent", "urgency")}
    del run_values["model"]["adapter"]
    run_values["model"]["sharing"] = {"scheme": "per_task", "r": 2}
    run_values["training"] |= {"max_steps": 2, "per_device_train_batch_size": 4}
    train(run_values, tmp_path / "run")
    with pytest.raises(ModelError) as caught:
        influence(Run(tmp_path / "run"), "intent", [{"text": "hello"}], batches=1)
    assert str(caught.value) == "`model` should train a parameter that its tasks share. Found none."
