"""What `taskloom check` shows beside its table of tasks."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from taskloom.cli import commands
from taskloom.cli.check_lines import batch_table, label_hints, row_lines, shared_table
from taskloom.config.document import dump
from taskloom.data.shared_texts import SharedTexts
from taskloom.first_steps import FirstRows, FirstStep
from taskloom.inspection import RunFacts, TaskFacts, check


def shown(item: Any, width: int = 120) -> list[str]:
    """Print something as the terminal would."""
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(item)
    return [line.rstrip() for line in out.getvalue().splitlines()]


@pytest.fixture
def values(run_values: dict[str, Any], tmp_path: Path, tiny_data: Path) -> dict[str, Any]:
    """A run of two tasks in two steps, whose first is scored on a row that the second is trained on."""
    run_values["tasks"] = {name: run_values["tasks"][name] for name in ("intent", "urgency")}
    run_values["training"] |= {"per_device_train_batch_size": 4, "max_steps": 2, "eval_steps": 1}
    folder = tmp_path / "urgency"
    folder.mkdir()
    for split in ("train", "validation", "test"):
        text = (tiny_data / "urgency" / f"{split}.jsonl").read_text()
        if split == "train":
            held = json.loads((tiny_data / "intent" / "test.jsonl").read_text().splitlines()[0])["text"]
            text += json.dumps({"text": f" {held.upper()}", "label": 0.5}) + "\n"
        (folder / f"{split}.jsonl").write_text(text)
    run_values["tasks"]["urgency"]["data"] = str(folder)
    return run_values


@pytest.fixture
def said(values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a check of that run says."""
    out = io.StringIO()
    monkeypatch.setattr(commands, "console", Console(file=out, width=200, highlight=False))
    (tmp_path / "run.yaml").write_text(dump(values))
    commands.run_check(tmp_path / "run.yaml", [])
    return out.getvalue()


def test_a_check_shows_texts_that_another_task_is_trained_on(said: str, values: dict[str, Any]) -> None:
    lines = [line.split() for line in said.splitlines()]
    start = next(index for index, words in enumerate(lines) if words[:2] == ["warning:", "rows"])
    assert lines[start + 1] == ["scored", "trained", "validation", "test"]
    assert lines[start + 2] == ["intent", "urgency", "0", "1"]
    assert [each.rows for each in check(values).shared] == [{"test": 1}]


def test_a_check_shows_the_first_two_batches(said: str, values: dict[str, Any]) -> None:
    first = check(values).first
    assert [line.partition(":")[0] for line in said.splitlines() if line.startswith("batch ")] == ["batch 1", "batch 2"]
    for step in first:
        for line in (*shown(batch_table(step)), *row_lines(step)):
            assert line in said
        for each in step.tasks:
            assert " ".join(each.sequences[0][:8]) in said
    assert said.count("[CLS]") == said.count("[SEP]") == 4
    assert "  →  reference: " in said


def test_a_check_says_how_to_estimate_time_and_memory_and_does_where_asked(
    said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert said.endswith(
        "time and memory: add `--rehearse`, which runs the longest step, a usual one, an evaluation and a save, and "
        "keeps nothing\n"
    )
    out = io.StringIO()
    monkeypatch.setattr(commands, "console", Console(file=out, width=200, highlight=False))
    commands.run_check(tmp_path / "run.yaml", [], rehearsal=True)
    for words in ("longest step: ", "most memory: ", "the run: 2 steps, about "):
        assert words in out.getvalue()
    assert "--rehearse" not in out.getvalue()


# --- labels -------------------------------------------------------------------------------------------------------


def facts_of(kind: str, labels: dict[str, float]) -> RunFacts:
    fact = TaskFacts("mood", kind, {}, {}, [], labels, (1, 1, 1), 0.0, 1, 1.0, {})
    return RunFacts([fact], 1, 1, 0.0, 0.0, [], [])


@pytest.mark.parametrize(
    ("labels", "hint"),
    [
        ({"a": 0.5, "b": 0.5}, None),
        ({"a": 0.952, "b": 0.048}, None),
        ({"a": 0.955, "b": 0.045}, "the most frequent is 21 times the rarest"),
        ({"a": 0.1, "b": 0.885, "c": 0.009, "d": 0.006}, "2 of 4 labels are under 1% (`c`, `d`); "
         "the most frequent is 148 times the rarest"),
        ({**{str(number): 0.0121 for number in range(82)}, "x": 0.0078}, "1 of 83 labels are under 1% (`x`)"),
        ({}, None),
    ],
)  # fmt: skip
def test_labels_are_hinted_at_where_one_is_rare_or_one_is_far_more_frequent(
    labels: dict[str, float], hint: str | None
) -> None:
    for kind, weights in (("classification", "`class_weights: balanced`, or "), ("multiple_choice", "")):
        wanted = f"hint: labels of mood: {hint}; consider {weights}more rows of them"
        assert label_hints(facts_of(kind, labels)) == ([wanted] if hint else [])


# --- rendering ----------------------------------------------------------------------------------------------------


def test_what_stands_in_rows_is_neither_markup_nor_moves_the_cursor() -> None:
    sequences = [["[CLS]", "[bold]", "a\x1b[2J", "[/x]", "[SEP]"]]
    rows = FirstRows("task[red]", 1, 5, [(1, 5)], "a/[b]/train.jsonl:3", sequences, [("label", "x\ny")])
    step = FirstStep(0, [(1, 5)], [rows])
    assert row_lines(step) == ["  task[red]  [CLS] [bold] a�[2J [/x] [SEP]  →  label: x�y"]
    assert shown(batch_table(step))[1].split() == ["task[red]", "1", "5", "1", "x", "5", "train.jsonl:3"]


def test_long_rows_are_shown_by_their_beginning_and_their_end() -> None:
    tokens = ["[CLS]", *map(str, range(98)), "[SEP]"]
    step = FirstStep(0, [(2, 100)], [FirstRows("pair", 1, 200, [(2, 100)], "x:1", [tokens, tokens], [("n", "y" * 99)])])
    (line,) = row_lines(step)
    one = "[CLS] 0 1 2 3 4 5 6 7 8 9 10 … 84 more … 95 96 97 [SEP]"
    assert line == f"  pair  {one}  |  {one}  →  n: {'y' * 57}…"


def test_of_many_pairs_of_tasks_those_with_most_rows_are_shown() -> None:
    lines = shown(shared_table([SharedTexts("a", f"t{number}", {"test": 30 - number}) for number in range(12)]))
    assert len(lines) == 12
    assert lines[1].split() == ["a", "t0", "0", "30"]
    assert lines[-1].split() == ["…", "2", "more", "with", "fewer"]
