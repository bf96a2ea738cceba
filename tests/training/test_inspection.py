from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from taskloom.config import load_config
from taskloom.inspection import SAMPLED_STEPS, check, preview, rehearse
from taskloom.preparation import prepare
from taskloom.session import Session

pytest_plugins = ("training_fixtures",)


@pytest.fixture
def planned(run_values: dict[str, Any], tmp_path: Path) -> Session:
    config = load_config(run_values)
    return Session(config, prepare(config), tmp_path)


def test_a_check_says_what_the_run_will_draw(run_values: dict[str, Any], planned: Session) -> None:
    facts = check(run_values)
    drawn: Counter[str] = Counter()
    for index in range(len(planned.steps)):
        drawn.update({name: len(items) for name, items in planned.steps.plan.micro(index).items.items()})
    assert {task.name: task.draws for task in facts.tasks} == drawn
    assert (facts.updates, facts.rows) == (4, 14)
    for task in facts.tasks:
        items = planned.prepared.items[task.name]["train"]
        assert task.epochs == pytest.approx(drawn[task.name] / len(items))
        longest = [max(map(len, items[index]["input_ids"])) for index in range(len(items))]
        assert task.tokens == (int(np.percentile(longest, 50)), int(np.percentile(longest, 95)), max(longest))
        assert task.rows == {"train": 40, "validation": 12, "test": 16}


def test_a_check_gives_the_share_of_each_label(run_values: dict[str, Any], tiny_data: Path) -> None:
    facts = {task.name: task for task in check(run_values).tasks}
    rows = [json.loads(line) for line in (tiny_data / "intent" / "train.jsonl").read_text().splitlines()]
    counts = Counter(row["label"] for row in rows)
    assert facts["intent"].labels == pytest.approx({label: count / 40 for label, count in counts.items()})
    assert facts["urgency"].labels == {}


def test_a_check_measures_padding_as_the_steps_hold_it(run_values: dict[str, Any], planned: Session) -> None:
    facts = check(run_values)
    steps = [planned.steps[index] for index in range(len(planned.steps))]
    assert len(steps) <= SAMPLED_STEPS
    masks = [[chunk.inputs["attention_mask"] for chunk in step.chunks] for step in steps]
    useful = sum(int(mask.sum()) for group in masks for mask in group)
    cut = sum(mask.numel() for group in masks for mask in group)
    one = sum(sum(len(mask) for mask in group) * max(mask.shape[1] for mask in group) for group in masks)
    assert facts.padding_cut == pytest.approx(1 - useful / cut)
    assert facts.padding_one == pytest.approx(1 - useful / one)
    assert facts.padding_cut < facts.padding_one


def test_a_preview_shows_the_first_rows_as_the_model_sees_them(run_values: dict[str, Any], planned: Session) -> None:
    shown = preview(run_values, count=2)
    assert Counter(each.task for each in shown) == dict.fromkeys(run_values["tasks"], 2)
    tokenizer = planned.prepared.tokenizer
    for each in shown:
        row = int(each.place.rpartition(":")[2]) - 1
        items = planned.prepared.items[each.task]["train"]
        own = [items[index] for index in range(len(items)) if items[index]["row"] == row]
        assert each.windows == len(own)
        assert each.sequences == [" ".join(tokenizer.convert_ids_to_tokens(ids)) for ids in own[0]["input_ids"]]
        assert all("[CLS]" in text for text in each.sequences)
        assert each.trained


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_rehearsal_runs_the_whole_path_and_leaves_nothing(
    run_values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accumulation: int
) -> None:
    monkeypatch.chdir(tmp_path)
    run_values["training"]["gradient_accumulation_steps"] = accumulation
    found = rehearse(run_values)
    assert not list(tmp_path.iterdir())
    assert found.updates == 4
    for seconds in (found.longest_seconds, found.usual_seconds, found.evaluation_seconds, found.save_seconds):
        assert 0 < seconds < 60
    assert found.run_seconds >= found.usual_seconds * 4
    assert found.memory_bytes > 10**7
    assert found.parameters["trained"] > 0


def test_a_rehearsal_finds_a_model_that_is_not_read_back_as_it_was_written(
    run_values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from taskloom import inspection
    from taskloom.errors import ModelError

    original = inspection.load_model

    def changed(folder: Path) -> Any:
        model, tasks, tokenizer = original(folder)
        with torch.no_grad():
            next(iter(model.heads.parameters())).add_(1e-6)
        return model, tasks, tokenizer

    monkeypatch.setattr(inspection, "load_model", changed)
    with pytest.raises(ModelError, match="be the same after saving and loading"):
        rehearse(run_values)
