import csv

import pyarrow
import pyarrow.parquet
import pytest

from taskloom.data.tables import read_csv, read_parquet


@pytest.fixture
def read(tmp_path):
    def read_bytes(content):
        path = tmp_path / "train.csv"
        path.write_bytes(content)
        return read_csv(path, "data/train.csv")

    return read_bytes


def only_bad(reading):
    assert not reading.faults
    (bad,) = reading.bad
    return str(bad.fault)


def only_fault(reading):
    assert not reading.records
    (fault,) = reading.faults
    return str(fault)


def test_csv_values_are_texts(read):
    (record,) = read(b"text,label\nplay,1\n").records
    assert record.row == {"text": "play", "label": "1"}


def test_a_csv_row_stands_at_the_line_where_it_starts(read):
    reading = read(b'text,label\n"one\n\ntwo",a\n\nthree,b\n')
    assert [(record.row["text"], record.line) for record in reading.records] == [("one\n\ntwo", 2), ("three", 6)]
    assert reading.records[0].place == "data/train.csv:2"


def test_csv_lets_byte_order_mark_crlf_and_odd_line_separators_pass(read):
    reading = read('\ufefftext,label\r\n"a\u2028b",x\r\n'.encode())
    assert [record.row for record in reading.records] == [{"text": "a\u2028b", "label": "x"}]


def test_a_csv_row_of_another_length_is_named(read):
    message = only_bad(read(b"text,label\nplay, please,a\n"))
    assert message == (
        "`data/train.csv:2` should have 2 fields, as the header has. Found 3 fields. "
        "Put double quotes around a field that holds a comma."
    )
    message = only_bad(read(b"text,label\nplay\n"))
    assert message == "`data/train.csv:2` should have 2 fields, as the header has. Found 1 field."


def test_a_csv_line_that_is_not_utf8_is_named_and_tears_no_quoted_field(read):
    reading = read(b'text,label\n"one\ncaf\xe9\ntwo",a\nthree,b\n')
    assert only_bad(reading) == (
        "`data/train.csv:3` should be UTF-8. Found byte 0xe9 at byte 4 of the line. Save the file as UTF-8."
    )
    assert [record.line for record in reading.records] == [5]


def test_a_csv_record_with_two_bad_lines_is_one_row(read):
    assert len(read(b'text\n"\xe9\n\xe9"\nb\n').bad) == 1


def test_a_csv_header_that_is_not_utf8_is_a_fault_of_the_file(read):
    assert only_fault(read(b"t\xe9xt,label\nplay,a\n")).startswith("`data/train.csv:1` should be UTF-8.")


def test_a_column_named_twice_is_a_fault_of_the_file(read):
    message = only_fault(read(b"text,text\nplay,a\n"))
    assert message == "`data/train.csv` should name every column once. Found `text` more than once."


def test_text_after_a_closing_quote_is_named(read):
    reading = read(b'text,label\n"a"b,c\nd,e\n')
    assert only_bad(reading) == "`data/train.csv:2` should be valid CSV. Found ',' expected after '\"'."
    assert [record.line for record in reading.records] == [3]


def test_an_open_quote_cannot_be_skipped_because_it_swallows_the_rest(read):
    reading = read(b'text,label\na,b\n"c,d\ne,f\n')
    (fault,) = reading.faults
    assert str(fault) == (
        "`data/train.csv` should close its quotes. Found a quote that opens in the record of line 3 and never closes. "
        "Write a quote inside a field twice."
    )


def test_a_field_may_be_a_long_document_and_the_parser_is_left_as_it_was(read):
    before = csv.field_size_limit()
    (record,) = read(b"text\n" + b"a" * 200_000).records
    assert len(record.row["text"]) == 200_000
    assert csv.field_size_limit() == before


def test_parquet_rows_are_numbered_from_one(tmp_path):
    path = tmp_path / "train.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a", None], "tags": [["O"], []]}), path)
    records = read_parquet(path, "data/train.parquet").records
    assert [(record.row, record.place) for record in records] == [
        ({"text": "a", "tags": ["O"]}, "data/train.parquet row 1"),
        ({"text": None, "tags": []}, "data/train.parquet row 2"),
    ]


def test_a_broken_parquet_file_is_a_fault_of_the_file(tmp_path):
    path = tmp_path / "train.parquet"
    path.write_bytes(b"no parquet at all")
    message = only_fault(read_parquet(path, "data/train.parquet"))
    assert message.startswith("`data/train.parquet` should be a readable Parquet file. Found Parquet magic bytes not")
    assert "\n" not in message
