import json

import pytest
from dummy_task import Dummy

from taskloom.data import Made, load
from taskloom.errors import DataError


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(tmp_path, name, *lines):
    tmp_path.joinpath(name).write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))


def rows(*texts):
    return [{"sentence": text, "intent": "xy"[number % 2]} for number, text in enumerate(texts)]


COLUMNS = {"text": "sentence", "label": "intent"}


def test_a_folder_becomes_a_corpus(tmp_path):
    write(tmp_path, "train.jsonl", *rows("a", "b", "c", "d", "e"))
    write(tmp_path, "test.jsonl", *rows("B ", "z"))
    task = Dummy()
    corpus = load("intent", tmp_path, task, columns=COLUMNS)
    assert {split: len(part) for split, part in corpus.splits.items()} == {"train": 4, "validation": 1, "test": 2}
    assert corpus.splits["test"][0] == {"text": "B ", "label": "x"}
    assert corpus.places["test"] == [f"{tmp_path}/test.jsonl:1", f"{tmp_path}/test.jsonl:2"]
    assert corpus.made == (Made("validation", 1, 1, "near-duplicate"),)
    assert corpus.leaks == {("train", "test"): 1}
    assert corpus.counts.as_json()["train"] == {"read": 5, "kept": 5, "skipped": {}}
    assert task.labels == ["x", "y"]


def test_all_faults_of_lines_and_rows_are_one_error(tmp_path):
    write(tmp_path, "train.jsonl", *rows("a", "b"), "{", {"sentence": "", "intent": "x"}, "[]")
    write(tmp_path, "test.jsonl", {"sentence": "a", "intent": "q"}, "3")
    with pytest.raises(DataError) as caught:
        load("intent", ".", Dummy(), columns=COLUMNS)
    assert [fault.where for fault in caught.value.faults] == [
        "train.jsonl:3",
        "train.jsonl:4",
        "train.jsonl:5",
        "test.jsonl:1",
        "test.jsonl:2",
    ]


def test_faults_of_columns_and_lines_are_one_error(tmp_path):
    write(tmp_path, "train.jsonl", *rows("a", "b"), "{")
    with pytest.raises(DataError) as caught:
        load("intent", "train.jsonl", Dummy(), columns={"text": "sentense", "label": "intent"})
    assert str(caught.value).splitlines() == [
        "`tasks.intent.columns.text` should be a column of `train.jsonl`. Found `sentense`; the columns are "
        "['sentence', 'intent']. Write `text: sentence`.",
        '`train.jsonl:3` should be valid JSON. Found "Expecting property name enclosed in double quotes" at column 2.',
    ]


def test_a_missing_file_and_broken_lines_are_one_error(tmp_path):
    write(tmp_path, "train.jsonl", *rows("a", "b"), "{")
    with pytest.raises(DataError) as caught:
        load("intent", {"train": "train.jsonl", "test": "gone.jsonl"}, Dummy(), columns=COLUMNS)
    assert [fault.where for fault in caught.value.faults] == ["tasks.intent.data.test", "train.jsonl:3"]


def test_skipping_counts_lines_and_rows_together(tmp_path):
    write(tmp_path, "train.jsonl", *rows(*"abcdef"), "{", {"sentence": "", "intent": "x"})
    corpus = load("intent", "train.jsonl", Dummy(), columns=COLUMNS, bad_rows="skip")
    assert corpus.counts.as_json() == {
        "train": {"read": 8, "kept": 6, "skipped": {"be valid JSON": 1, "have text in `text`": 1}}
    }
    assert sum(map(len, corpus.splits.values())) == 6


def test_a_label_that_only_a_made_split_has_is_known(tmp_path):
    data = [{"text": text, "label": text} for text in "abcdefgh"]
    task = Dummy()
    corpus = load("intent", data, task)
    assert task.labels == list("abcdefgh")
    assert corpus.places["test"] == [f"tasks.intent.data.train row {ord(corpus.splits['test'][0]['text']) - 96}"]


def test_splits_are_made_by_group_and_seed_and_share():
    data = [{"text": f"t{n}", "label": n % 2, "who": n % 10} for n in range(40)]
    corpus = load("t", data, Dummy(), columns={"group": "who"}, group="group", validation=0, test=0.2, seed=3)
    assert corpus.made == (Made("test", 8, 2, "group"),)
    assert len({row["group"] for row in corpus.splits["test"]}) == 2


def test_a_training_file_that_is_too_small_names_the_task():
    with pytest.raises(DataError, match=r"^`tasks\.tiny\.data\.train` should hold enough texts"):
        load("tiny", [{"text": "a", "label": 1}, {"text": "b", "label": 2}], Dummy())
