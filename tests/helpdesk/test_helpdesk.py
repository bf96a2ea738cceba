"""The help desk corpus: the same everywhere, nothing shared between splits, every label right by construction."""

import ast
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import taskloom.helpdesk
from taskloom.errors import DataError
from taskloom.helpdesk import LIMIT_ROWS, TASKS, generate, inventory, write
from taskloom.helpdesk.concerns import TOPICS
from taskloom.helpdesk.grammar import SPLITS, roles_of
from taskloom.helpdesk.message import INTENTS
from taskloom.helpdesk.words import SLOTS

SIZES = {"train": 600, "validation": 120, "test": 240}
FINGERPRINT = """
import hashlib, json
from taskloom.helpdesk import generate
corpus = generate(seed=3, train=40, validation=20, test=20)
print(hashlib.sha256(json.dumps(corpus).encode()).hexdigest())
"""


@pytest.fixture(scope="module")
def corpus():
    return generate()


def texts(task, row):
    """The customer's texts of a row, in lower case."""
    found = [row[name] for name in ("text", "text_pair", "context") if name in row]
    if task == "slots":
        found.append(" ".join(row["tokens"]))
    return [text.lower() for text in found]


def slot_values(rows):
    """slot -> its values in rows of the slots task, in lower case."""
    values = {}
    for row in rows:
        for token, tag in zip(row["tokens"], row["tags"], strict=True):
            if tag.startswith("B-"):
                values.setdefault(tag[2:], []).append([token.lower()])
            elif tag.startswith("I-"):
                values[tag[2:]][-1].append(token.lower())
    return {slot: {" ".join(words) for words in found} for slot, found in values.items()}


def test_corpus_is_the_same_in_processes_with_different_hash_seeds():
    prints = {
        subprocess.run(
            [sys.executable, "-c", FINGERPRINT],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("0", "1", "4711")
    }
    assert len(prints) == 1


def test_another_seed_gives_other_rows():
    assert generate(0, 5, 5, 5) != generate(1, 5, 5, 5)


def test_a_smaller_corpus_is_the_head_of_a_larger_one(corpus):
    small = generate(train=7, validation=3, test=4)
    for task in TASKS:
        for split, size in (("train", 7), ("validation", 3), ("test", 4)):
            assert small[task][split] == corpus[task][split][:size]


def test_every_task_and_split_has_the_size_that_was_asked_for(corpus):
    assert sorted(corpus) == sorted(TASKS)
    for splits in corpus.values():
        assert {split: len(rows) for split, rows in splits.items()} == SIZES


def test_a_split_of_the_largest_size_can_be_generated():
    splits = generate(train=1, validation=LIMIT_ROWS, test=1)
    assert all(len(rows["validation"]) == LIMIT_ROWS for rows in splits.values())


@pytest.mark.parametrize("size", [0, -3, LIMIT_ROWS + 1])
def test_a_wrong_size_is_refused_in_one_sentence_that_names_it(size, tmp_path):
    with pytest.raises(
        DataError, match=rf"`validation` should be a number of rows from 1 to {LIMIT_ROWS}\. Found {size}"
    ):
        write(tmp_path, validation=size)
    assert not list(tmp_path.iterdir())


def test_all_wrong_sizes_are_told_together():
    with pytest.raises(DataError) as caught:
        generate(train=0, test=-1)
    assert [fault.where for fault in caught.value.faults] == ["train", "test"]


def test_a_task_that_runs_out_of_new_rows_says_how_many_it_has(monkeypatch):
    monkeypatch.setitem(taskloom.helpdesk._WRITERS, "intent", lambda dice, split: lambda: {"text": "one", "label": "x"})
    with pytest.raises(DataError, match=r"`train` should be at most 1 rows for `intent`\. Found 2"):
        generate(train=2, validation=1, test=1)


def test_no_text_stands_in_two_splits(corpus):
    home = {}
    for task, splits in corpus.items():
        for split, rows in splits.items():
            for row in rows:
                for text in texts(task, row):
                    assert home.setdefault(text, split) == split


def test_no_row_of_a_split_repeats_another(corpus):
    for task, splits in corpus.items():
        for rows in splits.values():
            read = [(tuple(texts(task, row)), row.get("question")) for row in rows]
            assert len(set(read)) == len(read)


def test_no_wording_and_no_value_stands_in_two_splits():
    homes = {}
    for kind, bank in inventory().items():
        assert tuple(bank) == SPLITS
        for split in SPLITS:
            assert len(set(bank[split])) == len(bank[split]) > 0, kind
            for wording in bank[split]:
                assert homes.setdefault(wording.lower(), split) == split, wording


def test_every_intent_has_enough_templates_in_every_split():
    banks = {kind: bank for kind, bank in inventory().items() if kind.startswith("intent/")}
    assert len(banks) >= 10
    for bank in banks.values():
        assert len(bank["train"]) >= 10
        assert len(bank["validation"]) >= 4
        assert len(bank["test"]) >= 4


def test_every_role_of_a_template_is_known():
    for bank in inventory().values():
        for split in SPLITS:
            for wording in bank[split]:
                roles = roles_of(wording)
                assert set(roles) <= set(SLOTS)
                assert len(set(roles)) == len(roles), wording


def test_a_fact_tells_exactly_its_own_role():
    for kind, bank in inventory().items():
        if kind.startswith("fact/"):
            assert all(
                roles_of(wording) == (kind.removeprefix("fact/"),) for split in SPLITS for wording in bank[split]
            )


def test_every_reply_bank_can_answer_a_message_without_values():
    for kind, bank in inventory().items():
        if kind.startswith("reply/"):
            assert all(any(not roles_of(wording) for wording in bank[split]) for split in SPLITS), kind


def test_slot_values_of_test_and_validation_are_never_seen_in_train(corpus):
    seen = {split: slot_values(corpus["slots"][split]) for split in SPLITS}
    for slot in set(SLOTS.values()):
        train, validation, test = (seen[split][slot] for split in SPLITS)
        assert not train & validation
        assert not train & test
        assert not validation & test


def test_tags_are_valid_bio_and_as_many_as_tokens(corpus):
    for rows in corpus["slots"].values():
        for row in rows:
            assert len(row["tokens"]) == len(row["tags"])
            assert all(token and not any(sign.isspace() for sign in token) for token in row["tokens"])
            before = "O"
            for tag in row["tags"]:
                assert tag == "O" or tag[:2] in {"B-", "I-"}
                assert not tag.startswith("I-") or before[2:] == tag[2:]
                before = tag


def test_answers_stand_at_their_offsets_and_only_there(corpus):
    for rows in corpus["answer"].values():
        assert len({row["id"] for row in rows}) == len(rows)
        for row in rows:
            [answer], [start] = row["answers"]["text"], row["answers"]["answer_start"]
            assert answer.strip() == answer != ""
            assert row["context"][start : start + len(answer)] == answer
            assert row["context"].count(answer) == 1, row


def test_every_label_of_validation_and_test_occurs_in_train(corpus):
    for split in ("validation", "test"):
        for task, name in (("intent", "label"), ("urgency", "label"), ("similarity", "label"), ("reply", "label")):
            assert {row[name] for row in corpus[task][split]} <= {row[name] for row in corpus[task]["train"]}, task
        for task, name in (("slots", "tags"), ("topics", "labels")):
            labels = {kind: {label for row in corpus[task][kind] for label in row[name]} for kind in SPLITS}
            assert labels[split] <= labels["train"]
            assert labels[split]


def test_intents_are_balanced(corpus):
    for rows in corpus["intent"].values():
        counts = Counter(row["label"] for row in rows)
        assert sorted(counts) == list(INTENTS)
        assert max(counts.values()) / len(rows) < 0.35


def test_urgency_is_graded_between_zero_and_one(corpus):
    for rows in corpus["urgency"].values():
        counts = Counter(row["label"] for row in rows)
        assert len(counts) >= 5
        assert min(counts) >= 0.0
        assert max(counts) <= 1.0
        assert max(counts.values()) / len(rows) < 0.35


def test_similarity_is_graded_in_halves_and_uses_its_whole_range(corpus):
    for rows in corpus["similarity"].values():
        labels = {row["label"] for row in rows}
        assert {0.0, 1.0, 3.0, 5.0} <= labels <= {step / 2 for step in range(11)}


def test_topics_are_none_to_three_known_names_in_order(corpus):
    for rows in corpus["topics"].values():
        assert {len(row["labels"]) for row in rows} == {0, 1, 2, 3}
        for row in rows:
            assert row["labels"] == sorted(set(row["labels"]))
            assert set(row["labels"]) <= set(TOPICS)


def test_the_right_reply_stands_at_every_place_equally_often(corpus):
    for rows in corpus["reply"].values():
        counts = Counter(row["label"] for row in rows)
        assert sorted(counts) == [0, 1, 2, 3]
        assert max(counts.values()) - min(counts.values()) <= 4
        assert all(len(set(row["choices"])) == 4 for row in rows)


def test_some_messages_are_in_lower_case_and_most_are_not(corpus):
    lower = [row["text"] == row["text"].lower() for row in corpus["intent"]["train"]]
    assert 0.05 < sum(lower) / len(lower) < 0.25


def test_files_hold_the_rows_of_generate_and_nothing_else_is_left(tmp_path):
    write(tmp_path / "desk", seed=5, train=3, validation=2, test=1)
    corpus = generate(5, 3, 2, 1)
    files = sorted(path.relative_to(tmp_path / "desk").as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert files == sorted(f"{task}/{split}.jsonl" for task in TASKS for split in SPLITS)
    for task, splits in corpus.items():
        for split, rows in splits.items():
            text = (tmp_path / "desk" / task / f"{split}.jsonl").read_text(encoding="utf-8")
            assert [json.loads(line) for line in text.splitlines()] == rows


def test_a_failed_write_leaves_the_old_file_whole(tmp_path, monkeypatch):
    write(tmp_path, seed=0, train=2, validation=2, test=2)
    before = (tmp_path / "answer" / "train.jsonl").read_bytes()

    def broken(handle):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="no space left"):
        write(tmp_path, seed=1, train=2, validation=2, test=2)
    assert (tmp_path / "answer" / "train.jsonl").read_bytes() == before
    assert sorted(path.name for path in (tmp_path / "answer").iterdir()) == [
        "test.jsonl",
        "train.jsonl",
        "validation.jsonl",
    ]


def test_the_corpus_needs_the_standard_library_and_the_errors_alone():
    for path in Path(taskloom.helpdesk.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                ours = name == "taskloom.errors" or name.startswith("taskloom.helpdesk")
                assert ours or name.split(".")[0] in sys.stdlib_module_names, (path.name, name)
