"""A run on a GPU, in half precision: it trains, balances, is taken up where it broke off, and scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from resume_tools import lines_of, short_run
from taskloom.run import train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU with CUDA")

STEPS = 6


class Breaks(TrainerCallback):
    """Ends a run with an error after three steps."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == STEPS // 2:
            raise RuntimeError("broken off")


@pytest.mark.parametrize("method", ["equal", "upgrad"])
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_run_that_broke_off_goes_on_as_one_that_did_not(
    precision: str, method: str, tiny_encoder: Path, tiny_data: Path, tmp_path: Path
) -> None:
    values = short_run(tiny_encoder, tiny_data, STEPS)
    values["training"] |= {precision: True, "learning_rate": 1e-3}
    values["balance"] = {"method": method}
    train(values, tmp_path / "whole")
    with pytest.raises(RuntimeError, match="broken off"):
        train(values, tmp_path / "broken", callbacks=[Breaks()])
    train(values, tmp_path / "broken")
    whole, resumed = lines_of(tmp_path / "whole"), lines_of(tmp_path / "broken")
    assert [line["step"] for line in resumed] == [line["step"] for line in whole]
    for one, other in zip(whole, resumed, strict=True):
        if "tasks" in one:
            found = {task: held["loss"] for task, held in other["tasks"].items()}
            wanted = {task: held["loss"] for task, held in one["tasks"].items()}
            assert found == pytest.approx(wanted, rel=1e-2)  # a GPU adds up in any order
    assert (tmp_path / "broken" / "scores.jsonl").is_file()
