import importlib.util
import subprocess
import sys

import pytest
from dummy_task import Dummy, word_tokenizer

from taskloom.data.cache_key import content_key

ROWS = [{"text": "a b", "label": "x"}]


def key(task=None, rows=ROWS, tokenizer=None, **key_parts):
    return content_key(task or Dummy(), rows, tokenizer or word_tokenizer(), key_parts)


def fitted(*labels):
    task = Dummy()
    task.labels = list(labels)
    return task


@pytest.mark.parametrize(
    "other",
    [
        lambda: key(Dummy(max_length=9)),
        lambda: key(fitted("x")),
        lambda: key(rows=[{"text": "a b", "label": "y"}]),
        lambda: key(rows=ROWS * 2),
        lambda: key(rows=[{"text": "a b", "label": "x", "more": None}]),
        lambda: key(tokenizer=word_tokenizer("b a")),
        lambda: key(prompt="p"),
    ],
)
def test_whatever_items_depend_on_changes_the_key(other):
    assert other() != key()


def test_the_order_of_columns_does_not_change_the_key():
    assert key(rows=[{"label": "x", "text": "a b"}]) == key()


def test_a_tokenizer_that_was_used_keeps_its_key():
    tokenizer = word_tokenizer()
    tokenizer(["a b c", "a"], truncation=True, max_length=2, padding=True)
    assert key(tokenizer=tokenizer) == key()


def test_an_attribute_without_a_canonical_form_is_left_out():
    task = Dummy()
    task.lookup = object()
    assert key(task) == key()


def test_dates_and_half_characters_have_a_key():
    import datetime

    assert key(rows=[{"text": "\ud83d", "when": datetime.date(2026, 1, 1)}]) != key()


def test_another_process_finds_the_same_key(tmp_path):
    code = "import test_cache_key; print(test_cache_key.key())"
    folder = __file__.rpartition("/")[0]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder)
    assert done.stdout.strip() == key()


def test_a_changed_source_changes_the_key(tmp_path, monkeypatch):
    path, beside = tmp_path / "written_task.py", tmp_path / "_own.py"
    keys = []
    for file, text in (
        (path, "from dummy_task import Dummy\nclass Written(Dummy): pass\n"),
        (path, "#"),
        (beside, "#"),
    ):
        with file.open("a") as stream:
            stream.write(text)
        spec = importlib.util.spec_from_file_location("written_task", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setitem(sys.modules, "written_task", module)  # where inspect asks for the file of a class
        keys.append(key(module.Written()))
    assert len(set(keys)) == 3


def test_a_class_typed_at_a_prompt_has_a_key_of_this_process():
    typed = type("Typed", (Dummy,), {"__module__": "__nowhere__"})
    assert key(typed()) == key(typed())
