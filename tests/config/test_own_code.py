"""Methods in files of the user's own: found beside the run file, kept by content, and run for nobody else's folder."""

from __future__ import annotations

import os
import re
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from typer.testing import CliRunner

import taskloom
from taskloom.cli import app
from taskloom.config import load_config, read_config
from taskloom.config.document import dump
from taskloom.errors import ConfigError, RunFolderError
from taskloom.evaluation import build_metric
from taskloom.metrics import METRICS
from taskloom.record import Record, read_lines
from taskloom.reports.facts import read_run
from taskloom.room import TRUST, kept_path, shown

if TYPE_CHECKING:
    from pathlib import Path

METRICS_FILE = '''"""Metrics of our own."""

from pathlib import Path

Path(__file__).with_name("ran").touch()


def near(predictions, references):
    """Share of answers that are less than 0.2 away."""
    return sum(abs(a - b) < 0.2 for a, b in zip(predictions, references, strict=True)) / len(references)


def worst(predictions, references):
    """The largest error."""
    return max(abs(a - b) for a, b in zip(predictions, references, strict=True))


worst.greater_is_better = False
worst.accepts = {"number"}


def three(one, two, three):
    """Take too much."""


def wordy(predictions, references):
    """Give no number."""
    return "good"


LIMIT = 3
'''

TASK_FILE = '''"""A task of our own."""

from taskloom.tasks.classification import Classification


class Mine(Classification):
    """Choose one label, my way."""
'''


@pytest.fixture
def own(run_values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run file of two tasks with metrics and a task type in files beside it."""
    monkeypatch.setenv("TASKLOOM_HOME", str(tmp_path / "home"))
    monkeypatch.delenv(TRUST, raising=False)
    folder = tmp_path / "project"
    (folder / "code").mkdir(parents=True)
    (folder / "my_metrics.py").write_text(METRICS_FILE, encoding="utf-8")
    (folder / "code" / "mine.py").write_text(TASK_FILE, encoding="utf-8")
    tasks = {name: run_values["tasks"][name] for name in ("urgency", "intent")}
    tasks["urgency"]["metrics"] = ["my_metrics.py:near", "my_metrics.py:worst", "mse"]
    tasks["intent"]["type"] = "code/mine.py:Mine"
    run_values |= {"tasks": tasks}
    run_values["training"] |= {"max_steps": 2, "eval_steps": 1, "save_steps": 1, "report_to": "none"}
    run_values["training"]["metric_for_best_model"] = "urgency/my_metrics.py:near"
    (folder / "run.yaml").write_text(dump(run_values), encoding="utf-8")
    return folder / "run.yaml"


def told(path: Path, **changes: Any) -> str:
    """Read a run file with changes to a task's metrics; gives its faults."""
    with pytest.raises(ConfigError) as error:
        read_config(path, [f"{key}={value}" for key, value in changes.items()])
    return str(error.value)


def test_a_run_is_scored_by_functions_in_a_file_and_keeps_the_file(own: Path, tmp_path: Path) -> None:
    run = taskloom.train(own, tmp_path / "run")
    scores = {shown(score.metric): score for score in run.scores if score.task == "urgency"}
    rows = list(read_lines(run.record.predictions("urgency", "test")))
    errors = np.abs([row["prediction"] - row["reference"] for row in rows])
    assert scores["my_metrics.py:near"].value == pytest.approx(np.mean(errors < 0.2))
    assert scores["my_metrics.py:worst"].value == pytest.approx(errors.max())
    assert scores["my_metrics.py:near"].low <= scores["my_metrics.py:near"].value <= scores["my_metrics.py:near"].high
    assert [scores[name].greater_is_better for name in scores] == [True, False, None]
    digest = kept_path(scores["my_metrics.py:near"].metric).parent.name  # type: ignore[union-attr]
    assert (run.folder / "code" / digest / "my_metrics.py").read_text(encoding="utf-8") == METRICS_FILE
    code = next(read_lines(run.record.fingerprint_jsonl))["code"]
    metrics = {f"tasks.urgency.metrics.my_metrics.py:{name}" for name in ("near", "worst")}
    assert set(code) == {*metrics, "tasks.intent.type"}

    before = run.scores
    shutil.rmtree(own.parent)  # the folder has all that it takes
    assert taskloom.evaluate(run.folder) == before
    (answer,) = taskloom.Run(run.folder).predict("intent", [{"text": "where is my order"}])
    assert isinstance(answer.value, str)


def test_a_changed_file_is_another_run(own: Path, tmp_path: Path) -> None:
    taskloom.train(own, tmp_path / "run")
    assert taskloom.train(own, tmp_path / "run").record.state.status == "finished"
    (own.parent / "my_metrics.py").write_text(METRICS_FILE.replace("0.2", "0.3"), encoding="utf-8")
    with pytest.raises(RunFolderError, match=r"should hold this run, with `tasks\.urgency\.metrics: .*my_metrics\.py@"):
        taskloom.train(own, tmp_path / "run")


def test_the_code_of_a_folder_from_elsewhere_is_run_only_where_the_user_says_so(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = taskloom.train(own, tmp_path / "run")
    wanted = [score for score in run.scores if score.task == "urgency"]
    monkeypatch.setenv("TASKLOOM_HOME", str(tmp_path / "another-user"))
    near, worst = (score.metric for score in wanted[:2])
    copy = run.folder / "code" / near.partition("@")[2].partition(":")[0] / "my_metrics.py"
    mine = run.folder / "code" / read_config_type(run.record).partition("@")[2].partition(":")[0] / "mine.py"
    with pytest.raises(ConfigError) as error:
        taskloom.evaluate(run.folder)
    requirement = "should name code that was run here before"
    assert str(error.value) == (
        f"`{read_config_type(run.record)}` {requirement}. Found `mine.py:Mine`, which came with the run folder. "
        f"Read `{mine}`, and if you trust it, call again as `taskloom --trust-code …`."
    )
    result = CliRunner().invoke(app, ["check", str(run.record.run_yaml)])
    line = f"Found `my_metrics.py:near`, which came with the run folder. Read `{copy}`, and if you trust it,"
    assert f"`tasks.urgency.metrics` {requirement}. {line}" in str(result.exception)
    facts = read_run(run.folder, "run")
    assert [line.greater for line in facts.scores["urgency"]] == [True, False, False]
    assert not list((tmp_path / "another-user").rglob("*.py")), "nothing was kept, and so nothing was run"

    copy.write_text(METRICS_FILE.replace("0.2", "9"), encoding="utf-8")
    monkeypatch.setenv(TRUST, "1")
    assert f"Found another file in `{copy}`" in told(run.record.run_yaml)
    copy.write_text(METRICS_FILE, encoding="utf-8")
    assert [score for score in taskloom.evaluate(run.folder) if score.task == "urgency"] == wanted
    assert METRICS.load(worst) is type(build_metric(worst))


def test_a_run_that_takes_up_another_s_weights_runs_none_of_its_code(
    own: Path, run_values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = taskloom.train(own, tmp_path / "run")
    monkeypatch.setenv("TASKLOOM_HOME", str(tmp_path / "another-user"))
    run_values["tasks"]["intent"]["type"] = "classification"
    run_values["tasks"]["urgency"]["metrics"] = ["mse"]
    run_values["model"]["start_from"] = str(run.folder)
    run_values["training"]["metric_for_best_model"] = "composite"
    with pytest.raises(ConfigError, match=r"Found `mine\.py:Mine`, which came with the run folder\. Read "):
        taskloom.train(run_values, tmp_path / "next")


def read_config_type(record: Record) -> str:
    return str(record.data()["intent"]["type"])


def test_the_command_line_has_a_word_for_trust(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(TRUST, "")
    result = CliRunner().invoke(app, ["--trust-code", "watch", str(tmp_path / "none"), "--once"])
    assert isinstance(result.exception, RunFolderError)
    assert os.environ[TRUST] == "1"


def test_a_folder_cannot_name_a_file_by_its_path(own: Path, tmp_path: Path) -> None:
    run = taskloom.train(own, tmp_path / "run")
    planted = tmp_path / "planted.py"
    planted.write_text(METRICS_FILE, encoding="utf-8")
    text = run.record.run_yaml.read_text(encoding="utf-8")
    name = next(score.metric for score in run.scores if score.metric.endswith(":near"))
    run.record.run_yaml.write_text(text.replace(name, f"{planted}:near"), encoding="utf-8")
    found = told(run.record.run_yaml)
    requirement = "should name a file by its content, as run folders do"
    assert f"`tasks.urgency.metrics` {requirement}. Found `{planted}:near`." in found
    with pytest.raises(ConfigError, match="should be a metric that can be imported"):
        METRICS.load(f"{planted}:near")
    assert not planted.with_name("ran").exists()


@pytest.mark.parametrize(
    ("metric", "wanted"),
    [
        (
            "my_metric.py:near",
            "should name a file that can be read, beside the run file. Found `my_metric.py:near` (no such file). "
            "Did you mean `my_metrics.py`?",
        ),
        (
            "my_metrics.py:nearly",
            "should be a metric that can be imported as `file.py:Name`. Found `my_metrics.py:nearly` (module "
            "'taskloom_code_DIGEST_my_metrics' has no attribute 'nearly'). Look into the file.",
        ),
        (
            "my_metrics.py:three",
            "should take predictions and references, and nothing else that has no default. "
            "Found `three(one, two, three)`.",
        ),
        (
            "my_metrics.py:LIMIT",
            "should be a metric, a class made from `taskloom.metrics.Metric`. Found `my_metrics.py:LIMIT`.",
        ),
        (
            "broken.py:near",
            "should be a metric that can be imported as `file.py:Name`. Found `broken.py:near` (division by zero). "
            "Look into the file.",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_said_before_anything_is_trained(own: Path, metric: str, wanted: str) -> None:
    (own.parent / "broken.py").write_text("near = 1 / 0\n", encoding="utf-8")
    found = told(own, **{"tasks.urgency.metrics": f"[{metric}]"})
    found = re.sub(r"code_[0-9a-f]{12}_", "code_DIGEST_", found)
    assert found == f"--set: `tasks.urgency.metrics` {wanted}"


def test_a_metric_says_which_predictions_it_reads(own: Path) -> None:
    found = told(own, **{"tasks.intent.metrics": "[my_metrics.py:worst]"})
    assert "should name metrics that fit tasks of type `mine.py@" in found
    assert read_config(own, ["tasks.intent.metrics=[my_metrics.py:near]"]).tasks["intent"].metrics[0].endswith(":near")


def test_a_function_that_gives_no_number_is_refused(own: Path) -> None:
    config = read_config(own, ["tasks.urgency.metrics=[my_metrics.py:wordy]"])
    with pytest.raises(ConfigError) as error:
        build_metric(config.tasks["urgency"].metrics[0]).score([1.0], [1.0])
    found = "Found `'good'` of 1 examples. Return a float."
    assert str(error.value) == f"`my_metrics.py:wordy` should give a number. {found}"


def test_a_function_is_a_metric_with_all_that_metrics_have(own: Path) -> None:
    near, worst = (build_metric(name) for name in read_config(own).tasks["urgency"].metrics[:2])
    assert (near.greater_is_better, near.perfect) == (True, 1.0)
    assert (worst.greater_is_better, worst.perfect) == (False, 0.0)
    counts = np.array([[1.0, 1.0, 1.0], [0.0, 3.0, 0.0]])
    predictions, references = [0.0, 0.5, 2.0], [0.1, 0.5, 1.0]
    assert near.resample(predictions, references, counts) == pytest.approx([2 / 3, 1.0])
    assert worst.resample(predictions, references, counts) == pytest.approx([1.0, 0.0])
    assert worst.normalise(np.array([0.0, 1.0, 3.0])) == pytest.approx([1.0, 0.5, 0.25])
    assert near.normalise(np.array([-1.0, 0.5, 2.0])) == pytest.approx([0.0, 0.5, 1.0])
    assert type(near) is METRICS.load(near.name)  # type: ignore[attr-defined]


def test_paths_of_values_given_in_python_begin_where_the_program_runs(
    own: Path, run_values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(own.parent)
    config = load_config(run_values)
    assert [shown(name) for name in config.tasks["urgency"].metrics] == [
        "my_metrics.py:near",
        "my_metrics.py:worst",
        "mse",
    ]
    again = load_config(config.resolved())
    assert again.as_yaml() == config.as_yaml()
    assert config.training["metric_for_best_model"] == f"urgency/{config.tasks['urgency'].metrics[0]}"
