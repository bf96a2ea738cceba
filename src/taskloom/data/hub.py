"""Data sets of the Hugging Face hub."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from taskloom.data.quiet import quiet
from taskloom.data.records import FileReading, Record

HUB_NAME = re.compile(
    r"(?P<path>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?::(?P<config>[^@:/\s]+))?(?:@(?P<revision>[^@:\s]+))?"
)
"""``org/name``, ``org/name:config``, each with an optional ``@revision`` (a branch, a tag or a commit)."""

Convert = Callable[[Any], Any]


def read_hub(name: str) -> dict[str, FileReading]:
    """Load a data set of the hub; class numbers become their names, and no code of the hub is run.

    Args:
        name: as `HUB_NAME`.

    Returns:
        The hub's split name -> its rows, each with its number from 1.

    Raises:
        LookupError: it cannot be loaded; the first line says why.
    """
    import datasets

    match = HUB_NAME.fullmatch(name)
    if match is None:
        raise LookupError("no name of a hub data set")
    try:
        with quiet():
            loaded = datasets.load_dataset(match["path"], name=match["config"], revision=match["revision"])
    # What load_dataset raises: OSError for the network, a missing set or a missing file; ValueError for an unknown
    # config or revision; RuntimeError for a set that is a script; DatasetsError for files it cannot parse.
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise LookupError(reason.rstrip(".")) from error
    return {split: _records(dataset, f"{name} {split}") for split, dataset in loaded.items()}


def _records(dataset: Any, file: str) -> FileReading:
    converts = {column: convert for column, kind in dataset.features.items() if (convert := _naming(kind))}
    reading = FileReading()
    for number, row in enumerate(dataset.to_list(), start=1):
        for column, convert in converts.items():
            row[column] = convert(row[column])
        reading.records.append(Record(row, file, number, "row"))
    return reading


def _naming(kind: Any) -> Convert | None:
    """Give what turns class numbers into names in a column of this kind; None where there are none to turn."""
    import datasets

    if isinstance(kind, datasets.ClassLabel):
        names = list(kind.names)
        # The hub writes -1 where a label is withheld.
        return lambda value: None if value is None or value < 0 else names[value]
    if isinstance(kind, dict):
        inside = {key: convert for key, each in kind.items() if (convert := _naming(each))}
        if inside:
            return lambda value: (
                value and {key: inside[key](each) if key in inside else each for key, each in value.items()}
            )
        return None
    convert = _naming(kind.feature) if hasattr(kind, "feature") else None
    return (lambda value: value and [convert(each) for each in value]) if convert else None
