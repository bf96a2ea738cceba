"""A new task begins from the old one whose gradient lies nearest to its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from growth_tools import topics, twin

from taskloom.growth import add_task, relatedness
from taskloom.growth.relatedness import read_relatedness
from taskloom.growth.training import copy_parts
from taskloom.model import load_model
from taskloom.record import Record

pytest_plugins = ("growth_fixtures",)
pytestmark = pytest.mark.usefixtures("_plain_page")


@pytest.mark.slow  # a tiny random encoder and its tokenizer differ from run to run, and now and then are no good
def test_a_twin_of_a_task_is_found_and_begun_from(small_run: Path, tiny_data: Path, tmp_path: Path) -> None:
    add_task(small_run, twin(tiny_data), tmp_path / "b", init_from="auto")
    first, second = read_relatedness(Record(tmp_path / "b"))
    assert first.task == "intent"
    assert first.chosen
    assert first.parts == ["head"]
    assert first.low <= first.cosine <= first.high
    assert first.cosine > second.cosine
    assert not second.chosen
    assert second.parts == []


def test_a_task_without_a_fitting_part_begins_as_drawn(small_run: Path, tiny_data: Path, tmp_path: Path) -> None:
    add_task(small_run, topics(tiny_data), tmp_path / "plain")
    add_task(small_run, topics(tiny_data), tmp_path / "auto", init_from="auto")
    found = read_relatedness(Record(tmp_path / "auto"))
    assert [each.chosen for each in found] == [False, False]
    one, other = (load_model(tmp_path / name / "model")[0] for name in ("plain", "auto"))
    for key, value in one.heads.state_dict().items():
        assert torch.equal(value, other.heads.state_dict()[key])


def test_a_named_task_gives_its_head_and_its_adapter(small_run: Path, tiny_data: Path, tmp_path: Path) -> None:
    slow = {"learning_rate": 1e-12}
    add_task(small_run, twin(tiny_data, own_adapter={"r": 2}), tmp_path / "b")
    request = twin(tiny_data, "third", own_adapter={"r": 2}, training=slow)
    add_task(tmp_path / "b", request, tmp_path / "c", init_from="twin")
    model, _, _ = load_model(tmp_path / "c" / "model")
    for key, value in model.heads["twin"].state_dict().items():
        assert torch.allclose(value, model.heads["third"].state_dict()[key], atol=1e-6)
    held = dict(model.backbone.named_parameters())
    own = [name for name in held if ".own-twin." in name]
    assert own
    for name in own:
        assert torch.allclose(held[name], held[name.replace(".own-twin.", ".own-third.")], atol=1e-6)


def test_copied_parts_are_copies_and_not_the_same_memory(small_run: Path) -> None:
    model, tasks, _ = load_model(small_run / "model")
    model.add_head("other", tasks["intent"])
    copy_parts(model, "intent", "other", ["head"])
    with torch.no_grad():
        next(model.heads["other"].parameters()).add_(1.0)
    one, other = (next(model.heads[name].parameters()) for name in ("intent", "other"))
    assert torch.allclose(one + 1, other)


def test_cosines_of_sketches_are_those_of_the_means() -> None:
    generator = np.random.default_rng(0)
    new, old = generator.normal(size=(6, 50)), generator.normal(size=(6, 50))
    found = relatedness._cosines(new, old, seed=0)
    one, other = new.mean(axis=0), old.mean(axis=0)
    assert found[0] == pytest.approx(one @ other / np.linalg.norm(one) / np.linalg.norm(other))
    assert relatedness._cosines(new, new, seed=0) == pytest.approx(np.ones(relatedness.RESAMPLES + 1))
    assert len(found) == relatedness.RESAMPLES + 1
