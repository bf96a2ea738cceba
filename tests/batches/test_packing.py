from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from taskloom.batches.chunks import OVERHEAD_TOKENS, Padding, chunks
from taskloom.batches.packing import DOUBLING_TOKENS, first_fit, packed_chunks
from taskloom.batches.steps import Steps
from taskloom.tasks.multiple_choice import MultipleChoice
from taskloom.tasks.token_classification import TokenClassification
from taskloom.types import Chunk

TASKS = {"slots": TokenClassification(), "reply": MultipleChoice(), "more": MultipleChoice()}
TASKS["slots"].fit([{"tokens": [], "tags": ["O", "B-x"]}])
FILLED = 9999

shapes = st.lists(
    st.tuples(st.sampled_from(list(TASKS)), st.lists(st.integers(1, 60), min_size=1, max_size=4)),
    min_size=1,
    max_size=24,
)


def drawn_of(shapes: list[tuple[str, list[int]]]) -> list[tuple[str, dict[str, Any]]]:
    """Items whose every token is another number, so that each can be found again."""
    drawn, token = [], 10_000
    for row, (name, lengths) in enumerate(shapes):
        held = lengths[:1] if name == "slots" else lengths
        ids = []
        for length in held:
            ids.append(list(range(token, token + length)))
            token += length
        item = {"input_ids": ids, "token_type_ids": [[each % 2 for each in own] for own in ids], "row": row}
        drawn.append((name, item | ({"tags": [row % 2] * held[0]} if name == "slots" else {"label": 0})))
    return drawn


def packed(shapes: list[tuple[str, list[int]]], limit: int = 4096, *, halves: bool = False) -> list[Chunk]:
    return packed_chunks(drawn_of(shapes), TASKS, Padding(FILLED), limit, halves=halves)


def price(chunk: Chunk) -> float:
    rows, tokens = chunk.inputs["input_ids"].shape
    return OVERHEAD_TOKENS + rows * tokens * (1 + tokens / DOUBLING_TOKENS)


SHORT = [("slots", [length]) for length in (40, 9, 7, 12, 11, 30, 8)] + [("reply", [5, 9, 6]), ("reply", [12, 3])]
"""Lengths of which some are packed."""


@given(shapes=shapes, limit=st.integers(1, 3000), halves=st.booleans())
@settings(max_examples=150, deadline=None)
def test_every_sequence_is_found_whole_in_its_row_whose_places_begin_anew(shapes, limit, halves) -> None:
    found = []
    for chunk in packed(shapes, limit, halves=halves):
        ids = chunk.inputs["input_ids"]
        for part in chunk.parts.values():
            own = iter(part.sequences.tolist())
            for item in part.items:
                for wanted, types in zip(item["input_ids"], item["token_type_ids"], strict=True):
                    sequence = next(own)
                    assert int(chunk.mask[sequence].sum()) == len(wanted)
                    if chunk.packing is None:
                        assert ids[sequence, : len(wanted)].tolist() == wanted
                        continue
                    places = chunk.packing.places[sequence]
                    assert ids.flatten()[places[: len(wanted)]].tolist() == wanted
                    assert (ids.flatten()[places[len(wanted) :]] == wanted[-1]).all(), "padding repeats the last token"
                    position, kinds = chunk.inputs["position_ids"].flatten(), chunk.inputs["token_type_ids"].flatten()
                    assert position[places[: len(wanted)]].tolist() == list(range(len(wanted)))
                    assert kinds[places[: len(wanted)]].tolist() == types
                    assert (places // ids.shape[1] == chunk.packing.rows[sequence]).all(), "in one row"
                found.append(item["row"])
        useful = int(chunk.inputs["attention_mask"].sum())
        assert useful == int(chunk.mask.sum()) == int((ids != FILLED).sum())
    assert sorted(found) == list(range(len(shapes)))


@given(shapes=shapes, limit=st.integers(1, 3000), halves=st.booleans())
@settings(max_examples=150, deadline=None)
def test_a_row_belongs_to_one_task_and_where_asked_to_one_half_of_it(shapes, limit, halves) -> None:
    turns: dict[str, int] = {}
    half_of = {}
    for row, (name, _) in enumerate(shapes):
        half_of[row] = turns.get(name, 0) % 2
        turns[name] = turns.get(name, 0) + 1
    for chunk in packed(shapes, limit, halves=halves):
        if chunk.packing is None:
            continue
        owners: dict[int, set[tuple[str, int]]] = {}
        for name, part in chunk.parts.items():
            own = iter(chunk.packing.rows[part.sequences].tolist())
            for item, size in zip(part.items, part.sizes, strict=True):
                for _ in range(size):
                    owners.setdefault(next(own), set()).add((name, half_of[item["row"]] if halves else 0))
        assert sorted(owners) == list(range(len(chunk.inputs["input_ids"])))
        told = [next(iter(owners[row])) for row in sorted(owners)]
        assert all(len(each) == 1 for each in owners.values())
        assert [half for _, half in told] == list(chunk.packing.halves)
        assert len(list(dict.fromkeys(told))) == 1 + sum(a != b for a, b in itertools.pairwise(told)), (
            "rows of a half stand together"
        )


@given(shapes=shapes, limit=st.integers(1, 3000))
@settings(max_examples=150, deadline=None)
def test_packing_never_costs_more_and_keeps_to_the_limit(shapes, limit) -> None:
    found = packed(shapes, limit)
    plain = chunks(drawn_of(shapes), TASKS, Padding(FILLED), limit)
    assert sum(map(price, found)) <= sum(map(price, plain)) + 1e-6
    for chunk in found:
        items = sum(len(part.items) for part in chunk.parts.values())
        assert items == 1 or chunk.inputs["input_ids"].numel() <= limit


@given(lengths=st.lists(st.integers(1, 50), max_size=40), capacity=st.integers(1, 120))
def test_bins_hold_everything_and_two_never_fit_into_one(lengths, capacity) -> None:
    bins = first_fit(lengths, capacity)
    assert sorted(each for held in bins for each in held) == list(range(len(lengths)))
    filled = [sum(lengths[each] for each in held) for held in bins]
    assert all(full <= capacity or len(held) == 1 for full, held in zip(filled, bins, strict=True))
    assert all(one + other > capacity for index, one in enumerate(filled) for other in filled[index + 1 :])


def test_sequences_of_one_length_are_left_alone() -> None:
    assert all(chunk.packing is None for chunk in packed([("slots", [20])] * 12))


def test_short_sequences_share_rows_beside_long_ones() -> None:
    found = packed(SHORT)
    assert any(chunk.packing is not None for chunk in found)
    area = sum(chunk.inputs["input_ids"].numel() for chunk in found)
    plain = chunks(drawn_of(SHORT), TASKS, Padding(FILLED), 4096)
    assert area < sum(chunk.inputs["input_ids"].numel() for chunk in plain)


def test_targets_are_those_of_rows_that_are_not_packed() -> None:
    found = {}
    for chunk in packed(SHORT):
        for name, part in chunk.parts.items():
            for item, tags in zip(part.items, part.targets.get("tags", part.targets.get("sizes")), strict=True):
                found[item["row"]] = tags[tags != -100].tolist() if name == "slots" else int(tags)
    for row, (name, item) in enumerate(drawn_of(SHORT)):
        assert found[row] == (item["tags"] if name == "slots" else len(item["input_ids"]))


@pytest.mark.parametrize("packing", [False, True])
def test_a_step_counts_the_same_whether_it_is_packed_or_not(packing) -> None:
    steps = Steps(plan=None, items={}, tasks=TASKS, padding=Padding(0), limit_tokens=4096, packing=packing)
    step = steps.build(drawn_of(SHORT))
    assert any(chunk.packing is not None for chunk in step.chunks) == packing
    assert step.tokens == {"slots": 117, "reply": 35}
    assert step.examples == {"slots": 7, "reply": 2}


def test_moving_a_packed_step_moves_every_tensor_of_it() -> None:
    for chunk in packed(SHORT):
        chunk.to("meta")
        tensors = [*chunk.inputs.values(), chunk.mask]
        tensors += [] if chunk.packing is None else [chunk.packing.rows, chunk.packing.places, chunk.packing.mask]
        assert {tensor.device for tensor in tensors} == {torch.device("meta")}
