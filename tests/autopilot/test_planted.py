"""A poisoned and a starved task among sound ones: both are named, and no sound one is harmed."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from taskloom.autopilot import auto
from taskloom.model.bundled import bundled_folder
from taskloom.run import Run

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parents[2]
SOUND = ("intent", "topics", "urgency")


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark that plants both."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("autopilot")


def test_the_planted_rows_are_what_they_are_said_to_be(planted: ModuleType, tmp_path: Path) -> None:
    from taskloom.autopilot.profile import profile
    from taskloom.config import read_config

    planted.write_data(tmp_path)
    held = {each.task: each for each in profile(read_config(planted.RECIPE, [f"data_root={tmp_path}"]))}
    assert {name: each.rows["train"] for name, each in held.items()} == {
        "intent": 400, "topics": 400, "urgency": 60, "poison": 400,
    }  # fmt: skip
    assert held["poison"].labels == 2
    assert held["poison"].entropy == pytest.approx(0.693, abs=0.01)
    assert held["topics"].entropy is None
    assert held["urgency"].labels == 0
    assert not any(each.warnings for each in held.values())


@pytest.mark.slow
@pytest.mark.skipif(bundled_folder() is None, reason="the extra `offline` is not installed")
def test_poison_and_hunger_are_named_and_no_sound_task_is_harmed(planted: ModuleType, tmp_path: Path) -> None:
    planted.write_data(tmp_path / "data")
    out = tmp_path / "out"
    found: dict[str, Any] = auto(planted.RECIPE, out, budget=6.0, assignments=[f"data_root={tmp_path / 'data'}"])
    causes = {each["task"]: each["cause"] for each in found["causes"]}
    assert causes["poison"] == "unlearnable"
    assert causes["urgency"] == "starved"
    assert "unlearnable" not in {causes.get(name) for name in SOUND}
    assert found["spent"] <= 6.0
    told = {row["task"]: row for row in found["test"]}
    assert all(told[name]["high"] >= -found["margin"] for name in SOUND)  # none is harmed beyond chance on test rows
    for name in SOUND:
        (answer,) = Run(out / "shipped" / found["shipped"][name]).predict(name, [{"text": "my parcel never came"}])
        assert answer is not None
