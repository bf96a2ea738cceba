"""Options of the loss in whole runs: what they change, and that what they learned comes back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from taskloom import evaluate, train
from taskloom.errors import DataError
from taskloom.inspection import check_gradients
from taskloom.run import Run

Values = dict[str, Any]


def rows_of(count: int, seed: int) -> list[Values]:
    """Give rows of which one in ten is of the rare label; its word stands in most of these, and in a few others."""
    generator, rows = np.random.default_rng(seed), []
    words = ["please", "send", "the", "order", "again", "today", "my", "card", "was", "charged"]
    for _ in range(count):
        rare = generator.random() < 0.1
        told = generator.random() < (0.8 if rare else 0.1)
        text = [*generator.choice(words, size=5), "refund" if told else "invoice"]
        rows.append({"text": " ".join(text), "label": "rare" if rare else "usual"})
    return rows


def recall_of(values: Values, folder: Path, weights: Any) -> float:
    """Train on the rows, and give the share of the rare test rows that are found."""
    values["tasks"] = {"mood": {"type": "classification", "data": "memory", "class_weights": weights, "max_length": 32}}
    values["model"]["adapter"] = None
    values["training"] |= {"max_steps": 60, "per_device_train_batch_size": 16, "eval_strategy": "no"}
    values["training"] |= {"save_strategy": "no", "load_best_model_at_end": False}
    splits = {"train": rows_of(300, 0), "validation": rows_of(20, 1), "test": rows_of(200, 2)}
    run = train(values, folder, rows={"mood": splits})
    text = (run.record.folder / "predictions" / "test" / "mood.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    found = [line["prediction"] == "rare" for line in lines if line["reference"] == "rare"]
    assert len(found) > 10
    return sum(found) / len(found)


def test_balanced_weights_find_more_of_the_rare_label(run_values: Values, tmp_path: Path) -> None:
    plain = recall_of(run_values, tmp_path / "plain", None)
    balanced = recall_of(run_values, tmp_path / "balanced", "balanced")
    assert plain < 0.2
    assert balanced > 0.6


def test_every_option_trains_is_saved_and_scores_the_same_when_read_back(run_values: Values, tmp_path: Path) -> None:
    tasks = run_values["tasks"]
    tasks["intent"] |= {"class_weights": "balanced", "focal_gamma": 2.0, "shared_update": 0.5}
    tasks["slots"] |= {"class_weights": {"O": 0.2}, "label_smoothing": 0.1}
    tasks["topics"] |= {"class_weights": "balanced", "noise_robustness": 0.7}
    tasks["answer"] |= {"noise_robustness": 0.7}
    tasks["reply"] |= {"label_smoothing": 0.1}
    tasks["urgency"] |= {"huber_delta": 1.0}
    tasks["similarity"] |= {"huber_delta": 1.0}
    for section in tasks.values():
        section["limit_rows"] = 8
    run_values["balance"] = {"method": "upgrad"}
    run_values["training"] |= {"max_steps": 2, "eval_steps": 1, "save_steps": 1}
    assert max(each.relative for each in check_gradients(run_values)) < 1e-3
    run = train(run_values, tmp_path / "run")
    _, loaded, _ = run.loaded()
    weights = loaded["slots"].weights
    assert weights[loaded["slots"].ids["O"]] < 1 < max(weights)
    assert np.shape(loaded["topics"].weights) == (len(loaded["topics"].labels), 2)
    scores = (run.record.folder / "scores.jsonl").read_text()
    evaluate(run.record.folder)
    assert (Run(run.record.folder).record.folder / "scores.jsonl").read_text() == scores


def test_a_weight_for_a_label_that_training_lacks_is_told_under_its_key(run_values: Values, tmp_path: Path) -> None:
    run_values["tasks"]["slots"]["class_weights"] = {"O": 0.2, "B-plase": 2.0}
    run_values["tasks"]["intent"]["class_weights"] = {"nothing": 1.0}
    with pytest.raises(DataError) as caught:
        train(run_values, tmp_path / "run")
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("`tasks.intent.class_weights` should name labels that training has. Found `nothing`.")
    assert lines[1].startswith("`tasks.slots.class_weights` should name labels that training has. Found `B-plase`.")
