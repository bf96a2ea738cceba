"""JSON Lines: one object per line, UTF-8."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from taskloom.data.records import BadRow, FileReading, Record
from taskloom.errors import Fault

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
KINDS = {list: "a list", str: "a text", int: "a number", float: "a number", bool: "a truth value", type(None): "null"}


def read_jsonl(path: Path, file: str) -> FileReading:
    """Read a file of JSON Lines; blank lines, a byte order mark and CRLF are let pass.

    Args:
        path: the file.
        file: its name in messages.

    Returns:
        Its rows, each with its line, and the lines that are none.
    """
    reading = FileReading()
    # Binary lines end at \n alone: text mode, or str.splitlines, would break a row at U+2028 or U+0085.
    with path.open("rb") as stream:
        for number, raw in enumerate(stream, start=1):
            line = raw.removeprefix(BYTE_ORDER_MARK) if number == 1 else raw
            if not line.strip():
                continue
            if not reading.records and not reading.bad and _opens_array(path, line):
                fix = "Write every object on a line of its own, without the brackets and commas around them"
                reading.faults.append(Fault(file, "hold one JSON object per line", "a JSON array", fix))
                return reading
            parsed = parse_line(line, file, number)
            if isinstance(parsed, BadRow):
                reading.bad.append(parsed)
            else:
                reading.records.append(parsed)
    return reading


def parse_line(line: bytes, file: str, number: int) -> Record | BadRow:
    """Turn one line into a row, or say why it is none."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        return not_utf8(file, number, line[error.start], error.start + 1)
    try:
        value = json.loads(text.rstrip())  # else the end of the line would count as a line of its own
    except json.JSONDecodeError as error:
        return BadRow(file, number, "be valid JSON", f'"{error.msg}" at column {error.colno}')
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, a thousand nested lists
        return BadRow(file, number, "be valid JSON", str(error))
    if not isinstance(value, dict):
        return BadRow(file, number, "be a JSON object", KINDS[type(value)], 'Write {"column": value, ...}')
    # Half a surrogate pair passes JSON and then fails in every tokenizer; only an escape can bring one.
    if b"\\u" in line and _has_half_character(value):
        return BadRow(file, number, "hold whole characters", "half of a surrogate pair (such as `\\ud83d`)")
    return Record(value, file, number)


def not_utf8(file: str, number: int, byte: int, column: int) -> BadRow:
    """Say that a line is not UTF-8."""
    return BadRow(file, number, "be UTF-8", f"byte 0x{byte:02x} at byte {column} of the line", "Save the file as UTF-8")


def _opens_array(path: Path, line: bytes) -> bool:
    """A `.json` file is often one array over many lines: one fault then says more than one per line."""
    return path.suffix.lower() == ".json" and line.lstrip().startswith(b"[")


def _has_half_character(value: dict[str, Any]) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False
