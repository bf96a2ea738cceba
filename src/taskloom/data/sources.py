"""Where rows come from: a folder, a file, a mapping, memory, or the Hugging Face hub."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from taskloom.data.hub import HUB_NAME, read_hub
from taskloom.data.jsonl import read_jsonl
from taskloom.data.records import SPLITS, BadRow, BadRows, FileReading, Reading, Record, in_order
from taskloom.data.tables import read_csv, read_parquet
from taskloom.errors import DataError, Fault, listed, nearest

READERS: dict[str, Callable[[Path, str], FileReading]] = {
    ".jsonl": read_jsonl,
    ".json": read_jsonl,
    ".csv": read_csv,
    ".parquet": read_parquet,
}
ENDINGS = "end in `.jsonl`, `.json`, `.csv` or `.parquet`"
ALIASES = {"dev": "validation", "valid": "validation", "val": "validation"}

Data = str | os.PathLike[str] | Sequence[Mapping[str, Any]] | Mapping[str, Any]
"""A path, a hub name, a list of rows, or a mapping of split -> path or rows."""


def read(where: str, data: Data, *, bad_rows: BadRows = "refuse") -> dict[str, list[Record]]:
    """Read a task's data.

    Args:
        where: the task's key in the run file, such as ``tasks.intent``, for messages.
        data: a folder with train, validation (or dev, valid, val) and test files; one file, which is then train; rows
            in memory, which are then train; a mapping of split -> file or rows; or a hub name ``org/name``,
            ``org/name:config``, with an optional ``@revision``. A path that exists wins over a hub name.
        bad_rows: "refuse" raises on lines that are no rows, "skip" leaves them out.

    Returns:
        Split -> its rows, in the order train, validation, test.

    Raises:
        DataError: all that is wrong, each with its file and line.
    """
    reading = survey(where, data)
    faults = refusals(reading, bad_rows)
    if faults:
        raise DataError(*faults)
    return reading.splits


def survey(where: str, data: Any) -> Reading:
    """Read a task's data and gather what is wrong instead of raising; arguments as of `read`."""
    if isinstance(data, str | os.PathLike):
        reading = _survey_path(where, os.fspath(data))
    elif isinstance(data, Mapping):
        reading = _survey_mapping(where, data)
    elif isinstance(data, Sequence):
        reading = Reading(f"{where}.data")
        reading.add("train", _read_memory(data, f"{where}.data.train"))
    else:
        requirement = "be a folder, a file, a hub data set, rows, or a mapping of splits to files or rows"
        reading = Reading(f"{where}.data", faults=[Fault(f"{where}.data", requirement, f"`{data!r}`")])
    if not reading.faults and "train" not in reading.splits:
        fix = "Add a train file, or call one of them train"
        found = f"only {listed(list(reading.splits))}" if reading.splits else "none of train, validation and test"
        reading.faults.append(Fault(f"{where}.data", "have a train split", found, fix))
    reading.splits = {split: reading.splits[split] for split in SPLITS if split in reading.splits}
    return reading


def refusals(reading: Reading, bad_rows: BadRows) -> list[Fault]:
    """List what of a reading is to be refused."""
    faults = list(reading.faults)
    if bad_rows == "refuse":
        faults += [each.fault for split in reading.splits for each in in_order(reading.bad[split])]
    return faults


def _survey_path(where: str, name: str) -> Reading:
    path = Path(name).expanduser()
    reading = Reading(name)
    if path.is_dir():
        files, reading.faults = _split_files(path, name)
        for split, file in files.items():
            reading.add(split, _read_file(file, str(Path(name) / file.name)))
    elif path.is_file():
        reading.add("train", _read_file(path, name))
    elif HUB_NAME.fullmatch(name) and path.suffix.lower() not in READERS and not path.parent.is_dir():
        # With a folder of that first name here, a slip in a path is likelier than a hub name, and costs no network.
        _survey_hub(where, name, reading)
    else:
        reading.faults.append(_missing(f"{where}.data", path, name))
    return reading


def _survey_hub(where: str, name: str, reading: Reading) -> None:
    try:
        found = read_hub(name)
    except LookupError as error:
        requirement = "be a folder, a file or a data set of the Hugging Face hub"
        reason = f"`{name}`, which is no path here and did not load from the hub ({error})"
        reading.faults.append(Fault(f"{where}.data", requirement, reason, "Check the name and the network"))
        return
    _add_splits(f"{where}.data", found, reading, strict=False)


def _survey_mapping(where: str, data: Mapping[str, Any]) -> Reading:
    reading = Reading(f"{where}.data")
    parts: dict[str, FileReading] = {}
    for split, source in data.items():
        key = f"{where}.data.{split}"
        if isinstance(source, str | os.PathLike):
            name = os.fspath(source)
            path = Path(name).expanduser()
            exists = path.is_file()
            parts[split] = _read_file(path, name) if exists else FileReading(faults=[_missing(key, path, name, "file")])
        elif isinstance(source, Sequence):
            parts[split] = _read_memory(source, key)
        else:
            parts[split] = FileReading(faults=[Fault(key, "be a file or a list of rows", f"`{source!r}`")])
    _add_splits(f"{where}.data", parts, reading, strict=True)
    return reading


def _add_splits(where: str, parts: Mapping[str, FileReading], reading: Reading, *, strict: bool) -> None:
    """Take in splits by the names they have; of a hub's data set, other splits are let be."""
    for name, part in parts.items():
        split = ALIASES.get(name, name)
        if split not in SPLITS:
            if strict:
                fix = nearest(str(name), SPLITS)
                reading.faults.append(Fault(f"{where}.{name}", "be train, validation or test", f"`{name}`", fix))
        elif split in reading.splits:
            reading.faults.append(Fault(f"{where}.{name}", "name each split once", f"a second `{split}`"))
        else:
            reading.add(split, part)


def _split_files(folder: Path, name: str) -> tuple[dict[str, Path], list[Fault]]:
    """Find a folder's split files; any other file is let be."""
    files: dict[str, Path] = {}
    faults = []
    for path in sorted(folder.iterdir()):
        split = ALIASES.get(path.stem, path.stem)
        if split not in SPLITS or path.suffix.lower() not in READERS or not path.is_file():
            continue
        if split in files:
            found = f"`{files[split].name}` and `{path.name}`"
            faults.append(Fault(name, f"hold one {split} file", found, "Remove one, or name the files one by one"))
        files[split] = path
    if "train" not in files:
        present = sorted(path.name for path in folder.iterdir())
        requirement = "hold a train file (`train.jsonl`, `.json`, `.csv` or `.parquet`)"
        faults.append(Fault(name, requirement, listed(present, 10) if present else "an empty folder"))
    return files, faults


def _read_file(path: Path, name: str) -> FileReading:
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        return FileReading(faults=[Fault(name, ENDINGS, f"`{path.suffix or path.name}`")])
    try:
        reading = reader(path, name)
    except OSError as error:
        return FileReading(faults=[Fault(name, "be a file that can be read", error.strerror or str(error))])
    return _not_empty(reading, name)


def _read_memory(rows: Sequence[Any], key: str) -> FileReading:
    reading = FileReading()
    for number, row in enumerate(rows, start=1):
        if isinstance(row, Mapping):
            reading.records.append(Record(dict(row), key, number, "row"))
        else:
            found = f"`{type(row).__name__}`"
            reading.bad.append(BadRow(key, number, "be a mapping of columns to values", found, unit="row"))
    return _not_empty(reading, key)


def _not_empty(reading: FileReading, name: str) -> FileReading:
    if not (reading.records or reading.bad or reading.faults):
        reading.faults.append(Fault(name, "hold at least one row", "none"))
    return reading


def _missing(key: str, path: Path, name: str, kind: str = "file or folder") -> Fault:
    siblings = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
    hint = nearest(path.name, siblings)
    fix = hint if hint.startswith("Did") else "Check the path"
    return Fault(key, f"be a {kind} that exists", f"`{name}`", fix)
