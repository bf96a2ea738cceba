"""Whole runs that learn from a teacher and from texts without labels: what is saved, read back, and gone on with."""

from __future__ import annotations

import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from resume_tools import assert_same, in_step, killed, short_run
from taskloom.config import load_config
from taskloom.errors import ConfigError, RunFolderError
from taskloom.run import Run, evaluate, train

pytest_plugins = ("training_fixtures",)


@pytest.fixture
def values(tiny_encoder: Path, tiny_data: Path, tiny_run: Path) -> dict[str, Any]:
    """A run of five steps in which texts have labels from the second step on, and two tasks a teacher."""
    values = short_run(tiny_encoder, tiny_data, steps=5)
    texts = str(tiny_data / "topics")
    values["tasks"] = {
        "intent": values["tasks"]["intent"] | {"distillation": {"teacher": str(tiny_run), "share": 0.3}},
        "more": {
            "type": "pseudo_labels",
            "of": "intent",
            "data": texts,
            "threshold": 0.01,
            "limit_rows": 8,
            "max_length": 96,
        },
        "slots": values["tasks"]["slots"] | {"distillation": {"teacher": str(tiny_run)}},
        "near": {
            "type": "consistency",
            "of": "intent",
            "data": texts,
            "threshold": 0.01,
            "limit_rows": 8,
            "max_length": 96,
        },
    }
    values["training"]["per_device_train_batch_size"] = 8
    return values


def test_a_killed_run_goes_on_with_the_lessons_and_the_labels_it_had(values: dict[str, Any], tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(values, whole)
    killed(values, broken, in_step(4))
    train(values, broken)
    assert_same(whole, broken)
    for name in ("teachers/intent.safetensors", "teachers/slots.safetensors"):
        assert (whole / name).read_bytes() == (broken / name).read_bytes()
    kept = sorted((whole / "checkpoints").glob("*/pseudo_labels.safetensors"))
    assert kept
    assert all(load_file(path)["more"].ge(0).all() for path in kept)


def test_a_shared_head_is_saved_once_and_serves_all_who_share_it(values: dict[str, Any], tmp_path: Path) -> None:
    run = train(values, tmp_path / "run")
    weights = load_file(run.record.model / "heads.safetensors")
    assert {key.partition(".")[0] for key in weights} == {"intent", "slots"}
    again = Run(run.folder)
    model, _, _ = again.loaded()
    assert model.head_of("more") is model.head_of("near") is model.heads["intent"]
    intent, more = again.predict("intent", [{"text": "play"}])[0], again.predict("more", [{"text": "play"}])[0]
    assert more.detail["label"] == intent.value
    assert [score.metric for score in evaluate(run.folder, ["test"]) if score.task == "more"] == ["perplexity"]


def test_being_sure_has_no_part_in_the_composite_unless_the_run_file_says_so(values: dict[str, Any]) -> None:
    assert {name: task.importance for name, task in load_config(values).tasks.items()} == {
        "intent": 1.0,
        "more": 0.0,
        "slots": 1.0,
        "near": 0.0,
    }
    values["tasks"]["more"]["importance"] = 0.5
    config = load_config(values)
    assert config.tasks["more"].importance == 0.5
    assert load_config(config.resolved()).resolved() == config.resolved()


def test_the_shared_head_has_the_gradient_of_all_who_share_it(values: dict[str, Any], session_of: Any) -> None:
    for section in values["tasks"].values():
        section.pop("distillation", None)
    session = session_of(values)
    session.labelling.label(0)
    model = session.model.eval()
    step = session.steps[0]
    objective, head = session.objective(), model.heads["intent"].linear.weight
    parts = {}
    for chunk in step.chunks:
        sums, _ = objective.sums(model(chunk), chunk)
        for name, value in sums.items():
            (gradient,) = torch.autograd.grad(value, head, retain_graph=True, allow_unused=True)
            if gradient is not None:
                parts[name] = parts.get(name, 0) + objective.scale[name] * gradient
    assert parts.keys() == {"intent", "more", "near"}
    assert all(float(each.abs().sum()) > 0 for each in parts.values())
    balancing = session.balancing()
    balancing.check_gradients = False
    balancing.open(0, 1.0)
    with balancing.watching():
        for chunk in step.chunks:
            balancing.rows(chunk)
            sums, _ = objective.sums(model(chunk), chunk)
            balancing.backward(chunk, sums, torch.Tensor.backward)
    balancing.close(0)
    torch.testing.assert_close(head.grad, sum(parts.values()), rtol=1e-4, atol=1e-7)


def test_texts_are_not_labelled_in_a_run_that_does_not_evaluate(values: dict[str, Any], session_of: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        session_of(values, training={"eval_strategy": "no"})
    assert str(caught.value) == (
        "config: `tasks.more.type` should stand in a run that evaluates while it trains, since texts are labelled "
        "then. Found no evaluation. Set `training.eval_steps`, and give every task validation rows."
    )


def test_another_teacher_in_the_same_folder_is_a_change_of_the_run(
    values: dict[str, Any], tiny_run: Path, tmp_path: Path
) -> None:
    teacher = tmp_path / "teacher"
    shutil.copytree(tiny_run, teacher)
    values = deepcopy(values)
    for name in ("intent", "slots"):
        values["tasks"][name]["distillation"]["teacher"] = str(teacher)
    killed(values, tmp_path / "run", in_step(4))
    (teacher / "model" / "added").write_text("x")
    with pytest.raises(RunFolderError, match=r"`tasks\.intent\.distillation\.teacher` should name the teacher that"):
        train(values, tmp_path / "run")
