"""A run that is calibrated: what is written, what `predict` tells, and what stays as it was."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import save_file
from scipy.special import softmax
from typer.testing import CliRunner

from taskloom.calibration.run import calibrate, choices_of, forget, read_calibration
from taskloom.cli import app, commands
from taskloom.errors import DataError, ModelError
from taskloom.model import load_model
from taskloom.record import Record, write_json
from taskloom.run import Run, reopened, train

TOLD = ("intent", "slots", "topics", "reply")


@pytest.fixture(scope="module")
def calibrated(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tiny run whose heads are made too sure, calibrated."""
    folder = tmp_path_factory.mktemp("calibrated") / "run"
    shutil.copytree(tiny_run, folder)
    calibrate(folder, resamples=50)
    return folder


def rows_of(folder: Path, name: str) -> list[dict[str, object]]:
    session, _ = reopened(folder)
    return list(session.prepared.corpora[name].splits["test"])


def test_the_file_has_every_task_that_tells_probabilities(calibrated: Path) -> None:
    entries = read_calibration(Record(calibrated))
    assert tuple(entries) == TOLD
    for entry in entries.values():
        assert entry["measured_on"] == "test"
        for word in ("before", "after"):
            assert 0 <= entry["ece"][word]["low"] <= entry["ece"][word]["high"] <= 1
            assert sum(bar["n"] for bar in entry["reliability"][word]) == entry["choices"]
    held = json.loads((calibrated / "model" / "calibration.json").read_text())
    assert held["temperatures"] == {name: entries[name]["temperature"] for name in TOLD}


@pytest.mark.parametrize("name", TOLD)
def test_answers_stay_and_probabilities_are_those_of_the_temperature(calibrated: Path, name: str) -> None:
    run, rows = Run(calibrated), rows_of(calibrated, name)
    told, raw = run.predict(name, rows), run.predict(name, rows, calibrated=False)
    assert [each.value for each in told] == [each.value for each in raw]
    assert [each.detail for each in told] != [each.detail for each in raw]
    session, _ = reopened(calibrated)
    choices = choices_of(session, name, "test")
    assert choices is not None
    temperature = read_calibration(Record(calibrated))[name]["temperature"]
    for answers, divisor in ((told, temperature), (raw, 1.0)):
        chances = softmax(choices.logits / divisor, axis=1)
        if name == "topics":
            expected = chances[:, 1]
        elif name == "slots":
            expected = chances[np.arange(len(chances)), choices.given]
        else:
            expected = chances[chances > 0]
        values = [each.detail["probabilities"] for each in answers]
        flat = [p for each in values for p in (each.values() if isinstance(each, dict) else each)]
        assert flat == pytest.approx(expected.tolist(), abs=2e-6)


def test_the_error_of_a_task_is_that_of_its_told_probabilities(calibrated: Path) -> None:
    run, rows = Run(calibrated), rows_of(calibrated, "intent")
    answers = run.predict("intent", rows)
    sure = np.array([max(each.detail["probabilities"].values()) for each in answers])
    right = np.array([each.value == row["label"] for each, row in zip(answers, rows, strict=True)])
    bars = read_calibration(Record(calibrated))["intent"]["reliability"]["after"]
    assert sum(bar["n"] * bar["confidence"] for bar in bars) / len(rows) == pytest.approx(sure.mean(), abs=1e-5)
    assert sum(bar["n"] * bar["right"] for bar in bars) == pytest.approx(right.sum())


def test_heads_that_are_made_too_sure_get_that_factor_back(tiny_run: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_run, tmp_path / "run")
    before = {each.task: each.temperature for each in calibrate(tmp_path / "run", resamples=20)}
    model, _, _ = load_model(tmp_path / "run" / "model")
    with torch.no_grad():
        for name in TOLD:
            for parameter in model.heads[name].parameters():
                parameter.mul_(2.0)
    save_file(model.heads.state_dict(), str(tmp_path / "run" / "model" / "heads.safetensors"))
    after = {each.task: each.temperature for each in calibrate(tmp_path / "run", resamples=20)}
    held = [name for name in TOLD if 0.1 < before[name] < 9]  # the others ran to a limit: few steps taught them nothing
    assert held
    for name in held:
        assert after[name] == pytest.approx(2 * before[name], rel=1e-3)


def test_taking_it_back_brings_the_old_probabilities(calibrated: Path, tmp_path: Path) -> None:
    shutil.copytree(calibrated, tmp_path / "run")
    rows = [{"text": "where is my parcel"}]
    raw = Run(tmp_path / "run").predict("intent", rows, calibrated=False)
    assert forget(tmp_path / "run")
    assert Run(tmp_path / "run").predict("intent", rows) == raw
    assert not forget(tmp_path / "run")
    assert not read_calibration(Record(tmp_path / "run"))


def test_the_commands_show_it_and_predict_tells_either(calibrated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(commands, "console", Console(file=stream, width=160, highlight=False))
    assert CliRunner().invoke(app, ["calibrate", str(calibrated)]).exit_code == 0
    lines = [" ".join(line.split()) for line in stream.getvalue().splitlines()]
    assert lines[0].startswith("task temperature error before error after by chance answers of")
    assert {line.split()[0] for line in lines[1:5]} == set(TOLD)
    told, raw = (
        CliRunner().invoke(app, ["predict", str(calibrated), "intent", "hello there", *more]).stdout
        for more in ([], ["--raw"])
    )
    assert json.loads(told)["prediction"] == json.loads(raw)["prediction"]
    assert json.loads(told)["probabilities"] != json.loads(raw)["probabilities"]


def test_a_calibration_of_another_version_is_refused(calibrated: Path, tmp_path: Path) -> None:
    shutil.copytree(calibrated, tmp_path / "run")
    path = tmp_path / "run" / "model" / "calibration.json"
    write_json(path, {"version": 7, "temperatures": {}})
    with pytest.raises(ModelError) as caught:
        Run(tmp_path / "run").loaded()
    assert str(caught.value) == (
        f"`{path}` should be of version 1. Found version 7. Call `taskloom calibrate` again with this Taskloom."
    )


def test_a_run_without_probabilities_is_refused(tiny_encoder: Path, tiny_data: Path, tmp_path: Path) -> None:
    values = {
        "model": {"name_or_path": str(tiny_encoder)},
        "tasks": {"urgency": {"type": "regression", "data": str(tiny_data / "urgency"), "max_length": 64}},
        "training": {"max_steps": 1, "per_device_train_batch_size": 4},
        "evaluation": {"resamples": 100},
    }
    train(values, tmp_path / "run")
    with pytest.raises(DataError) as caught:
        calibrate(tmp_path / "run")
    assert str(caught.value) == (
        f"`{tmp_path / 'run'}` should have a task that tells probabilities, with validation rows. Found none. "
        "Calibrate a run with a task of classification, multi_label, multiple_choice or token_classification."
    )
