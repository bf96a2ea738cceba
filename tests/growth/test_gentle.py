"""Shared parts that are trained on gently move, and what old tasks lose by it is told with an interval."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from growth_tools import topics, weights_of
from safetensors.torch import load_file

from taskloom.bootstrap import interval, percentiles
from taskloom.evaluation import Judged
from taskloom.growth import add_task, fisher, forgetting
from taskloom.growth.training import settle, shared_parameters
from taskloom.metrics.accuracy import Accuracy
from taskloom.model import load_model
from taskloom.record import Record
from taskloom.run import Run
from taskloom.types import Prediction

pytest_plugins = ("growth_fixtures",)
pytestmark = pytest.mark.usefixtures("_plain_page")

ADAPTER = "adapter_model.safetensors"
SHARED = f"adapter/{ADAPTER}:"


def moved(old: Path, new: Path, prefix: str) -> float:
    """Give how far weights of some kind went."""
    before, after = weights_of(old), weights_of(new)
    names = [name for name in before if name.startswith(prefix)]
    assert names
    return math.sqrt(sum(float((before[name] - after[name]).square().sum()) for name in names))


@pytest.fixture(scope="module")
def replayed(small_run: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("replayed") / "b"
    add_task(small_run, topics(tiny_data, gentle={"method": "replay", "share": 0.5}), folder)
    return folder


def test_replay_moves_shared_parts_and_trains_every_task_by_its_share(small_run: Path, replayed: Path) -> None:
    assert moved(small_run, replayed, SHARED) > 0
    assert moved(small_run, replayed, "heads.safetensors:intent") > 0
    steps = [line for line in Record(replayed).steps() if "tasks" in line]
    counts = {name: sum(line["tasks"][name]["examples"] for line in steps) for name in ("intent", "urgency", "topics")}
    assert counts == {"intent": 8, "urgency": 8, "topics": 16}


def test_a_batch_of_old_and_new_rows_goes_through_the_adapters_that_each_has(
    small_run: Path, tiny_data: Path, tmp_path: Path
) -> None:
    add_task(small_run, topics(tiny_data, gentle="replay", own_adapter={"r": 2}), tmp_path / "b")
    own = [value for name, value in weights_of(tmp_path / "b").items() if "own-topics" in name and "lora_B" in name]
    assert own
    assert all(bool(value.any()) for value in own)
    assert moved(small_run, tmp_path / "b", SHARED) > 0


def test_forgetting_is_told_for_each_score_of_an_old_task(small_run: Path, replayed: Path) -> None:
    found = forgetting.read_forgetting(Record(replayed))
    assert [(each.task, each.metric) for each in found] == [
        (score.task, score.metric) for score in Run(small_run).scores if score.task != "composite"
    ]
    old = {(score.task, score.metric): score.value for score in Run(small_run).scores}
    new = {(score.task, score.metric): score.value for score in Run(replayed).scores}
    for each in found:
        assert each.before == pytest.approx(old[each.task, each.metric])
        assert each.after == pytest.approx(new[each.task, each.metric])
        assert each.difference == pytest.approx(each.after - each.before)
        assert each.low <= each.high
        assert each.n == 16
    assert {score.task for score in Run(replayed).scores} == {"intent", "urgency", "topics", "composite"}
    assert not (replayed / "unchanged.json").exists()


def test_a_difference_is_bootstrapped_over_the_same_rows() -> None:
    class Named:
        def reference(self, row: dict[str, Any]) -> Any:
            return row["label"]

    rows = [{"label": str(index % 3)} for index in range(30)]
    before = [Prediction("0") for _ in rows]
    after = [Prediction(row["label"] if index < 20 else "0") for index, row in enumerate(rows)]
    judged: Any = {"a": Judged(Named(), ["accuracy"])}  # type: ignore[arg-type]
    options: dict[str, Any] = {"resamples": 500, "confidence": 0.95, "seed": 3}
    (found,) = forgetting.compare_answers(
        {("a", "test"): (rows, before)},
        {("a", "test"): (rows, after)},
        judged,
        **options,
    )
    right = [
        [float(answer.value == row["label"]) for answer, row in zip(each, rows, strict=True)]
        for each in (before, after)
    ]
    gained = np.array(right[1]) - np.array(right[0])
    # A mean of differences, resampled by hand, is what paired resampling of the two means has to give.
    references = [row["label"] for row in rows]
    old, new = (interval(Accuracy(), [a.value for a in each], references, **options) for each in (before, after))
    assert found.difference == pytest.approx(gained.mean())
    assert (found.low, found.high) == percentiles(new.samples - old.samples, 0.95)
    spread = gained.std() / len(rows) ** 0.5
    assert found.high - found.low == pytest.approx(2 * 1.96 * spread, rel=0.25)


def test_what_old_tasks_need_moves_less_and_their_heads_not_at_all(
    small_run: Path, tiny_data: Path, tmp_path: Path
) -> None:
    rate, strength, far = 0.5, 1e-9, []
    for name in ("loose", "firm"):
        gentle = {"method": "fisher", "strength": strength, "rows": 8}
        request = topics(tiny_data, gentle=gentle, training={"optim": "sgd", "learning_rate": rate, "warmup_steps": 0})
        add_task(small_run, request, tmp_path / name)
        assert moved(small_run, tmp_path / name, "heads.safetensors:") == 0
        information = load_file(tmp_path / name / fisher.FILE)
        before, after = (load_file(each / "model" / "adapter" / ADAPTER) for each in (small_run, tmp_path / name))
        keys = {key: key.replace(".default.", ".") for key in information}
        far.append(sum(float((information[k] * (before[v] - after[v]).square()).sum()) for k, v in keys.items()))
        # As firm as steps of this length bear: each takes the stiffest parameter nine tenths of its way back.
        strength = 0.9 / rate / max(float(value.max()) for value in information.values())
        assert forgetting.read_forgetting(Record(tmp_path / name))
    assert 0 < far[1] < 0.9 * far[0]


def test_the_information_is_the_mean_of_squared_gradients_of_single_rows(small_run: Path, tiny_data: Path) -> None:
    from taskloom.config import read_config
    from taskloom.preparation import prepare

    prepared = prepare(read_config(small_run / "run.yaml"))
    model, tasks, _ = load_model(small_run / "model")
    names = sorted(shared_parameters(model))[:3]
    found = fisher.fisher_information(model, prepared, ["intent"], names, rows=3)
    from taskloom.batches.chunks import collate

    held, items = dict(model.backbone.named_parameters()), prepared.items["intent"]["train"]
    wanted = {name: torch.zeros_like(held[name]) for name in names}
    for index in range(3):
        model.zero_grad()
        chunk = collate([("intent", items[index])], tasks, prepared.padding)
        torch.autograd.backward(tasks["intent"].loss(model(chunk)["intent"], chunk.parts["intent"].targets).sum())
        for name in names:
            gradient = held[name].grad
            assert gradient is not None
            wanted[name] += gradient.square() / 3
    for name in names:
        assert torch.allclose(found[name], wanted[name], atol=1e-9)
    assert any(bool(found[name].any()) for name in names)


def test_the_anchor_adds_the_gradient_of_its_penalty(small_run: Path) -> None:
    model, _, _ = load_model(small_run / "model")
    settle(model, "intent", shared_parameters(model), None)
    name, parameter = next((n, p) for n, p in model.backbone.named_parameters() if "lora_A" in n)
    information = torch.rand_like(parameter)
    anchor = fisher.Anchor(model, {name: information}, strength=5.0)
    start = parameter.detach().clone()
    with torch.no_grad():
        parameter.add_(0.1)
    moved_to = parameter.detach().clone().requires_grad_(True)
    torch.autograd.backward(2.5 * (information * (moved_to - start).square()).sum())
    parameter.grad = torch.zeros_like(parameter)
    anchor.on_pre_optimizer_step(None, None, None)
    assert moved_to.grad is not None
    assert torch.allclose(parameter.grad, moved_to.grad, atol=1e-6)


def test_a_growth_held_by_information_goes_on_where_it_stopped(
    small_run: Path, tiny_data: Path, tmp_path: Path
) -> None:
    import transformers

    class Kill(transformers.TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 3:
                raise KeyError("killed")

    request = topics(tiny_data, gentle={"method": "fisher", "rows": 4})
    add_task(small_run, request, tmp_path / "whole")
    with pytest.raises(KeyError):
        add_task(small_run, request, tmp_path / "b", callbacks=[Kill()])
    add_task(small_run, request, tmp_path / "b")
    whole, resumed = weights_of(tmp_path / "whole"), weights_of(tmp_path / "b")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    one, other = ((tmp_path / name / forgetting.FILE).read_text() for name in ("whole", "b"))
    assert json.loads(one) == json.loads(other)
