"""Runs on a Ray cluster, here of one machine; skipped where Ray is not installed."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import pytest

from study_tools import study_values
from taskloom.config import Config, load_config
from taskloom.errors import MissingExtraError, StudyError
from taskloom.study import Member, train_members

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")


@pytest.fixture
def base(run_values: dict[str, Any]) -> Config:
    return load_config(study_values(run_values)["run"])


def members() -> list[Member]:
    return [Member("joint", ("intent", "topics")), Member("single:intent", ("intent",))]


@needs_ray
@pytest.mark.slow
def test_runs_on_a_cluster_give_the_scores_of_runs_here(base: Config, tmp_path: Path) -> None:
    here = train_members(base, members(), tmp_path / "here", workers=2)
    there = train_members(base, members(), tmp_path / "there", workers=2, executor="ray")
    for key, record in here.items():
        assert [each.value for each in there[key].scores()] == [each.value for each in record.scores()]
    again = train_members(base, members(), tmp_path / "there", executor="ray")  # nothing is left to be trained
    assert {key: record.folder for key, record in again.items()} == {key: each.folder for key, each in there.items()}


@needs_ray
@pytest.mark.slow
def test_one_that_fails_on_a_cluster_says_why_and_takes_no_other_along(base: Config, tmp_path: Path) -> None:
    broken = Member("broken", ("topics",), {"training.learning_rate": 1e30})
    with pytest.raises(StudyError) as caught:
        train_members(base, [broken, *members()], tmp_path, workers=2, executor="ray")
    assert [fault.where for fault in caught.value.faults] == ["broken (seed 0)"]
    assert "finite" in str(caught.value)
    kept = train_members(base, members(), tmp_path)
    assert all(record.state.status == "finished" for record in kept.values())


def test_without_ray_one_sentence_says_so(base: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def absent(name: str, package: str | None = None) -> Any:
        if name == "ray":
            raise ImportError(name)
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(MissingExtraError, match="ray"):
        train_members(base, members(), tmp_path, executor="ray")
