"""What difficulty is measured to be, and that measuring leaves no trace in model, gradients and random numbers."""

from __future__ import annotations

import copy
import json
import math
import random
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from taskloom.batches.chunks import collate
from taskloom.config import Config, load_config
from taskloom.curriculum import begin_curriculum, known_difficulty
from taskloom.curriculum.measuring import PROBE_ROWS, PROBE_STEPS, SAMPLED_ITEMS, Measuring
from taskloom.errors import RunFolderError
from taskloom.model import MultiTaskModel, build_model
from taskloom.preparation import Prepared, prepare
from taskloom.record import Record
from taskloom.training.arguments import Length

TASKS = ("intent", "slots", "answer", "topics", "reply")


@pytest.fixture
def values(run_values: dict[str, Any]) -> dict[str, Any]:
    run_values["tasks"] = {name: run_values["tasks"][name] for name in TASKS}
    run_values["model"]["adapter"]["lora_dropout"] = 0.3
    run_values["batching"] = {"limit_tokens": 512}  # so that there are several rectangles
    run_values["curriculum"] = {"tasks": {"by": "loss"}, "items": {"by": "loss"}}
    return run_values


def made(values: dict[str, Any]) -> tuple[Config, Prepared, MultiTaskModel]:
    config = load_config(values)
    prepared = prepare(config)
    return config, prepared, build_model(config.model, prepared.tasks, seed=0)


def few(values: dict[str, Any]) -> dict[str, Any]:
    """Leave two tasks, since probes take their time."""
    return {**values, "tasks": {name: values["tasks"][name] for name in ("intent", "slots")}}


def losses_one_by_one(prepared: Prepared, model: MultiTaskModel, name: str) -> list[float]:
    """Give the loss of every training item, each in a rectangle of its own."""
    model.eval()
    found = []
    with torch.no_grad():
        for item in (prepared.items[name]["train"][index] for index in range(len(prepared.items[name]["train"]))):
            chunk = collate([(name, item)], prepared.tasks, prepared.padding)
            found.append(float(prepared.tasks[name].loss(model(chunk)[name], chunk.parts[name].targets)))
    return found


@pytest.mark.parametrize("name", TASKS)
def test_items_have_the_loss_that_each_has_alone(values: dict[str, Any], name: str) -> None:
    config, prepared, model = made(values)
    found = Measuring(config, prepared, model).item_losses(name)
    assert found.tolist() == pytest.approx(losses_one_by_one(prepared, model, name), rel=1e-4, abs=1e-5)
    assert len(set(np.round(found, 6).tolist())) > 1


def test_tasks_have_their_mean_loss_by_the_logarithm_of_their_labels(
    values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, prepared, model = made(values)
    found = Measuring(config, prepared, model).task_losses()
    for name in TASKS:
        assert len(prepared.items[name]["train"]) <= SAMPLED_ITEMS
        mean = np.mean(losses_one_by_one(prepared, model, name))
        labels = {"intent": 8, "slots": len(prepared.tasks["slots"].labels), "topics": 2}  # type: ignore[attr-defined]
        if name == "intent":
            labels["intent"] = len(prepared.tasks["intent"].labels)  # type: ignore[attr-defined]
        assert found[name] == pytest.approx(mean / math.log(labels.get(name, math.e)), rel=1e-4)
    monkeypatch.setattr("taskloom.curriculum.measuring.SAMPLED_ITEMS", 5)
    count = len(prepared.items["answer"]["train"])
    sample = Measuring(config, prepared, model)._sample("answer")
    assert (len(sample), sample[0], sample[-1]) == (5, 0, count - 1)


def test_speed_is_how_far_a_few_steps_of_plain_training_lower_the_loss(values: dict[str, Any]) -> None:
    config, prepared, model = made(few(values))
    measuring = Measuring(config, prepared, model)
    found = measuring.task_speeds()
    other = copy.deepcopy(model).eval()
    name, items = "intent", prepared.items["intent"]["train"]
    groups = [{"params": [p for p in other.backbone.parameters() if p.requires_grad], "lr": 1e-3}]
    groups.append({"params": list(other.heads[name].parameters()), "lr": 1e-2})
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
    order = np.random.default_rng([0, zlib.crc32(name.encode())]).permutation(len(items)).tolist()
    before = np.mean(losses_one_by_one(prepared, other, name))
    for step in range(PROBE_STEPS):
        rows = [order[(step * PROBE_ROWS + place) % len(order)] for place in range(PROBE_ROWS)]
        chunk = collate([(name, items[row]) for row in rows], prepared.tasks, prepared.padding)
        optimizer.zero_grad()
        prepared.tasks[name].loss(other(chunk)[name], chunk.parts[name].targets).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    after = np.mean(losses_one_by_one(prepared, other, name))
    assert -found[name] == pytest.approx((before - after) / before, rel=1e-2)
    assert -found[name] > 0.005
    assert measuring.task_speeds() == found, "nothing of the first probe is left"


@pytest.mark.parametrize("method", ["task_losses", "task_speeds", "item_losses"])
def test_measuring_leaves_model_gradients_modes_and_random_numbers_bit_for_bit(
    values: dict[str, Any], method: str
) -> None:
    config, prepared, model = made(values)
    model.train()
    next(iter(model.heads.values())).eval()  # a mode of its own
    head = list(model.heads["slots"].parameters())
    head[0].grad = torch.full_like(head[0], 0.5)
    gradient = head[0].grad
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(7)
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    trained = [parameter.requires_grad for parameter in model.parameters()]
    states = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # type: ignore[index]
    measuring = Measuring(config, prepared, model)
    measuring.item_losses("slots") if method == "item_losses" else getattr(measuring, method)()
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == trained
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == states  # type: ignore[index]
    assert head[0].grad is gradient
    assert torch.equal(gradient, torch.full_like(gradient, 0.5))
    assert [p.grad is None for p in model.parameters()].count(False) == 1


def test_a_failure_in_the_middle_leaves_the_model_as_it_was_too(
    values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, prepared, model = made(few(values))
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    calls = []
    step = torch.optim.AdamW.step

    def stops(self: Any, *args: Any, **keys: Any) -> Any:
        calls.append(step(self, *args, **keys))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return calls[-1]

    monkeypatch.setattr(torch.optim.AdamW, "step", stops)
    with pytest.raises(KeyboardInterrupt):
        Measuring(config, prepared, model).task_speeds()
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())


def test_a_task_whose_loss_is_not_finite_is_the_most_difficult(values: dict[str, Any]) -> None:
    config, prepared, model = made(few(values))
    with torch.no_grad():
        next(model.heads["slots"].parameters()).fill_(math.nan)
    measuring = Measuring(config, prepared, model)
    assert np.isinf(measuring.item_losses("slots")).all()
    assert measuring.task_losses()["slots"] == math.inf
    speeds = measuring.task_speeds()
    assert speeds["slots"] == math.inf
    assert math.isfinite(speeds["intent"])


# --- the run folder ---------------------------------------------------------------------------------------------------


def begin(config: Config, prepared: Prepared, model: MultiTaskModel, folder: Path) -> tuple[Any, list[Any]]:
    plan = prepared.plan(Length(40, 40, 40)).plan
    return plan, begin_curriculum(config, prepared, model, plan, folder)


def draws(plan: Any) -> list[Any]:
    return [plan.micro(index) for index in range(len(plan))]


def test_difficulty_is_measured_once_and_read_where_the_run_goes_on_with_a_trained_model(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, prepared, model = made(values)
    record = Record.create(tmp_path / "run")
    plan, decisions = begin(config, prepared, model, record.folder)
    held = json.loads(record.curriculum_json.read_text())
    assert held["tasks"]["by"] == held["items"]["by"] == "loss"
    order = sorted(TASKS, key=lambda name: held["tasks"]["difficulty"][name])
    assert [each.task for each in decisions if each.factor] == order
    easiest = np.argsort(held["items"]["difficulty"]["intent"], kind="stable").tolist()
    assert plan.paces["intent"].order.tolist() == easiest
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)
    monkeypatch.setattr("taskloom.curriculum.measuring.Measuring._losses", lambda *_: pytest.fail("measured again"))
    again, same = begin(config, prepared, model, record.folder)
    assert same == decisions
    assert draws(again) == draws(plan)


def test_a_file_of_other_items_or_another_kind_is_measured_anew(values: dict[str, Any], tmp_path: Path) -> None:
    config, prepared, model = made(values)
    record = Record.create(tmp_path / "run")
    begin(config, prepared, model, record.folder)
    first = record.curriculum()
    shorter = copy.deepcopy(first)
    shorter["items"]["difficulty"]["slots"].pop()
    other_kind = copy.deepcopy(first)
    other_kind["tasks"]["by"] = "speed"
    for changed in (shorter, other_kind, {"version": 1}):
        record.curriculum_json.write_text(json.dumps(changed))
        begin(config, prepared, model, record.folder)
        assert record.curriculum() == first
    record.curriculum_json.write_text(json.dumps({**first, "version": 2}))
    with pytest.raises(RunFolderError, match="version"):
        begin(config, prepared, model, record.folder)


def test_lengths_and_lists_take_no_model_and_leave_no_file(values: dict[str, Any], tmp_path: Path) -> None:
    values["curriculum"] = {"tasks": {"by": "length"}, "items": {"by": "length", "tasks": ["slots"]}}
    config, prepared, model = made(values)
    record = Record.create(tmp_path / "run")
    plan, decisions = begin(config, prepared, None, record.folder)  # type: ignore[arg-type]
    assert not record.curriculum_json.exists()
    means = {
        name: np.mean(
            [sum(map(len, item["input_ids"])) for item in (held["train"][i] for i in range(len(held["train"])))]
        )
        for name, held in prepared.items.items()
    }
    assert known_difficulty(config.curriculum, prepared).tasks == pytest.approx(means)
    assert [each.task for each in decisions if each.factor] == sorted(TASKS, key=lambda name: means[name])
    assert list(plan.paces) == ["slots"]
    values["curriculum"] = {}
    config, prepared, model = made(values)
    assert begin(config, prepared, model, record.folder)[1] == []


def test_speed_orders_what_learns_fast_first(values: dict[str, Any], tmp_path: Path) -> None:
    values["curriculum"] = {"tasks": {"by": "speed", "direction": "easy_first"}}
    config, prepared, model = made(few(values))
    record = Record.create(tmp_path / "run")
    _, decisions = begin(config, prepared, model, record.folder)
    speeds = Measuring(config, prepared, model).task_speeds()
    assert [each.task for each in decisions if each.factor] == sorted(speeds, key=lambda name: speeds[name])
    assert "by speed, easy first (its loss fell by " in decisions[0].reason
