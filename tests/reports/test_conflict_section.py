"""What the page says of the tasks' gradients against each other, and what it leaves unsaid."""

from __future__ import annotations

import html
import math
import random
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from taskloom.gradients.conflict import half_cosines
from taskloom.record import Record
from taskloom.reports import report
from taskloom.reports.conflict import LIMIT_PAIRS, conflict_facts

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAMES = ["intent", "slots", "sentiment", "similarity"]
HARM = "Conflict is a diagnostic, and no proof of harm"


def conflict_of(seed: int, names: list[str] = NAMES, *, layers: bool = True, against: float = -0.6) -> dict[str, Any]:
    """Make a record in which the first two tasks oppose each other and all others agree."""
    chance = np.random.default_rng(seed)
    base = np.eye(len(names), 24)
    base[1] = against * base[0] + math.sqrt(1 - against**2) * base[1]
    base[2:] += 0.5 * (base[0] + base[1])
    halves = np.repeat(base, 2, axis=0) + 0.05 * chance.normal(size=(2 * len(names), 24))
    gradients = halves.reshape(len(names), 2, -1).mean(axis=1)
    record = {
        "tasks": names,
        "gramian": (gradients @ gradients.T).tolist(),
        "half_cosines": half_cosines(halves @ halves.T).tolist(),
    }
    if layers:
        parts = {"layer.0": gradients[:, :12], "layer.1": gradients[:, 12:]}
        record["layers"] = {name: (part @ part.T).tolist() for name, part in parts.items()}
    return record


def line(step: int, weights: dict[str, float] | None = None, **more: Any) -> dict[str, Any]:
    weights = weights or dict.fromkeys(NAMES, 1.0)
    tasks = {name: {"loss": 1.0, "weight": weight, "examples": 2, "tokens": 20} for name, weight in weights.items()}
    row = {"step": step, "loss": 1.0, "learning_rate": 5e-4, "grad_norm": 1.0, "seconds": 0.2}
    return {**row, "tokens_per_second": 2800, "tasks": tasks, **more}


def text_of(folder: Path) -> str:
    """Give the page's words on one line each, tags left out."""
    page = report([folder]).read_text(encoding="utf-8")
    body = re.sub(r"<style.*?</style>", "", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


def with_steps(folder: Path, *lines: dict[str, Any]) -> Path:
    record = Record.open(folder)
    for each in lines:
        record.append_step(each)
    return folder


def test_a_run_that_recorded_nothing_has_no_section(make_run: Callable[..., Path]) -> None:
    folder = make_run()
    text = text_of(folder)
    assert "Gradients of the tasks against each other" not in text
    assert HARM not in text
    assert conflict_facts([row for row in Record.open(folder).steps() if "tasks" in row], NAMES) is None


def test_each_pair_stands_in_the_table_with_what_noise_does(make_run: Callable[..., Path]) -> None:
    records = [conflict_of(seed) for seed in range(6)]
    folder = with_steps(make_run(), *[line(91 + place, conflict=each) for place, each in enumerate(records)])
    text = text_of(folder)
    assert "Gradients of the tasks against each other" in text
    assert "In 6 recorded steps, 1 of 6 pairs of tasks had gradients in conflict beyond what noise alone shows." in text
    assert HARM in text
    assert "Only a comparison with each task trained alone tells." in text
    for place, one in enumerate(NAMES):
        for other in NAMES[place + 1 :]:
            assert f"{one} and {other}" in text
    gramians = [np.array(each["gramian"]) for each in records]
    cosine = np.mean([g[0, 1] / math.sqrt(g[0, 0] * g[1, 1]) for g in gramians])
    half = np.mean([each["half_cosines"][0][1] for each in records])
    row = re.search(r"intent and slots (.*?) (conflict|none shown)", text)
    assert row is not None
    assert row.group(1).startswith(f"{cosine:.3f} ")
    assert f" {half:.3f} " in row.group(1)
    assert " 100 % " in row.group(1)
    assert row.group(2) == "conflict"
    assert len(re.findall(r"none shown", text)) == 5


def test_pairs_are_sorted_by_cosine_and_layers_are_told(make_run: Callable[..., Path]) -> None:
    records = [conflict_of(seed) for seed in range(3)]
    facts = conflict_facts([line(place, conflict=each) for place, each in enumerate(records)], NAMES)
    assert facts is not None
    means = [pair.cosine.mean for pair in facts.pairs]
    assert means == sorted(means)
    assert facts.pairs[0].tasks == ("intent", "slots")
    assert facts.layers == ["layer.0", "layer.1"]
    first = [np.array(each["layers"]["layer.0"]) for each in records]
    wanted = np.mean([g[0, 1] / math.sqrt(g[0, 0] * g[1, 1]) for g in first])
    assert facts.by_layer[0][0] == pytest.approx(wanted)
    folder = with_steps(make_run(), *[line(91 + place, conflict=each) for place, each in enumerate(records)])
    assert "Mean cosine by layer" in text_of(folder)
    records = [conflict_of(seed, layers=False) for seed in range(3)]
    folder = with_steps(make_run("sketched"), *[line(91 + place, conflict=each) for place, each in enumerate(records)])
    assert "Mean cosine by layer" not in text_of(folder)


def test_one_recorded_step_shows_no_width_and_no_conflict(make_run: Callable[..., Path]) -> None:
    text = text_of(with_steps(make_run(), line(91, conflict=conflict_of(0))))
    assert "In 1 recorded step" in text
    assert "0 of 6 pairs of tasks had gradients in conflict" in text
    section = text[text.index("Gradients of the tasks") : text.index(HARM)]
    assert "inf" not in section.replace("information", "")
    assert "nan" not in section.lower()


def test_a_task_with_one_row_has_no_halves_to_tell_of(make_run: Callable[..., Path]) -> None:
    """JSON has no NaN: the record says null, and the page nothing of noise."""
    records = [conflict_of(seed) for seed in range(4)]
    for each in records:
        each["half_cosines"] = [[math.nan] * 4 for _ in NAMES]
    folder = with_steps(make_run(), *[line(91 + place, conflict=each) for place, each in enumerate(records)])
    assert "NaN" not in Record.open(folder).steps_jsonl.read_text(encoding="utf-8")
    text = text_of(folder)
    assert "0 of 6 pairs of tasks had gradients in conflict" in text
    row = re.search(r"intent and slots (.*?) none shown", text)
    assert row is not None
    assert row.group(1).endswith("— — — —")


def test_of_many_tasks_the_pairs_with_the_lowest_cosines_are_shown(make_run: Callable[..., Path]) -> None:
    names = [f"task{place}" for place in range(12)]
    steps = [line(place, dict.fromkeys(names, 1.0), conflict=conflict_of(place, names)) for place in range(2)]
    facts = conflict_facts(steps, names)
    assert facts is not None
    assert (len(facts.pairs), facts.left_out) == (LIMIT_PAIRS, 12 * 11 // 2 - LIMIT_PAIRS)
    assert facts.sentence.startswith("In 2 recorded steps, ")
    assert f" of {12 * 11 // 2} pairs" in facts.sentence


def test_weights_that_moved_are_told_without_steps_that_were_skipped(make_run: Callable[..., Path]) -> None:
    chance = random.Random(0)
    rows = []
    for place in range(5):
        weights = {name: round(chance.uniform(0.2, 0.9), 3) for name in NAMES[:3]} | {"similarity": 1.0}
        rows.append(line(91 + place, weights))
    skipped = line(96, dict.fromkeys(NAMES, 5.0), skipped=["slots"])
    facts = conflict_facts([*rows, skipped], NAMES)
    assert facts is not None
    assert [each.task for each in facts.weights] == NAMES[:3]
    for each in facts.weights:
        held = [row["tasks"][each.task]["weight"] for row in rows]
        assert (each.first, each.last, each.low, each.high) == (held[0], held[-1], min(held), max(held))
    assert facts.skipped == [(96, ["slots"])]
    text = text_of(with_steps(make_run(), *rows, skipped, line(97, skipped=[])))
    assert "What each task's gradient counted" in text
    assert "Step 96 was skipped: the gradient of slots was not finite." in text
    assert "Step 97 was skipped: the gradient of the tasks together was not finite." in text
    assert HARM not in text, "nothing was recorded of conflict"
