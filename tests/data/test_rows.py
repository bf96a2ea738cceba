import json

import pytest
from dummy_task import Dummy

from taskloom.data.records import BadRow, Record
from taskloom.data.rows import check_rows
from taskloom.errors import DataError

GOOD = ({"text": "a", "label": "x"}, {"text": "b", "label": "y"})


def records(split, *rows):
    return [Record(row, f"{split}.jsonl", number) for number, row in enumerate(rows, start=1)]


def check(bad_rows="refuse", bad=None, task=None, **splits):
    given = {split: records(split, *rows) for split, rows in splits.items()}
    return check_rows(given, task or Dummy(), where="tasks.t", bad_rows=bad_rows, bad=bad)


def message(bad_rows="refuse", bad=None, **splits):
    with pytest.raises(DataError) as caught:
        check(bad_rows, bad, **splits)
    return str(caught.value)


def test_good_rows_are_kept_and_counted_and_the_task_is_fitted():
    task = Dummy()
    kept, counts = check(task=task, train=GOOD, test=GOOD)
    assert [record.row for record in kept["train"]] == list(GOOD)
    assert task.labels == ["x", "y"]
    assert counts.as_json() == {
        "train": {"read": 2, "kept": 2, "skipped": {}},
        "test": {"read": 2, "kept": 2, "skipped": {}},
    }


def test_every_wrong_row_of_every_split_is_refused_with_its_place():
    bad = {"train": [BadRow("train.jsonl", 9, "be valid JSON", "x at column 1")], "test": []}
    assert message(
        bad=bad,
        train=(*GOOD, {"text": " ", "label": "x"}, {"text": "c"}),
        test=({"text": "a", "label": "z"}, {"text": "d", "label": "x", "group": ["g"]}),
    ).splitlines() == [
        "`train.jsonl:3` should have text in `text`, not ` `.",
        "`train.jsonl:4` should have a `label`.",
        "`train.jsonl:9` should be valid JSON. Found x at column 1.",
        "`test.jsonl:1` should have a `label` that training has, not `z`. Did you mean `x`?",
        "`test.jsonl:2` should have one name or number in `group`. Found a `list`.",
    ]


def test_a_long_list_is_cut_in_the_message_and_whole_in_the_faults():
    with pytest.raises(DataError) as caught:
        check(train=(*GOOD, *({"text": "", "label": "x"} for _ in range(50))))
    assert len(caught.value.faults) == 50
    assert str(caught.value).splitlines()[-1] == "... and 30 more."


def test_skipped_rows_are_counted_by_reason_without_their_values():
    kept, counts = check(
        "skip",
        {"train": [BadRow("train.jsonl", 9, "be UTF-8", "byte 0xe9"), BadRow("train.jsonl", 8, "have 2 fields")]},
        train=(*GOOD, {"text": 1, "label": "x"}, {"text": 2, "label": "x"}),
        test=({"text": "a", "label": "z"}, {"text": "b", "label": "x"}),
    )
    assert {split: len(part) for split, part in kept.items()} == {"train": 2, "test": 1}
    assert counts.as_json() == {
        "train": {"read": 6, "kept": 2, "skipped": {"have text in `text`": 2, "be UTF-8": 1, "have … fields": 1}},
        "test": {"read": 2, "kept": 1, "skipped": {"have a `label` that training has": 1}},
    }
    assert json.loads(json.dumps(counts.as_json())) == counts.as_json()


def test_values_in_a_reason_do_not_make_it_another_reason():
    class Offsets(Dummy):
        def fault(self, row):
            return (
                f"have its answer `{row['label']}` at offset {len(row['text'])} of `text`"
                if "!" in row["text"]
                else None
            )

    _, counts = check("skip", task=Offsets(), train=(*GOOD, {"text": "!", "label": "p"}, {"text": "!!", "label": "q"}))
    assert counts.splits["train"].skipped == {"have its answer `…` at offset … of `text`": 2}


def test_a_split_that_skipping_empties_is_a_fault():
    assert message("skip", train=GOOD, test=({"text": "", "label": "x"}, {"text": "a", "label": "z"})) == (
        "`tasks.t.data.test` should keep at least one row. Found 2 rows, all skipped: 1 should have text in `text`; "
        "1 should have a `label` that training has."
    )
    assert message("skip", train=({"text": "", "label": "x"},)) == (
        "`tasks.t.data.train` should keep at least one row. Found 1 row, all skipped: 1 should have text in `text`."
    )


def test_what_fitting_raises_is_shown_with_the_task_and_beside_the_rows():
    assert message(train=({"text": "a", "label": "x"}, {"text": "", "label": "y"})).splitlines() == [
        "`train.jsonl:2` should have text in `text`, not ``.",
        "`tasks.t.columns.label` should have two labels or more in training. Found only `x`.",
    ]
