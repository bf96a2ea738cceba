"""Two processes that train together give what one gives that accumulates their micro-batches."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from taskloom.record import Record
from taskloom.run import train
from two_processes import said_by, skip_where_processes_cannot_meet

SHORT = ("intent", "slots", "urgency")


@pytest.fixture
def values(run_values: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """A run without dropout, whose random numbers processes would not share."""
    from transformers import AutoModel, AutoTokenizer

    name = run_values["model"]["name_or_path"]
    backbone, folder = AutoModel.from_pretrained(name), tmp_path / "encoder"
    backbone.config.hidden_dropout_prob = backbone.config.attention_probs_dropout_prob = 0.0
    backbone.save_pretrained(folder)
    AutoTokenizer.from_pretrained(name).save_pretrained(folder)
    run_values["model"]["name_or_path"] = str(folder)
    run_values["tasks"] = {task: {**run_values["tasks"][task], "dropout": 0.0} for task in SHORT}
    run_values["training"] |= {"per_device_train_batch_size": 4, "use_cpu": True}
    return run_values


def launched(values: dict[str, Any], folder: Path, out: Path) -> str:
    """Train with two processes as a user would; gives what they print."""
    run = folder / "run.json"
    run.write_text(json.dumps(values), encoding="utf-8")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1"]
    command = [*launcher, *meeting, "-m", "taskloom", "train", str(run), "--out", str(out)]
    return said_by(command, OMP_NUM_THREADS="1")


def weights(out: Path) -> dict[str, torch.Tensor]:
    held = {}
    for name in ("model/adapter/adapter_model.safetensors", "model/backbone/model.safetensors"):
        if (out / name).is_file():
            held |= load_file(str(out / name))
    return held


@pytest.mark.parametrize(
    ("method", "adapted", "statistic"),
    [("upgrad", True, "jacobian"), ("mgda", False, "sketch")],
)
def test_two_processes_train_as_one_that_accumulates(
    values: dict[str, Any], tmp_path: Path, method: str, adapted: bool, statistic: str
) -> None:
    skip_where_processes_cannot_meet()
    values["balance"] = {"method": method, "statistic": statistic, "record_steps": 2}
    if not adapted:
        values["model"]["adapter"] = None
    said = launched(values, tmp_path, tmp_path / "two")
    assert said.count("Report:") == 1, "the first process speaks for both"
    values["training"]["gradient_accumulation_steps"] = 2
    train(values, tmp_path / "one")
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert one.keys() == two.keys()
    assert one
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-5)
    for mine, other in zip(Record(tmp_path / "two").steps(), Record(tmp_path / "one").steps(), strict=True):
        assert mine.get("loss", 0.0) == pytest.approx(other.get("loss", 0.0), rel=1e-4)
        assert ("conflict" in mine) == ("conflict" in other)
        for task, held in other.get("tasks", {}).items():
            assert mine["tasks"][task]["examples"] == held["examples"]
            assert mine["tasks"][task]["weight"] == pytest.approx(held["weight"], rel=1e-3)
    again = launched(
        {**values, "training": {**values["training"], "gradient_accumulation_steps": 1}}, tmp_path, tmp_path / "two"
    )
    assert again.count("is finished already") == 1
