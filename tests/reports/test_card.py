"""The model card: read by the Hub's own parser, honest about what is not known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from taskloom.record import Record, read_note, write_json
from taskloom.reports.card import limits, model_card
from taskloom.reports.facts import read_run


def test_the_hub_reads_every_test_score_out_of_it(make_run: Callable[..., Path]) -> None:
    folder = make_run()
    path = model_card(folder, license_name="apache-2.0")
    assert path == folder / "model" / "README.md"
    card: Any = ModelCard(path.read_text(encoding="utf-8"))
    found = {(each.dataset_name, each.metric_type): each.metric_value for each in card.data.eval_results}
    wanted = {
        (score.task, score.metric): score.value
        for score in Record(folder).scores()
        if score.split == "test" and score.group is None and score.task != "composite" and score.value == score.value
    }
    assert found == pytest.approx(wanted)
    assert card.data.base_model == "sentence-transformers/all-MiniLM-L6-v2"
    assert card.data.license == "apache-2.0"
    assert {"taskloom", "multi-task"} <= set(card.data.tags)


def test_it_says_what_is_weak_and_what_nobody_looked_at(make_run: Callable[..., Path]) -> None:
    folder = make_run()
    text = model_card(folder).read_text(encoding="utf-8")
    assert "`sentiment` is no better than a constant answer on its test rows." in text
    assert "`sentiment` has texts that stand in more than one split" in text
    assert "Nobody compared groups of people" in text
    assert "Probabilities were not calibrated." in text
    assert "| intent | classification | accuracy | 0.952 | 0.938 to 0.966 | 0.151 | 700 |" in text


def test_paths_of_this_machine_and_markup_of_data_are_left_out(make_run: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_run()
    record = Record(folder)
    local = record.run_yaml.read_text().replace("sentence-transformers/all-MiniLM-L6-v2", str(tmp_path / "my-bert"))
    record.run_yaml.write_text(local, encoding="utf-8")
    facts = read_note(record.data_json)
    facts["tasks"]["slots"]["made"] = ["<img src=x> of [evil](http://evil)"]
    write_json(record.data_json, facts)
    text = model_card(folder, tmp_path / "card.md").read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    assert "from `my-bert`" in text
    assert "<img" not in text
    assert "[evil]" not in text


def test_gaps_and_calibration_stand_in_it_where_they_were_measured(make_run: Callable[..., Path]) -> None:
    folder = make_run()
    gap = {"of": "accuracy", "difference": {"value": 0.12, "low": 0.05, "high": 0.19}, "shown": True}
    entry = {"columns": ["dialect"], "split": "test", "gaps": [gap]}
    write_json(folder / "fairness.json", {"version": 1, "tasks": {"intent": {"groups": [entry]}}})
    error = {"value": 0.08, "low": 0.06, "high": 0.1, "chance": 0.02}
    held = {"temperature": 1.7, "ece": {"before": error, "after": {**error, "value": 0.03}}}
    write_json(folder / "calibration.json", {"version": 1, "tasks": {"intent": held}})
    text = model_card(folder).read_text(encoding="utf-8")
    assert "| intent | dialect | accuracy | 0.120 | 0.050 to 0.190 | yes |" in text
    assert "| intent | 1.700 | 0.080 | 0.030 |" in text
    assert "Nobody compared" not in text


def test_few_test_rows_are_called_rough(tmp_path: Path) -> None:
    from taskloom.types import Score

    record = Record.create(tmp_path / "small")
    record.write_scores([Score("intent", "test", "accuracy", 0.9, 0.8, 0.95, 40, 0.5)])
    assert "Fewer than 300 test rows: `intent`; their scores are rough." in limits(read_run(record.folder, "s"), {}, {})
