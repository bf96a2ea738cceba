"""What the commands show: scores, proof, relatedness, forgetting, and faults in one sentence."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from growth_tools import lora, run_of, topics, twin
from rich.console import Console

from taskloom.cli import commands
from taskloom.cli.growing import run_add_task, run_merge
from taskloom.config.document import dump
from taskloom.errors import ConfigError
from taskloom.run import train

pytest_plugins = ("growth_fixtures",)
pytestmark = pytest.mark.usefixtures("_plain_page")


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """Give what the commands have written so far."""
    stream = io.StringIO()
    monkeypatch.setattr(commands, "console", Console(file=stream, width=160, highlight=False))
    return stream.getvalue


def test_adding_a_task_shows_how_tasks_are_related_and_that_nothing_changed(
    small_run: Path, tiny_data: Path, tmp_path: Path, said: Callable[[], str]
) -> None:
    (tmp_path / "task.yaml").write_text(dump(twin(tiny_data)))
    run_add_task(small_run, tmp_path / "task.yaml", tmp_path / "b", "auto", ["training.max_steps=2"])
    lines = [" ".join(line.split()) for line in said().splitlines()]
    assert "task cosine 95 % interval parts that fit begins from" in lines
    assert any(line.startswith(("intent 1.0", "intent 0.")) for line in lines)
    assert "task rows from sha256 before after same" in lines
    proofs = [line for line in lines if line.endswith(" yes") and "validation rows" in line]
    assert [line.split()[0] for line in proofs] == ["intent", "urgency"]
    assert f"The run with all tasks: {tmp_path / 'b'}" in lines


def test_training_on_shows_what_was_forgotten(
    small_run: Path, tiny_data: Path, tmp_path: Path, said: Callable[[], str]
) -> None:
    (tmp_path / "task.yaml").write_text(dump(topics(tiny_data, gentle="replay")))
    run_add_task(small_run, tmp_path / "task.yaml", tmp_path / "b", None, [])
    lines = [" ".join(line.split()) for line in said().splitlines()]
    assert "What the other tasks lost or won:" in lines
    assert "task metric before after difference 95 % interval n" in lines
    assert not any("bit by bit" in line for line in lines)


def test_merging_says_how_to_go_on(
    small_run: Path, tiny_encoder: Path, tiny_data: Path, tmp_path: Path, said: Callable[[], str]
) -> None:
    train({**run_of(tiny_encoder, tiny_data, adapter=lora()), **topics(tiny_data)}, tmp_path / "other")
    run_merge([small_run, tmp_path / "other"], tmp_path / "m", "linear", "0.5,0.5", 0.5, 0)
    assert said() == f"wrote {tmp_path / 'm'}; go on with `taskloom evaluate {tmp_path / 'm'}`\n"


def test_weights_that_are_no_numbers_are_refused(small_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        run_merge([small_run, small_run], tmp_path / "m", "linear", "half", 0.5, 0)
    wanted = "`--weights` should be numbers with commas between them, such as `0.5,0.5`. Found `half`."
    assert str(error.value) == wanted
