import json
import multiprocessing
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from dummy_task import Dummy, Made, word_tokenizer

from taskloom.data import cache
from taskloom.data.cache import ROWS_PER_BATCH, SEAL, Items, default_folder, tokenised
from taskloom.errors import DataError

ROWS = [{"text": "a b c", "label": 1}, {"text": "play", "label": 0}]


class Counting(Dummy):
    times = 0

    def encode(self, rows, tokenizer):
        Counting.times += 1
        return super().encode(rows, tokenizer)


class Slow(Dummy):
    def encode(self, rows, tokenizer):
        time.sleep(0.5)
        return super().encode(rows, tokenizer)


@pytest.fixture
def counting():
    Counting.times = 0
    return Counting()


def made(tmp_path, *items_of_rows):
    return Items(tokenised(Made(), [{"items": items} for items in items_of_rows], word_tokenizer(), folder=tmp_path))


def item(**more):
    return {"input_ids": [[1, 2]], **more}


def only_folder(tmp_path):
    (folder,) = tmp_path.iterdir()
    return folder


def test_items_know_their_row_and_their_tokens(tmp_path):
    items = made(tmp_path, [item(), {"input_ids": [[1], [2, 3, 4]]}], [], [{"input_ids": [[5]]}])
    assert [items[index] for index in range(len(items))] == [
        {"input_ids": [[1, 2]], "row": 0, "tokens": 2},
        {"input_ids": [[1], [2, 3, 4]], "row": 0, "tokens": 4},
        {"input_ids": [[5]], "row": 2, "tokens": 1},
    ]
    assert items.lengths.tolist() == [2, 3, 1]
    assert items.rows.tolist() == [0, 0, 2]
    assert items.tokens.tolist() == [2, 4, 1]
    assert items.lengths.dtype == items.rows.dtype == np.int64
    assert items[-1]["row"] == 2
    with pytest.raises(IndexError):
        items[3]


def test_an_item_without_sequences_has_length_zero(tmp_path):
    assert made(tmp_path, [{"input_ids": []}, item(), {"input_ids": []}]).lengths.tolist() == [0, 2, 0]


def test_rows_without_any_item_give_an_empty_table(tmp_path):
    items = made(tmp_path, [], [])
    assert len(items) == 0
    assert items.lengths.tolist() == items.rows.tolist() == []


def test_items_are_encoded_once_and_read_back_memory_mapped(tmp_path, counting):
    first = tokenised(counting, ROWS, word_tokenizer(), folder=tmp_path)
    again = tokenised(counting, ROWS, word_tokenizer(), folder=tmp_path)
    assert Counting.times == 1
    assert first.to_list() == again.to_list()
    (file,) = again.cache_files
    assert file["filename"].startswith(str(only_folder(tmp_path)))


def test_other_rows_have_a_folder_of_their_own(tmp_path, counting):
    tokenised(counting, ROWS, word_tokenizer(), folder=tmp_path)
    tokenised(counting, ROWS[:1], word_tokenizer(), folder=tmp_path)
    tokenised(counting, ROWS, word_tokenizer(), folder=tmp_path, key_parts={"prompt": "p"})
    assert len(list(tmp_path.iterdir())) == Counting.times == 3


def test_many_batches_keep_their_rows(tmp_path, counting):
    rows = [{"text": "a b c", "label": number} for number in range(2 * ROWS_PER_BATCH + 1)]
    items = Items(tokenised(counting, rows, word_tokenizer(), folder=tmp_path))
    assert Counting.times == 3
    assert items.rows.tolist() == list(range(len(rows)))
    assert items[ROWS_PER_BATCH]["label"] == ROWS_PER_BATCH
    assert items.lengths.tolist() == [3] * len(rows)


@pytest.mark.parametrize(
    ("early", "late", "read_early", "read_late"),
    [
        (3, 2.5, 3.0, 2.5),
        (2.5, 3, 2.5, 3.0),
        ([], [4], [], [4]),
        ([4], [], [4], []),
        ([], [0.5], [], [0.5]),
        ([[]], [[1], []], [[]], [[1], []]),
        ([1], [0.5], [1.0], [0.5]),
        (None, 3, None, 3),
        (None, "x", None, "x"),
        ([], [], [], []),
        ({"a": []}, {"a": [1]}, {"a": []}, {"a": [1]}),
    ],
)
@pytest.mark.parametrize("between", [0, ROWS_PER_BATCH])
def test_values_that_share_a_kind_share_a_column_across_batches(tmp_path, early, late, read_early, read_late, between):
    fillers = [[item(target=early)]] * between
    items = made(tmp_path, [item(target=early)], *fillers, [item(target=late)])
    assert (items[0]["target"], items[len(items) - 1]["target"]) == (read_early, read_late)


@pytest.mark.parametrize("between", [0, ROWS_PER_BATCH])
def test_a_key_that_only_some_items_have_is_none_elsewhere(tmp_path, between):
    items = made(tmp_path, [item()], *[[item()]] * between, [item(token_type_ids=[[0, 1]])])
    assert items[0]["token_type_ids"] is None
    assert items[len(items) - 1]["token_type_ids"] == [[0, 1]]


def test_values_that_share_no_kind_are_the_fault_of_the_task(tmp_path):
    with pytest.raises(TypeError, match=r"`Made\.encode` gives several kinds in `target`"):
        made(tmp_path, [item(target="a")], [item(target=[1])])
    with pytest.raises(TypeError, match=r"`Made\.encode` gives columns of several kinds"):
        made(tmp_path, *[[item(target="a")]] * ROWS_PER_BATCH, [item(target=[1])])
    assert list(tmp_path.iterdir()) == []


def test_a_task_that_loses_a_row_is_found_out(tmp_path):
    class Loses(Dummy):
        def encode(self, rows, tokenizer):
            return super().encode(rows[1:], tokenizer)

    with pytest.raises(ValueError, match="shorter"):
        tokenised(Loses(), ROWS, word_tokenizer(), folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def flip(folder):
    (path,) = folder.glob("*.arrow")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(folder):
    (path,) = folder.glob("*.arrow")
    path.write_bytes(path.read_bytes()[:-100])


def empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()


def replace_by_file(folder):
    shutil.rmtree(folder)
    folder.write_text("no folder")


def reseal(folder):
    seal = json.loads((folder / SEAL).read_text())
    (folder / SEAL).write_text(json.dumps({**seal, "format": -1}))


def break_state(folder):
    """Damage what datasets reads under a seal that holds, as another version of datasets would."""
    (folder / "state.json").write_text("{}")
    seal = {"format": cache.FORMAT, "key": folder.name, "files": cache._digests(folder)}
    (folder / SEAL).write_text(json.dumps(seal))


@pytest.mark.parametrize(
    "damage",
    [
        flip,
        cut,
        empty,
        replace_by_file,
        reseal,
        break_state,
        lambda folder: (folder / SEAL).unlink(),
        lambda folder: (folder / SEAL).write_text("{"),
        lambda folder: (folder / "state.json").unlink(),
        lambda folder: (folder / "more.arrow").write_text("x"),
    ],
)
def test_a_damaged_folder_is_rebuilt(tmp_path, counting, damage):
    whole = tokenised(counting, ROWS, word_tokenizer(), folder=tmp_path).to_list()
    damage(only_folder(tmp_path))
    assert tokenised(counting, ROWS, word_tokenizer(), folder=tmp_path).to_list() == whole
    assert Counting.times == 2
    assert tokenised(counting, ROWS, word_tokenizer(), folder=tmp_path).to_list() == whole
    assert Counting.times == 2
    assert only_folder(tmp_path).is_dir()


def tokenise_when_told(folder, start, results):
    start.wait()
    items = Items(tokenised(Slow(), ROWS, word_tokenizer(), folder=folder))
    results.put([items[index] for index in range(len(items))])


def test_two_processes_that_race_both_get_the_items_and_leave_one_folder(tmp_path):
    context = multiprocessing.get_context("spawn")
    start, results = context.Event(), context.Queue()
    racers = [context.Process(target=tokenise_when_told, args=(tmp_path, start, results)) for _ in range(2)]
    for racer in racers:
        racer.start()
    start.set()
    found = [results.get(timeout=120) for _ in racers]
    for racer in racers:
        racer.join(timeout=60)
    assert found[0] == found[1]
    assert [racer.exitcode for racer in racers] == [0, 0]
    assert len(list(tmp_path.iterdir())) == 1


def test_the_loser_of_a_race_takes_the_winners_folder(tmp_path, monkeypatch, counting):
    winner = []
    build = cache._build

    def build_second(folder, *arguments):
        build(folder, *arguments)
        if not winner:
            winner.append(True)
            tokenised(counting, ROWS, word_tokenizer(), folder=tmp_path)
            winner.append(only_folder_named(tmp_path).stat().st_ino)

    def only_folder_named(place):
        (folder,) = (path for path in place.iterdir() if not path.name.startswith("."))
        return folder

    monkeypatch.setattr(cache, "_build", build_second)
    assert len(tokenised(counting, ROWS, word_tokenizer(), folder=tmp_path)) == 2
    assert only_folder(tmp_path).stat().st_ino == winner[1]


def test_what_a_killed_process_left_goes_after_a_day_and_other_folders_stay(tmp_path, counting):
    left, fresh, other = tmp_path / f".{'a' * 64}.{'b' * 32}", tmp_path / f".{'c' * 64}.{'d' * 32}", tmp_path / ".ssh"
    for folder in (left, fresh, other):
        folder.mkdir()
    for folder in (left, other):
        os.utime(folder, (0, 0))
    tokenised(counting, ROWS, word_tokenizer(), folder=tmp_path)
    assert [folder.exists() for folder in (left, fresh, other)] == [False, True, True]


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path, counting):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError) as caught:
        tokenised(counting, ROWS, word_tokenizer(), folder=tmp_path / "file" / "tokenised")
    assert str(caught.value) == (
        f"`{tmp_path}/file/tokenised` should be a folder that can be written to. Found Not a directory. "
        "Set TASKLOOM_HOME to a folder with room."
    )


def test_the_default_folder_is_under_taskloom_home(monkeypatch, tmp_path, counting):
    monkeypatch.delenv("TASKLOOM_HOME", raising=False)
    assert default_folder() == Path.home() / ".cache" / "taskloom" / "tokenised"
    monkeypatch.setenv("TASKLOOM_HOME", str(tmp_path))
    tokenised(counting, ROWS, word_tokenizer())
    assert len(list((tmp_path / "tokenised").iterdir())) == 1
