"""The first micro-batches are shown as the backbone is given them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from taskloom.config import load_config
from taskloom.first_steps import first_steps
from taskloom.preparation import prepare
from taskloom.session import Session


@pytest.fixture
def session(run_values: dict[str, Any], tmp_path: Path) -> Session:
    config = load_config(run_values)
    return Session(config, prepare(config), tmp_path)


def test_the_first_two_micro_batches_are_counted_as_their_tensors_hold_them(session: Session) -> None:
    found = first_steps(session.prepared, session.steps)
    assert [step.index for step in found] == [0, 1]
    for shown in found:
        step = session.steps[shown.index]
        assert shown.rectangles == [tuple(chunk.inputs["input_ids"].shape) for chunk in step.chunks]
        assert [each.task for each in shown.tasks] == list(session.prepared.tasks)
        for each in shown.tasks:
            chunks = [chunk for chunk in step.chunks if each.task in chunk.parts]
            parts = [chunk.parts[each.task] for chunk in chunks]
            masks = [chunk.inputs["attention_mask"][part.sequences] for chunk, part in zip(chunks, parts, strict=True)]
            assert each.rows == sum(len(part.items) for part in parts) > 0
            assert each.tokens == sum(int(mask.sum()) for mask in masks)
            assert each.rectangles == [tuple(chunk.inputs["input_ids"].shape) for chunk in chunks]


def test_an_example_is_what_the_tensors_hold_special_tokens_included(session: Session) -> None:
    tokenizer = session.prepared.tokenizer
    for shown in first_steps(session.prepared, session.steps):
        step = session.steps[shown.index]
        for each in shown.tasks:
            chunk = next(chunk for chunk in step.chunks if each.task in chunk.parts)
            part = chunk.parts[each.task]
            held = []
            for sequence in part.sequences[: part.sizes[0]].tolist():
                ids = chunk.inputs["input_ids"][sequence][chunk.inputs["attention_mask"][sequence].bool()]
                held.append(tokenizer.convert_ids_to_tokens(ids.tolist()))
            assert each.sequences == held
            assert all(tokens[0] == "[CLS]" and tokens[-1] == "[SEP]" for tokens in held)
            number = int(each.place.rpartition(":")[2]) - 1
            row = session.prepared.corpora[each.task].splits["train"][number]
            assert each.trained == session.prepared.tasks[each.task].describe(row, part.items[0])


def test_a_plan_of_one_step_shows_one(run_values: dict[str, Any], tmp_path: Path) -> None:
    run_values["training"]["max_steps"] = 1
    config = load_config(run_values)
    session = Session(config, prepare(config), tmp_path)
    assert len(first_steps(session.prepared, session.steps)) == 1
