"""What the real encoder reaches; minutes long, so these run by `make test-slow` alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from taskloom import Run, train
from taskloom.cli.commands import run_quickstart
from taskloom.cli.tables import beats_baseline
from taskloom.model.bundled import bundled_folder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bundled_folder() is None, reason="the extra `offline` is not installed"),
]

DATA = os.environ.get("TASKLOOM_DATA", "")
RECIPE = Path(__file__).parent.parent / "recipes" / "assistant.yaml"

LEAST = {
    ("intent", "accuracy"): 0.96,
    ("slots", "span_f1"): 0.80,
    ("sentiment", "accuracy"): 0.83,
    ("similarity", "spearman"): 0.80,
    ("entities", "span_f1"): 0.32,
}


@pytest.fixture(autouse=True)
def _all_cores() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    yield
    torch.set_num_threads(before)


def test_every_task_of_the_quickstart_beats_its_baseline_outside_the_interval(tmp_path: Path) -> None:
    run_quickstart(tmp_path / "run", None, [])
    run = Run(tmp_path / "run")
    first = {score.task: score for score in reversed(run.scores) if score.baseline is not None}
    assert len(first) == 7
    assert all(beats_baseline(score) for score in first.values())
    assert run.record.report_html.is_file()
    assert run.predict("intent", [{"text": "Where is my parcel?"}])[0].value == "track_parcel"


@pytest.mark.skipif(not Path(DATA, "snips").is_dir(), reason="TASKLOOM_DATA names no folder with snips and the others")
def test_six_real_tasks_reach_their_scores_in_one_encoder(tmp_path: Path) -> None:
    run = train(RECIPE, tmp_path / "run", assignments=[f"data_root={DATA}"])
    found = {(score.task, score.metric): score for score in run.scores}
    low = {key: found[key].value for key, least in LEAST.items() if found[key].value < least}
    assert not low
    questions = found["questions", "squad_f1"]
    assert questions.baseline is not None
    assert questions.value > 2 * questions.baseline
