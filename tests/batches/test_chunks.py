from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from taskloom.batches.chunks import OVERHEAD_TOKENS, Padding, chunks, collate, cut
from taskloom.batches.steps import Steps, first
from taskloom.tasks.classification import Classification
from taskloom.tasks.multiple_choice import MultipleChoice
from taskloom.tasks.token_classification import TokenClassification

lines = st.lists(st.tuples(st.integers(1, 200), st.integers(1, 4)), min_size=1, max_size=30)


def arrays(items):
    return np.array([length for length, _ in items]), np.array([rows for _, rows in items])


def cost(groups, lengths, rows) -> int:
    return sum(int(max(lengths[g]) * sum(rows[g])) + OVERHEAD_TOKENS for g in map(list, groups))


def fits(group, lengths, rows, limit) -> bool:
    return len(group) == 1 or max(lengths[group]) * sum(rows[group]) <= limit


def partitions(items):
    """Give every way to part some items into groups."""
    if not items:
        yield []
        return
    head, *rest = items
    for smaller in partitions(rest):
        yield [[head], *smaller]
        for index, group in enumerate(smaller):
            yield [*smaller[:index], [head, *group], *smaller[index + 1 :]]


@given(items=lines, limit=st.integers(1, 3000))
@settings(max_examples=200, deadline=None)
def test_a_cut_holds_every_item_once_within_the_limit(items, limit) -> None:
    lengths, rows = arrays(items)
    groups = cut(lengths, rows, limit)
    assert sorted(index for group in groups for index in group) == list(range(len(items)))
    assert all(fits(group, lengths, rows, limit) for group in groups)


@given(items=lines, limit=st.integers(1, 3000))
@settings(max_examples=200, deadline=None)
def test_a_cut_costs_no_more_than_single_rectangles_or_filling_up_to_the_limit(items, limit) -> None:
    lengths, rows = arrays(items)
    single = [[index] for index in range(len(items))]
    greedy: list[list[int]] = []
    for index in np.argsort(-lengths, kind="stable"):
        if greedy and fits([*greedy[-1], index], lengths, rows, limit):
            greedy[-1].append(index)
        else:
            greedy.append([index])
    found = cost(cut(lengths, rows, limit), lengths, rows)
    assert found <= min(cost(single, lengths, rows), cost(greedy, lengths, rows))


@given(items=st.lists(st.tuples(st.integers(1, 200), st.integers(1, 3)), min_size=1, max_size=7))
@settings(max_examples=40, deadline=None)
def test_without_a_limit_no_parting_of_any_kind_costs_less(items) -> None:
    lengths, rows = arrays(items)
    best = min(cost(groups, lengths, rows) for groups in partitions(list(range(len(items)))))
    assert cost(cut(lengths, rows, 10**9), lengths, rows) == best


@given(
    items=st.lists(st.tuples(st.integers(1, 200), st.integers(1, 3)), min_size=1, max_size=9),
    limit=st.integers(1, 1500),
)
@settings(max_examples=60, deadline=None)
def test_with_a_limit_no_cut_of_the_sorted_line_costs_less(items, limit) -> None:
    lengths, rows = arrays(items)
    order = list(np.argsort(-lengths, kind="stable"))
    costs = []
    for places in itertools.product([False, True], repeat=len(items) - 1):
        groups = [[order[0]]]
        for index, begins in zip(order[1:], places, strict=True):
            groups.append([index]) if begins else groups[-1].append(index)
        if all(fits(group, lengths, rows, limit) for group in groups):
            costs.append(cost(groups, lengths, rows))
    assert cost(cut(lengths, rows, limit), lengths, rows) == min(costs)


def labelled(task, *labels):
    task.fit([{"text": "", "label": label, "tokens": [], "tags": labels} for label in labels])
    return task


def tasks_of_three_kinds():
    return {
        "intent": labelled(Classification(), "a", "b", "c"),
        "reply": MultipleChoice(),
        "slots": labelled(TokenClassification(), "O", "B-x"),
    }


def drawn_items():
    """Items whose tokens name them, so that each can be found again in its rectangle."""
    return [
        ("intent", {"input_ids": [[10] * 3], "token_type_ids": [[0, 0, 1]], "label": 2, "row": 0}),
        (
            "reply",
            {"input_ids": [[20] * 5, [21] * 2, [22]], "token_type_ids": [[1] * 5, [0] * 2, [1]], "label": 1, "row": 4},
        ),
        ("intent", {"input_ids": [[11] * 6], "token_type_ids": [[0] * 6], "label": 0, "row": 1}),
        ("slots", {"input_ids": [[30] * 4], "token_type_ids": [[0] * 4], "tags": [-100, 1, 0, -100], "row": 2}),
        ("reply", {"input_ids": [[23] * 2, [24] * 7], "token_type_ids": [[0] * 2, [0] * 7], "label": 0, "row": 5}),
    ]


def test_a_rectangle_is_filled_up_where_its_mask_is_zero() -> None:
    chunk = collate(drawn_items(), tasks_of_three_kinds(), Padding(99))
    ids, mask, types = (chunk.inputs[key] for key in ("input_ids", "attention_mask", "token_type_ids"))
    assert ids.shape == mask.shape == types.shape == (8, 7)
    assert (ids[mask == 0] == 99).all()
    assert (ids[mask == 1] != 99).all()
    assert (types[mask == 0] == 0).all()
    lengths = {10: 3, 11: 6, 20: 5, 21: 2, 22: 1, 23: 2, 24: 7, 30: 4}
    for row, real in zip(ids, mask, strict=True):
        assert real.tolist() == [1] * lengths[int(row[0])] + [0] * (7 - lengths[int(row[0])])


def test_each_task_finds_its_own_sequences_in_the_order_of_its_items() -> None:
    chunk = collate(drawn_items(), tasks_of_three_kinds(), Padding(0))
    for name, part in chunk.parts.items():
        own = [item for other, item in drawn_items() if other == name]
        assert part.items == own
        assert part.sizes == [len(item["input_ids"]) for item in own]
        wanted = [ids[0] for item in own for ids in item["input_ids"]]
        assert chunk.inputs["input_ids"][part.sequences, 0].tolist() == wanted
    taken = torch.cat([part.sequences for part in chunk.parts.values()])
    assert sorted(taken.tolist()) == list(range(8))
    assert chunk.parts["intent"].targets["label"].tolist() == [2, 0]
    assert chunk.parts["reply"].targets["sizes"].tolist() == [3, 2]
    assert chunk.parts["slots"].targets["tags"].tolist() == [[-100, 1, 0, -100, -100, -100, -100]]


def test_token_types_are_given_only_where_the_tokenizer_gives_them() -> None:
    drawn = [
        (name, {key: value for key, value in item.items() if key != "token_type_ids"}) for name, item in drawn_items()
    ]
    assert collate(drawn, tasks_of_three_kinds(), Padding(0)).inputs.keys() == {"input_ids", "attention_mask"}


@pytest.mark.parametrize("limit", [1, 8, 20, 10_000])
def test_any_limit_gives_the_same_items_and_the_same_targets(limit) -> None:
    found = {}
    for chunk in chunks(drawn_items(), tasks_of_three_kinds(), Padding(0), limit):
        for part in chunk.parts.values():
            labels = part.targets.get("label", part.targets.get("tags"))
            for item, label in zip(part.items, labels, strict=True):
                found[item["row"]] = label.tolist()[:4] if label.ndim else int(label)
    assert found == {0: 2, 1: 0, 2: [-100, 1, 0, -100], 4: 1, 5: 0}


def test_a_step_counts_useful_tokens_and_items_of_each_task() -> None:
    steps = Steps(plan=None, items={}, tasks=tasks_of_three_kinds(), padding=Padding(0), limit_tokens=20)
    step = steps.build(drawn_items())
    assert step.tokens == {"intent": 9, "reply": 17, "slots": 4}
    assert step.examples == {"intent": 2, "reply": 2, "slots": 1}
    assert sum(int(chunk.inputs["attention_mask"].sum()) for chunk in step.chunks) == 30


def test_moving_a_step_moves_every_tensor_of_it() -> None:
    steps = Steps(plan=None, items={}, tasks=tasks_of_three_kinds(), padding=Padding(0), limit_tokens=20)
    step = steps.build(drawn_items()).to("meta")
    for chunk in step.chunks:
        tensors = list(chunk.inputs.values())
        for part in chunk.parts.values():
            tensors += [part.sequences, *part.targets.values()]
        assert {tensor.device.type for tensor in tensors} == {"meta"}


def test_the_loaders_list_of_one_is_unwrapped() -> None:
    marker = object()
    assert first([marker]) is marker
