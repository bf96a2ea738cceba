"""Correlation of tasks: against scipy on drawn series, and on runs."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from taskloom.cli import commands, evaluating
from taskloom.correlation import correlate
from taskloom.correlation.measuring import clusters, measure, normalised
from taskloom.record import read_note
from taskloom.run import train


def series(points: int, rho: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).multivariate_normal([0, 0, 0], [[1, rho, 0], [rho, 1, 0], [0, 0, 1]], points)


def test_correlations_are_those_of_scipy_over_what_both_have() -> None:
    held = series(60, 0.7)
    held[:5, 0] = np.nan
    held[50:, 1] = np.nan
    found = measure(["a", "b", "c"], held, "runs")
    both = held[5:50]
    assert found.points[0, 1] == 45
    assert found.pearson[0, 1] == pytest.approx(stats.pearsonr(both[:, 0], both[:, 1]).statistic)
    assert found.spearman[1, 0] == pytest.approx(stats.spearmanr(both[:, 0], both[:, 1]).statistic)
    assert found.low[0, 1] < found.pearson[0, 1] < found.high[0, 1]
    assert found.clusters == [["a", "b"], ["c"]]


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(200):
        found = measure(["a", "b", "c"], series(80, 0.5, seed), "runs")
        covered += int(found.low[0, 1] <= 0.5 <= found.high[0, 1])
    assert 0.88 <= covered / 200 <= 0.99


def test_blocks_widen_the_interval_of_neighbours_that_depend_on_each_other() -> None:
    noise = np.random.default_rng(0).normal(size=(400, 2))
    smooth = np.stack([np.convolve(noise[:, column], np.ones(8) / 8, "valid") for column in range(2)], axis=1)
    alone, blocks = (measure(["a", "b"], smooth, over) for over in ("runs", "steps"))
    assert blocks.high[0, 1] - blocks.low[0, 1] > 1.3 * (alone.high[0, 1] - alone.low[0, 1])


def test_scores_of_which_less_is_better_are_turned_round() -> None:
    assert normalised("perplexity", 10.0) > normalised("perplexity", 20.0)
    assert normalised("accuracy", 0.9) > normalised("accuracy", 0.8)


def test_too_few_points_and_tasks_that_never_change_have_no_correlation() -> None:
    assert np.isnan(measure(["a", "b", "c"], series(3, 0.9), "runs").pearson).all()
    still = series(20, 0.9)
    still[:, 1] = 0.5
    found = measure(["a", "b", "c"], still, "runs")
    assert np.isnan(found.pearson[1]).all()
    assert found.clusters == [["a"], ["b"], ["c"]]


def test_tasks_are_joined_by_their_mean_correlation() -> None:
    r = np.array([[1, 0.9, 0.8, 0.1], [0.9, 1, 0.2, 0], [0.8, 0.2, 1, 0], [0.1, 0, 0, 1]])
    assert clusters(["a", "b", "c", "d"], r) == [["a", "b", "c"], ["d"]]
    assert clusters(["a"], np.ones((1, 1))) == [["a"]]


def test_a_run_is_correlated_over_its_checkpoints_and_steps(
    run_values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_values["tasks"] = {name: run_values["tasks"][name] for name in ("intent", "topics")}
    run_values["training"] |= {"max_steps": 8, "eval_steps": 1, "save_steps": 8}
    train(run_values, tmp_path / "0")
    for copy in ("1", "2", "3"):
        shutil.copytree(tmp_path / "0", tmp_path / copy)
    found = {each.over: each for each in correlate([tmp_path / "0"])}
    assert set(found) == {"checkpoints", "steps"}
    assert found["steps"].points[0, 1] == 7
    assert set(read_note(tmp_path / "0" / "correlation.json")["correlations"]) == {"checkpoints", "steps"}
    out = io.StringIO()
    for module in (commands, evaluating):
        monkeypatch.setattr(module, "console", Console(file=out, width=160))
    evaluating.run_correlation([tmp_path / name for name in "0123"])
    text = out.getvalue()
    assert "Changes of training losses from one step to the next (28 points)" in text
    assert "Test scores over runs (4 points)" in text
    assert "(4 points)" in text
