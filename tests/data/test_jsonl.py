import json

import pytest

from taskloom.data.jsonl import read_jsonl


@pytest.fixture
def read(tmp_path):
    def read_bytes(content, name="train.jsonl"):
        path = tmp_path / name
        path.write_bytes(content)
        return read_jsonl(path, f"data/{name}")

    return read_bytes


def only_fault(reading):
    assert not reading.faults
    (bad,) = reading.bad
    return str(bad.fault)


def test_rows_know_the_line_they_stand_on(read):
    records = read(b'{"a": 1}\n{"a": 2}\n').records
    assert [(record.row, record.place) for record in records] == [
        ({"a": 1}, "data/train.jsonl:1"),
        ({"a": 2}, "data/train.jsonl:2"),
    ]


def test_a_byte_order_mark_crlf_and_blank_lines_are_let_pass(read):
    reading = read(b'\xef\xbb\xbf{"a": 1}\r\n\r\n  \n{"a": 2}')
    assert [(record.row["a"], record.line) for record in reading.records] == [(1, 1), (2, 4)]
    assert not reading.bad


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
def test_only_a_newline_ends_a_line(read, character):
    text = json.dumps({"a": f"one{character}two"}, ensure_ascii=False)
    (record,) = read(text.encode()).records
    assert record.row["a"] == f"one{character}two"


def test_a_line_that_is_not_utf8_is_named(read):
    message = only_fault(read(b'{"a": 1}\n{"a": "caf\xe9"}\n{"a": 2}\n'))
    assert message == (
        "`data/train.jsonl:2` should be UTF-8. Found byte 0xe9 at byte 11 of the line. Save the file as UTF-8."
    )


def test_broken_json_is_named_with_its_column(read):
    message = only_fault(read(b'{"a": 1}\n\n{"a": 1\n'))
    assert message == "`data/train.jsonl:3` should be valid JSON. Found \"Expecting ',' delimiter\" at column 8."


def test_json_too_deep_or_too_long_for_the_parser_is_a_fault_and_no_crash(read):
    reading = read(b'{"a": ' + b"[" * 100_000 + b'\n{"a": ' + b"1" * 10_000 + b"}\n")
    assert [(bad.line, bad.requirement) for bad in reading.bad] == [(1, "be valid JSON"), (2, "be valid JSON")]


@pytest.mark.parametrize(
    ("line", "kind"),
    [(b"[1]", "a list"), (b'"x"', "a text"), (b"3", "a number"), (b"true", "a truth value"), (b"null", "null")],
)
def test_a_line_that_is_no_object_is_named(read, line, kind):
    message = only_fault(read(b'{"a": 1}\n' + line))
    assert message == f'`data/train.jsonl:2` should be a JSON object. Found {kind}. Write {{"column": value, ...}}.'


def test_half_a_surrogate_pair_is_a_fault_because_no_tokenizer_can_read_it(read):
    message = only_fault(read(b'{"a": "\\ud83d"}\n{"a": "\\ud83d\\ude00"}'))
    assert message == (
        "`data/train.jsonl:1` should hold whole characters. Found half of a surrogate pair (such as `\\ud83d`)."
    )


def test_a_json_file_that_is_one_array_is_one_fault(read):
    reading = read(b'[\n {"a": 1},\n {"a": 2}\n]\n', name="train.json")
    (fault,) = reading.faults
    assert str(fault) == (
        "`data/train.json` should hold one JSON object per line. Found a JSON array. "
        "Write every object on a line of its own, without the brackets and commas around them."
    )
