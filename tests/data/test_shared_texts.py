"""Texts that one task is scored on and another one is trained on are counted, each ordered pair of tasks by itself."""

from __future__ import annotations

import time
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from taskloom.data import Corpus, Counts
from taskloom.data.shared_texts import SharedTexts, shared_texts
from taskloom.data.splits import identity_text


def corpus(name: str, **splits: list[dict[str, Any]]) -> Corpus:
    places = {split: [f"{split}.jsonl:{number}" for number in range(len(rows))] for split, rows in splits.items()}
    return Corpus(name, splits, places, Counts(), (), {})


def texts(*words: str) -> list[dict[str, Any]]:
    return [{"text": word} for word in words]


def test_a_held_out_text_in_another_tasks_training_rows_is_counted_by_split_and_direction() -> None:
    corpora = {
        "intent": corpus("intent", train=texts("a", "b"), validation=texts("c", "d"), test=texts("e", "c", "c")),
        "topics": corpus("topics", train=texts("c", "x"), test=texts("a", "y")),
    }
    identity = {"intent": ("text",), "topics": ("text",)}
    assert shared_texts(corpora, identity) == [
        SharedTexts("intent", "topics", {"validation": 1, "test": 2}),
        SharedTexts("topics", "intent", {"test": 1}),
    ]


def test_texts_are_compared_as_splits_compare_them_whatever_column_holds_them() -> None:
    corpora = {
        "slots": corpus("slots", train=[{"tokens": ["unlike"]}], test=[{"tokens": ["Book", "a", "TABLE"]}]),
        "pairs": corpus("pairs", train=[{"text": "book  a table", "text_pair": "a guest wants to eat"}]),
        "both": corpus("both", train=texts("z"), test=[{"text": "book a table", "text_pair": "a guest wants to eat"}]),
    }
    identity = {"slots": ("tokens",), "pairs": ("text", "text_pair"), "both": ("text", "text_pair")}
    assert shared_texts(corpora, identity) == [
        SharedTexts("slots", "pairs", {"test": 1}),
        SharedTexts("both", "pairs", {"test": 1}),
    ]


def test_neither_a_tasks_own_training_rows_nor_empty_texts_count() -> None:
    corpora = {
        "one": corpus("one", train=texts("a", ""), test=texts("a", "")),
        "other": corpus("other", train=texts("b", ""), test=texts("", "c")),
    }
    assert shared_texts(corpora, {"one": ("text",), "other": ("text",)}) == []


rows = st.lists(
    st.fixed_dictionaries({"text": st.sampled_from("abcd ")}, optional={"text_pair": st.sampled_from("abcd")}),
    max_size=5,
)


@given(st.lists(st.fixed_dictionaries({"train": rows, "validation": rows, "test": rows}), min_size=2, max_size=4))
def test_counts_are_those_of_comparing_every_row_with_every_other(splits: list[dict[str, Any]]) -> None:
    corpora = {str(number): corpus(str(number), **held) for number, held in enumerate(splits)}
    columns = ("text", "text_pair")
    found = {(each.task, each.trained): each.rows for each in shared_texts(corpora, dict.fromkeys(corpora, columns))}
    for task in corpora:
        for other in corpora:
            counts = {}
            for split in ("validation", "test"):
                count = 0
                for row in corpora[task].splits[split]:
                    whole = identity_text(row, columns)
                    count += bool(whole) and any(
                        whole in {identity_text(known, part) for part in (columns, columns[:1], columns[1:])}
                        for known in corpora[other].splits["train"]
                    )
                if count:
                    counts[split] = count
            assert found.get((task, other), {}) == (counts if task != other else {})


def test_many_rows_of_many_tasks_are_compared_in_seconds() -> None:
    corpora = {}
    for task in range(10):
        train = texts(*(f"message {number} of task {task} about an order" for number in range(2_000)))
        test = texts(*(f"message {number} of task {(task + 1) % 10} about an order" for number in range(500)))
        corpora[str(task)] = corpus(str(task), train=train, test=test)
    started = time.perf_counter()
    found = shared_texts(corpora, dict.fromkeys(corpora, ("text",)))
    assert time.perf_counter() - started < 2
    assert sorted((each.task, each.trained, each.total) for each in found) == [
        (str(task), str((task + 1) % 10), 500) for task in range(10)
    ]
