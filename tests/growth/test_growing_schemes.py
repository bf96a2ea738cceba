"""A task is added to a run with a sharing scheme: it gets parts of its own, and those of the others stand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from growth_tools import assert_old_weights_stand, run_of, topics, weights_of

from taskloom.errors import ConfigError
from taskloom.growth import add_task, forgetting, proof
from taskloom.growth.base import Base
from taskloom.record import Record
from taskloom.run import Run, train

pytest_plugins = ("growth_fixtures",)
pytestmark = pytest.mark.usefixtures("_plain_page")


def scheme_of(encoder: Path, data: Path, **sharing: Any) -> dict[str, Any]:
    values = run_of(encoder, data, adapter=None)
    size = {"length": 3} if sharing["scheme"] == "prefix" else {"r": 4}
    values["model"] = {"name_or_path": str(encoder), "sharing": {**size, **sharing}}
    return values


def test_the_parts_of_a_scheme_are_among_what_a_growth_is_made_of(
    tiny_encoder: Path, tiny_data: Path, tmp_path: Path
) -> None:
    train(scheme_of(tiny_encoder, tiny_data, scheme="shared_and_task"), tmp_path / "a")
    held = Base.open(tmp_path / "a").digests()
    assert {"tasks.json", "heads.safetensors", "sharing/parts.safetensors"} <= held.keys()


@pytest.mark.parametrize("scheme", ["shared_and_task", "mtl_lora", "prefix"])
def test_old_tasks_answer_to_the_bit_as_before(
    tiny_encoder: Path, tiny_data: Path, tmp_path: Path, scheme: str
) -> None:
    train(scheme_of(tiny_encoder, tiny_data, scheme=scheme), tmp_path / "a")
    grown = add_task(tmp_path / "a", topics(tiny_data), tmp_path / "b")
    tasks = json.loads((grown.folder / proof.FILE).read_text())["tasks"]
    assert list(tasks) == ["intent", "urgency"]
    assert all(each["same"] for each in tasks.values())
    parts = "sharing/parts.safetensors:"
    before, after = weights_of(tmp_path / "a"), weights_of(grown.folder)
    held = {name for name in before if name.startswith((parts, "heads"))}
    assert all(torch.equal(before[name], after[name]) for name in held)
    assert any(name.startswith(parts) and name not in before for name in after)
    assert Run(grown.folder).predict("topics", [{"text": "my parcel is late"}])


def test_shared_parts_of_a_scheme_are_trained_on_by_replay(tiny_encoder: Path, tiny_data: Path, tmp_path: Path) -> None:
    train(scheme_of(tiny_encoder, tiny_data, scheme="shared_and_task"), tmp_path / "a")
    grown = add_task(tmp_path / "a", topics(tiny_data, gentle="replay"), tmp_path / "b", init_from="intent")
    with pytest.raises(AssertionError):
        assert_old_weights_stand(tmp_path / "a", grown.folder)
    assert forgetting.read_forgetting(Record(grown.folder))


def test_what_a_scheme_cannot_do_is_said(tiny_encoder: Path, tiny_data: Path, tmp_path: Path) -> None:
    train(scheme_of(tiny_encoder, tiny_data, scheme="per_task"), tmp_path / "a")
    with pytest.raises(ConfigError) as error:
        add_task(tmp_path / "a", topics(tiny_data), init_from="auto")
    assert str(error.value) == (
        "`--init-from` should name a task where tasks have parts of a scheme. Found `auto` with `model.sharing`. "
        "Name one of `intent`, `urgency`."
    )
    groups = {"scheme": "groups", "groups": {"one": ["intent"], "two": ["urgency"]}}
    train(scheme_of(tiny_encoder, tiny_data, **groups), tmp_path / "g")
    with pytest.raises(ConfigError) as error:
        add_task(tmp_path / "g", topics(tiny_data))
    assert str(error.value) == (
        f"{tmp_path / 'g'}: `model.sharing.scheme` should be one that a task can be added to. "
        "Found `groups`, which name every task. Train the tasks together, in a run of their own."
    )
