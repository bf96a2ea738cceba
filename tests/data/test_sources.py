import subprocess
import sys

import pyarrow
import pyarrow.parquet
import pytest

from taskloom.data.sources import read
from taskloom.errors import DataError

LINE = '{"text": "a"}\n'


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(tmp_path, **files):
    for name, content in files.items():
        path = tmp_path / "data" / name.replace("__", ".")
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, encoding="utf-8")


def message(data, **options):
    with pytest.raises(DataError) as caught:
        read("tasks.t", data, **options)
    return str(caught.value)


def places(splits):
    return {split: [record.place for record in records] for split, records in splits.items()}


def test_a_folder_gives_its_splits_whatever_their_kind(tmp_path):
    write(tmp_path, train__csv="text\na\n", dev__jsonl=LINE, SOURCE__md="# from", notes__jsonl="broken")
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a"]}), tmp_path / "data" / "test.parquet")
    assert places(read("tasks.t", "data")) == {
        "train": ["data/train.csv:2"],
        "validation": ["data/dev.jsonl:1"],
        "test": ["data/test.parquet row 1"],
    }


@pytest.mark.parametrize("name", ["dev", "valid", "val", "validation"])
def test_validation_has_four_names(tmp_path, name):
    write(tmp_path, **{"train__json": LINE, f"{name}__json": LINE})
    assert list(read("tasks.t", tmp_path / "data")) == ["train", "validation"]


def test_one_file_is_train_whatever_its_name(tmp_path):
    write(tmp_path, reviews__jsonl=LINE)
    assert places(read("tasks.t", "data/reviews.jsonl")) == {"train": ["data/reviews.jsonl:1"]}


def test_a_mapping_names_files_or_rows(tmp_path):
    write(tmp_path, a__jsonl=LINE)
    splits = read("tasks.t", {"test": [{"text": "x"}], "val": "data/a.jsonl", "train": ({"text": "y"},)})
    assert places(splits) == {
        "train": ["tasks.t.data.train row 1"],
        "validation": ["data/a.jsonl:1"],
        "test": ["tasks.t.data.test row 1"],
    }


def test_rows_in_memory_are_train_and_are_copied():
    rows = [{"text": "a"}]
    (record,) = read("tasks.t", rows)["train"]
    assert record.row == rows[0]
    assert record.row is not rows[0]


def test_a_missing_path_is_answered_with_the_nearest(tmp_path):
    write(tmp_path, train__jsonl=LINE)
    assert message("data/trian.jsonl") == (
        "`tasks.t.data` should be a file or folder that exists. Found `data/trian.jsonl`. Did you mean `train.jsonl`?"
    )
    assert message("nowhere/else/train.csv") == (
        "`tasks.t.data` should be a file or folder that exists. Found `nowhere/else/train.csv`. Check the path."
    )


def test_a_folder_without_train_says_what_it_has(tmp_path):
    write(tmp_path, test__jsonl=LINE, README__md="")
    assert message("data") == (
        "`data` should hold a train file (`train.jsonl`, `.json`, `.csv` or `.parquet`). "
        "Found `README.md`, `test.jsonl`."
    )
    (tmp_path / "empty").mkdir()
    assert message("empty").endswith("Found an empty folder.")


def test_two_files_of_one_split_are_a_fault(tmp_path):
    write(tmp_path, train__jsonl=LINE, dev__jsonl=LINE, val__csv="text\na\n")
    assert message("data") == (
        "`data` should hold one validation file. Found `dev.jsonl` and `val.csv`. "
        "Remove one, or name the files one by one."
    )


def test_another_ending_is_a_fault(tmp_path):
    write(tmp_path, train__txt="a")
    assert message("data/train.txt") == (
        "`data/train.txt` should end in `.jsonl`, `.json`, `.csv` or `.parquet`. Found `.txt`."
    )


@pytest.mark.parametrize(
    ("name", "content"), [("train.jsonl", "\n\n"), ("train.csv", "text,label\n"), ("train.csv", "")]
)
def test_a_split_without_rows_is_a_fault(tmp_path, name, content):
    write(tmp_path, **{name: content})
    assert message(f"data/{name}") == f"`data/{name}` should hold at least one row. Found none."


def test_an_empty_list_is_a_fault():
    assert message([]) == "`tasks.t.data.train` should hold at least one row. Found none."


def test_all_faults_of_all_files_are_gathered(tmp_path):
    write(tmp_path, train__jsonl=f"{LINE}[1]\n{{\n", test__csv="text,label\na\n")
    lines = message({"train": "data/train.jsonl", "dev": "gone/no.jsonl", "test": "data/test.csv"}).splitlines()
    assert [line.split(" should ")[0] for line in lines] == [
        "`tasks.t.data.dev`",
        "`data/train.jsonl:2`",
        "`data/train.jsonl:3`",
        "`data/test.csv:2`",
    ]
    assert lines[0] == ("`tasks.t.data.dev` should be a file that exists. Found `gone/no.jsonl`. Check the path.")


def test_skipping_leaves_bad_lines_out(tmp_path):
    write(tmp_path, train__jsonl=f"{LINE}[1]\n{{\n{LINE}")
    assert places(read("tasks.t", "data", bad_rows="skip")) == {"train": ["data/train.jsonl:1", "data/train.jsonl:4"]}


def test_a_mapping_of_other_words_is_a_fault():
    assert message({"train": [{"a": 1}], "tset": [{"a": 1}]}) == (
        "`tasks.t.data.tset` should be train, validation or test. Found `tset`. Did you mean `test`?"
    )
    assert message({"train": [{"a": 1}], "dev": [{"a": 1}], "val": [{"a": 1}]}) == (
        "`tasks.t.data.val` should name each split once. Found a second `validation`."
    )
    assert message({"train": 3}) == "`tasks.t.data.train` should be a file or a list of rows. Found `3`."


def test_train_must_be_there():
    assert message({"test": [{"a": 1}]}) == (
        "`tasks.t.data` should have a train split. Found only `test`. Add a train file, or call one of them train."
    )


def test_data_of_another_kind_is_a_fault():
    assert message(3) == (
        "`tasks.t.data` should be a folder, a file, a hub data set, rows, or a mapping of splits to files or rows. "
        "Found `3`."
    )


def test_a_row_in_memory_that_is_no_mapping_is_named():
    assert message([{"a": 1}, "b"]) == (
        "`tasks.t.data.train row 2` should be a mapping of columns to values. Found `str`."
    )


def test_a_file_that_cannot_be_read_is_a_fault(tmp_path, monkeypatch):
    write(tmp_path, train__jsonl=LINE)

    def refuse(path, name):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setitem(sys.modules["taskloom.data.sources"].READERS, ".jsonl", refuse)
    assert message("data") == "`data/train.jsonl` should be a file that can be read. Found Permission denied."


def test_reading_json_lines_imports_no_heavy_library(tmp_path):
    write(tmp_path, train__jsonl=LINE)
    code = (
        "import sys; from taskloom.data import read; read('tasks.t', 'data');"
        "print(sorted({'torch', 'numpy', 'datasets', 'pyarrow', 'scipy', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
