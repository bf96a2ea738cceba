import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskloom.data.near_duplicates import normalise
from taskloom.data.records import Record
from taskloom.data.splits import Made, complete, identity_text, leaks
from taskloom.errors import ConfigError, DataError


def records(rows, file="train.jsonl"):
    return [Record(row, file, number) for number, row in enumerate(rows, start=1)]


def texts(count, seed=0, words=12):
    generator = random.Random(seed)
    vocabulary = [f"w{number}" for number in range(2000)]
    return [" ".join(generator.choices(vocabulary, k=words)) for _ in range(count)]


def of_texts(*given_texts):
    return {"train": records([{"text": text} for text in given_texts])}


def places(splits):
    return {split: [record.place for record in part] for split, part in splits.items()}


def test_missing_splits_are_made_in_their_shares_and_rows_keep_their_order():
    splits, made = complete(of_texts(*texts(200)), ["text"], validation=0.1, test=0.2)
    assert {split: len(part) for split, part in splits.items()} == {"train": 140, "validation": 20, "test": 40}
    assert list(splits) == ["train", "validation", "test"]
    assert made == (Made("validation", 20, 20, "near-duplicate"), Made("test", 40, 40, "near-duplicate"))
    assert all([r.line for r in part] == sorted(r.line for r in part) for part in splits.values())
    assert sorted(r.line for part in splits.values() for r in part) == list(range(1, 201))


def test_splits_that_are_given_stay_as_they_are():
    given_splits = {**of_texts(*texts(50)), "test": records([{"text": "t"}], "test.jsonl")}
    splits, made = complete(given_splits, ["text"])
    assert [each.split for each in made] == ["validation"]
    assert splits["test"] == given_splits["test"]
    whole = {split: splits[split] for split in ("train", "validation", "test")}
    assert complete(whole, ["text"]) == (whole, ())


def test_a_share_of_zero_makes_no_split():
    splits, made = complete(of_texts(*texts(50)), ["text"], validation=0)
    assert list(splits) == ["train", "test"]
    assert len(made) == 1


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.text(alphabet="abAB cé \t.ﬁ", max_size=12), min_size=12, max_size=80),
    st.integers(0, 3),
)
def test_no_normalised_text_lies_in_two_made_splits(given_texts, seed):
    try:
        splits, _ = complete(of_texts(*given_texts), ["text"], seed=seed)
    except DataError:
        assert len({normalise(text) for text in given_texts}) < 4
        return
    sides = [{normalise(record.row["text"]) for record in part} for part in splits.values()]
    assert sum(map(len, sides)) == len(set().union(*sides))
    assert leaks(splits, ["text"]) == {}
    assert sum(map(len, splits.values())) == len(given_texts)


def test_near_duplicates_lie_on_one_side():
    base = texts(100, words=60)
    splits, _ = complete(of_texts(*base, *(f"{text} Indeed" for text in base)), ["text"], test=0.3)
    side = {record.line: split for split, part in splits.items() for record in part}
    assert all(side[line] == side[line + 100] for line in range(1, 101))


def test_the_same_rows_give_the_same_splits_in_any_order_and_another_seed_gives_others():
    some = texts(300)
    first, _ = complete(of_texts(*some), ["text"])
    again, _ = complete(of_texts(*some), ["text"])
    assert places(first) == places(again)
    turned, _ = complete(of_texts(*reversed(some)), ["text"])
    for split in first:
        assert {r.row["text"] for r in first[split]} == {r.row["text"] for r in turned[split]}
    other, _ = complete(of_texts(*some), ["text"], seed=1)
    assert places(other) != places(first)


def test_splits_stay_the_same_from_release_to_release():
    splits, _ = complete(of_texts("a", "b", "c", "d", "e", "f", "g", "h"), ["text"])
    assert places({split: splits[split] for split in ("validation", "test")}) == {
        "validation": ["train.jsonl:4"],
        "test": ["train.jsonl:6"],
    }


def test_two_tasks_over_the_same_texts_get_the_same_splits():
    some = texts(300)
    by_text, _ = complete(of_texts(*some), ["text"])
    tokens = {"train": records([{"tokens": text.split(), "tags": []} for text in some])}
    by_tokens, _ = complete(tokens, ["tokens"])
    assert places(by_text) == places(by_tokens)


def test_the_test_split_does_not_depend_on_the_share_of_validation():
    some = of_texts(*texts(200))
    assert complete(some, ["text"], validation=0.3)[0]["test"] == complete(some, ["text"], validation=0)[0]["test"]


def test_rows_of_one_group_stay_together():
    rows = [{"text": text, "group": number % 20} for number, text in enumerate(texts(200))]
    splits, made = complete({"train": records(rows)}, ["text"], group="group")
    groups = [{record.row["group"] for record in part} for part in splits.values()]
    assert sum(map(len, groups)) == 20
    assert made == (Made("validation", 20, 2, "group"), Made("test", 20, 2, "group"))


def test_rows_without_a_group_stay_with_their_near_duplicates():
    rows = [{"text": text, "group": "g"} for text in texts(10)] + [{"text": text} for text in texts(40, seed=1) * 2]
    splits, _ = complete({"train": records(rows)}, ["text"], group="group")
    assert len({split for split, part in splits.items() for record in part if record.row.get("group")}) == 1
    assert leaks(splits, ["text"]) == {}


def test_a_cluster_that_is_far_too_large_is_left_in_train():
    rows = [*(["hello"] * 300), *texts(700)]
    for seed in range(5):
        splits, _ = complete(of_texts(*rows), ["text"], seed=seed)
        assert {split: len(part) for split, part in splits.items()} == {"train": 800, "validation": 100, "test": 100}


def test_where_all_clusters_are_too_large_the_smallest_is_taken():
    rows = [{"text": "a", "group": group} for group in [*"aaaaaaaa", *"bbbbb", *"cccc"]]
    splits, _ = complete({"train": records(rows)}, ["text"], group="group")
    assert {split: len(part) for split, part in splits.items()} == {"train": 8, "validation": 5, "test": 4}


def test_train_that_is_too_small_is_a_fault():
    with pytest.raises(DataError) as caught:
        complete(of_texts("a", "b", "B "), ["text"], where="tasks.t.data")
    assert str(caught.value) == (
        "`tasks.t.data.train` should hold enough texts that are not near duplicates to give rows to validation and "
        "test and keep 2 for train. Found 3 rows in 2 clusters. Add rows, or give files for validation and test."
    )
    with pytest.raises(DataError) as caught:
        complete({"train": records([{"text": text, "who": 1} for text in "abc"])}, ["text"], validation=0, group="who")
    assert str(caught.value) == (
        "`data.train` should hold enough values of `who` to give rows to test and keep 2 for train. "
        "Found 3 rows in 1 cluster. Add rows, or give files for test."
    )


def test_four_texts_are_enough():
    splits, _ = complete(of_texts(*"abcd"), ["text"])
    assert {split: len(part) for split, part in splits.items()} == {"train": 2, "validation": 1, "test": 1}


@pytest.mark.parametrize("shares", [(0.5, 0.5), (-0.1, 0.1)])
def test_shares_must_leave_something(shares):
    with pytest.raises(ConfigError) as caught:
        complete(of_texts(*"abcd"), ["text"], validation=shares[0], test=shares[1])
    assert str(caught.value) == (
        "`data` should be split by shares from 0 on that are together below 1. "
        f"Found {shares[0]} for validation and {shares[1]} for test."
    )


def test_leaks_count_the_rows_of_the_later_split():
    splits = {
        "train": records([{"text": "Play  jazz"}, {"text": "b"}, {"text": ""}]),
        "test": records([{"text": "play jazz"}, {"text": "PLAY JAZZ"}, {"text": "c"}, {"text": ""}]),
        "validation": records([{"text": "c"}]),
    }
    assert leaks(splits, ["text"]) == {("train", "test"): 2, ("validation", "test"): 1}


def test_the_identity_of_a_row_is_the_text_of_its_columns():
    row = {"text": "A", "n": 1, "no": None, "messages": [{"role": "user", "content": "Hi"}], "words": ("x", "y")}
    assert identity_text(row, ["text", "no", "absent", "words"]) == "a x y"
    assert identity_text(row, ["messages", "n"]) == "hi user 1"


def test_twenty_thousand_rows_are_split_in_seconds():
    start = time.perf_counter()
    complete(of_texts(*texts(20_000, words=20)), ["text"])
    assert time.perf_counter() - start < 20  # 0.6 s on one core of 2026; loose, so that a busy machine passes
