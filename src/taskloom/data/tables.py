"""Tables: CSV with a header, and Parquet."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from taskloom.data.jsonl import BYTE_ORDER_MARK, not_utf8
from taskloom.data.records import BadRow, FileReading, Record
from taskloom.errors import Fault, listed


class _Lines:
    """The lines of a CSV as text, remembering which were not UTF-8.

    A bad line still goes through the parser, its bytes smuggled as surrogates: dropping it here would tear a quoted
    field that runs over several lines, and every later row would be blamed.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.bad: dict[int, tuple[int, int]] = {}

    def __iter__(self) -> Iterator[str]:
        for number, raw in enumerate(self.stream, start=1):
            line = raw.removeprefix(BYTE_ORDER_MARK) if number == 1 else raw
            try:
                yield line.decode("utf-8")
            except UnicodeDecodeError as error:
                self.bad[number] = (line[error.start], error.start + 1)
                yield line.decode("utf-8", "surrogateescape")


def read_csv(path: Path, file: str) -> FileReading:
    """Read a CSV: commas, double quotes, a header; every value is a text.

    Args:
        path: the file.
        file: its name in messages.

    Returns:
        Its rows, each with the line at which it starts, and the records that are none.
    """
    reading = FileReading()
    with path.open("rb") as stream, _long_fields():
        lines = _Lines(stream)
        rows = csv.reader(lines, strict=True)
        header: list[str] | None = None
        while True:
            start = rows.line_num + 1
            try:
                fields = next(rows)
            except StopIteration:
                return reading
            except csv.Error as error:
                if "unexpected end" in str(error):  # one open quote swallows the rest of the file: no row to skip
                    found = f"a quote that opens in the record of line {start} and never closes"
                    reading.faults.append(Fault(file, "close its quotes", found, "Write a quote inside a field twice"))
                    return reading
                reading.bad.append(BadRow(file, start, "be valid CSV", str(error)))
                continue
            if not fields:
                continue
            bad = [number for number in lines.bad if start <= number <= rows.line_num]
            if header is None:
                header = fields
                reading.faults += _header_faults(header, file, [not_utf8(file, n, *lines.bad[n]) for n in bad])
                if reading.faults:
                    return reading
            elif bad:
                reading.bad += [not_utf8(file, number, *lines.bad.pop(number)) for number in bad][:1]
            elif len(fields) != len(header):
                reading.bad.append(_other_length(file, start, len(fields), len(header)))
            else:
                reading.records.append(Record(dict(zip(header, fields, strict=True)), file, start))


def read_parquet(path: Path, file: str) -> FileReading:
    """Read a Parquet file.

    Args:
        path: the file.
        file: its name in messages.

    Returns:
        Its rows, each with its number from 1.
    """
    import pyarrow
    import pyarrow.parquet

    reading = FileReading()
    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            for batch in table.iter_batches(batch_size=10_000):
                first = len(reading.records) + 1
                numbered = enumerate(batch.to_pylist(), start=first)
                reading.records += [Record(row, file, number, "row") for number, row in numbered]
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        found = (str(error).splitlines() or ["an unreadable file"])[0].rstrip(".")
        reading.faults.append(Fault(file, "be a readable Parquet file", found))
    return reading


def _header_faults(header: list[str], file: str, bad: list[BadRow]) -> list[Fault]:
    faults = [each.fault for each in bad]
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        faults.append(Fault(file, "name every column once", f"{listed(twice)} more than once"))
    return faults


def _other_length(file: str, line: int, found: int, expected: int) -> BadRow:
    requirement = f"have {expected} field{'s' if expected > 1 else ''}, as the header has"
    fix = "Put double quotes around a field that holds a comma" if found > expected else ""
    return BadRow(file, line, requirement, f"{found} field{'s' if found > 1 else ''}", fix)


@contextmanager
def _long_fields() -> Iterator[None]:
    """Let a field be longer than the parser's 131,072 characters: a document is one field."""
    before = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # the parser keeps it in a C long
    try:
        yield
    finally:
        csv.field_size_limit(before)
