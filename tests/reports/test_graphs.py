"""The graph of a plan: boxes that hold their tasks and no others, and lines that say what was found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskloom.affinity import Transfer
from taskloom.reports.graphs import LIMIT_LINES, plan_graph


def transfer_of(count: int, told: bool = True, seed: int = 0) -> Transfer:
    effect = np.random.default_rng(seed).normal(size=(count, count))
    np.fill_diagonal(effect, np.nan)
    low, high = (effect - 0.01, effect + 0.01) if told else (effect - 9, effect + 9)
    return Transfer(tuple(f"task {n}" for n in range(count)), effect, low, high, "linearised", False, "share")


def layers(spec: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    held = [layer["data"]["values"] for layer in spec["layer"]]
    return held[0], held[2], held[3]


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=8))
def test_every_task_lies_in_its_own_box_and_boxes_do_not_overlap(sizes: list[int]) -> None:
    names = iter(f"task {n}" for n in range(sum(sizes)))
    groups = [[next(names) for _ in range(size)] for size in sizes]
    boxes, _, dots = layers(plan_graph(transfer_of(sum(sizes)), groups))
    where = {dot["task"]: (dot["x"], dot["y"]) for dot in dots}
    assert len(where) == len(set(where.values())) == sum(sizes)
    held = [
        {name for name, (x, y) in where.items() if box["x"] < x < box["x2"] and box["y2"] < y < box["y"]}
        for box in boxes
    ]
    assert sorted(map(sorted, held)) == sorted(map(sorted, groups))


def test_a_half_line_at_a_task_tells_what_the_other_does_for_it() -> None:
    found = transfer_of(3)
    _, lines, dots = layers(plan_graph(found, [["task 0", "task 1"], ["task 2"]]))
    where = {dot["task"]: (dot["x"], dot["y"]) for dot in dots}
    assert len(lines) == 6
    for line in lines:
        i, j = found.tasks.index(line["source"]), found.tasks.index(line["target"])
        assert line["value"] == pytest.approx(found.effect[i, j])
        assert (line["x"], line["y"]) == where[line["target"]]
        middle = np.add(where[line["source"]], where[line["target"]]) / 2
        assert (line["x2"], line["y2"]) == pytest.approx(tuple(middle))


def test_of_what_is_not_told_only_effects_within_a_group_are_drawn() -> None:
    _, lines, _ = layers(plan_graph(transfer_of(4, told=False), [["task 0", "task 1"], ["task 2"], ["task 3"]]))
    assert {(line["source"], line["target"]) for line in lines} == {("task 0", "task 1"), ("task 1", "task 0")}


def test_the_strongest_of_many_lines_are_drawn() -> None:
    found = transfer_of(20)
    _, lines, _ = layers(plan_graph(found, [list(found.tasks)]))
    known = np.sort(np.abs(found.effect[~np.isnan(found.effect)]))
    assert [line["strength"] for line in lines] == pytest.approx(known[-LIMIT_LINES:])
