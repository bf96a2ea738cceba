"""Each composite against its formula, in run files, and as a function of the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from taskloom.composite import build_composite
from taskloom.config import load_config, read_config
from taskloom.config.document import dump
from taskloom.errors import ConfigError
from taskloom.run import train

VALUES = np.array([[0.9, 0.2], [0.4, 0.8]])
WEIGHTS = np.array([3.0, 1.0])


def combined(name: str, **options: Any) -> list[float]:
    found: list[float] = build_composite({"name": name, **options}).combine(VALUES, WEIGHTS, ["a", "b"]).tolist()
    return found


def test_each_is_its_formula() -> None:
    assert combined("weighted_mean") == pytest.approx([(2.7 + 0.4) / 4, (0.6 + 0.8) / 4])
    assert combined("geometric_mean") == pytest.approx(stats.gmean(VALUES, weights=WEIGHTS[:, None], axis=0).tolist())
    assert combined("worst_task") == [0.4, 0.2]
    found = combined("normalised_regret", best={"a": 0.9}, floor={"a": 0.2, "b": 0.3})
    assert found == pytest.approx([1 - (0 + 1 * 0.6 / 0.7) / 4, 1 - (3 * 1.0 + 1 * 0.2 / 0.7) / 4])


def test_a_run_is_scored_and_its_best_checkpoint_chosen_by_the_composite_it_names(
    run_values: dict[str, Any], tmp_path: Path
) -> None:
    run_values["tasks"] = {name: run_values["tasks"][name] for name in ("intent", "urgency")}
    run_values["evaluation"]["composite"] = "worst_task"
    run = train(run_values, tmp_path / "run")
    own: dict[str, float] = {}
    for score in run.scores:
        own.setdefault(score.task, score.value)
    assert own["composite"] == pytest.approx(max(0.0, min(own["intent"], own["urgency"])))
    assert read_config(run.record.run_yaml).evaluation.composite == {"name": "worst_task"}


def test_a_function_of_the_users_own_makes_one_number(run_values: dict[str, Any], tmp_path: Path) -> None:
    code = 'def half(scores):\n    """Count intent alone."""\n    return 0.5 * scores["intent"]\n'
    (tmp_path / "mine.py").write_text(code, encoding="utf-8")
    run_values["tasks"] = {name: run_values["tasks"][name] for name in ("intent", "topics")}
    run_values["evaluation"]["composite"] = "mine.py:half"
    file = tmp_path / "run.yaml"
    file.write_text(dump(run_values), encoding="utf-8")
    run = train(file, tmp_path / "run")
    own: dict[str, float] = {}
    for score in run.scores:
        own.setdefault(score.task, score.value)
    assert own["composite"] == pytest.approx(0.5 * own["intent"])


def test_what_is_wrong_with_a_composite_is_told(run_values: dict[str, Any]) -> None:
    def said(composite: Any) -> list[str]:
        run_values["evaluation"]["composite"] = composite
        with pytest.raises(ConfigError) as caught:
            load_config(run_values)
        return [str(fault).removeprefix("config: ") for fault in caught.value.faults]

    assert said("worst") == [
        "`evaluation.composite` should be a composite score that Taskloom has. Found `worst`. "
        "Did you mean `worst_task`?"
    ]
    assert said({"name": "normalised_regret", "best": {"intend": 0.9}, "flor": {}}) == [
        "`evaluation.composite.flor` should be a key that Taskloom knows. Found `flor`. Did you mean `floor`?"
    ]
    assert said({"name": "normalised_regret", "best": {"intend": 0.9}}) == [
        "`evaluation.composite.best.intend` should be one of the run's tasks. Found `intend`. Did you mean `intent`?"
    ]
