"""Tokenised rows, kept on disk by what they are made of, and read memory-mapped.

A folder of the cache is named by a digest of everything that its items depend on, so it never goes out of date; it is
written beside and renamed, sealed with the digest of each of its files, and rebuilt where the seal does not hold.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from hashlib import file_digest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskloom.data.cache_key import FORMAT, content_key
from taskloom.data.quiet import quiet
from taskloom.errors import DataError, Fault
from taskloom.types import Item, Row

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerFast

    from taskloom.tasks import Task

ROWS_PER_BATCH = 1000
SEAL = "seal.json"
ATTEMPTS = 5
BESIDE = re.compile(r"\.[0-9a-f]{64}\.[0-9a-f]{32}")
SECONDS_UNTIL_STALE = 24 * 3600


class Items:
    """The items of one task and split, memory-mapped.

    Attributes:
        dataset: what `tokenised` gave.
        beside: key -> [item] values that are added to the items, such as what another model says of them.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.beside: dict[str, Sequence[Any]] = {}

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Item:
        """Give one item as plain Python lists; a key that other items have and this one has not is None.

        Raises:
            IndexError: there is no such item.
        """
        item: Item = self.dataset[int(index)]
        for key, values in self.beside.items():
            item[key] = values[int(index)]
        return item

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """The longest sequence of each item, in tokens: [item] int64."""
        import numpy as np
        import pyarrow.compute as pc

        lengths = np.zeros(len(self), dtype=np.int64)
        done = 0
        for chunk in self._column("input_ids").chunks:
            sequences = np.asarray(pc.list_value_length(pc.list_flatten(chunk)), dtype=np.int64)
            counts = np.asarray(pc.list_value_length(chunk), dtype=np.int64)
            filled = np.flatnonzero(counts)
            starts = (np.cumsum(counts) - counts)[filled]
            if len(filled):
                lengths[done + filled] = np.maximum.reduceat(sequences, starts)
            done += len(chunk)
        return lengths

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """The row that each item is of: [item] int64."""
        import numpy as np

        return np.asarray(self._column("row"), dtype=np.int64)

    @cached_property
    def tokens(self) -> NDArray[np.int64]:
        """The useful tokens of each item, all its sequences together: [item] int64."""
        import numpy as np

        return np.asarray(self._column("tokens"), dtype=np.int64)

    def _column(self, name: str) -> Any:
        return self.dataset.with_format("arrow")[:][name]


def default_folder() -> Path:
    """Give the cache's folder: ``$TASKLOOM_HOME/tokenised``, else ``~/.cache/taskloom/tokenised``."""
    home = os.environ.get("TASKLOOM_HOME")
    return (Path(home).expanduser() if home else Path.home() / ".cache" / "taskloom") / "tokenised"


def tokenised(
    task: Task,
    rows: Sequence[Row],
    tokenizer: PreTrainedTokenizerFast,
    *,
    key_parts: Mapping[str, Any] | None = None,
    folder: str | os.PathLike[str] | None = None,
) -> Dataset:
    """Turn rows into items, or load them where that was done before.

    Args:
        task: encodes the rows; already fitted.
        rows: [example], one split.
        tokenizer: reads the texts.
        key_parts: what the items also depend on and neither `task` nor `tokenizer` shows, ready for JSON.
        folder: where the cache is; `default_folder` when None.

    Returns:
        The items in the order of their rows, each with ``row`` (its row's place in `rows`) and ``tokens`` (useful
        tokens of all its sequences). Whole numbers become floats in a column that has a float anywhere.

    Raises:
        DataError: the cache's folder cannot be written.
        TypeError: the task's items hold values of kinds that share no column.
    """
    place = Path(folder) if folder is not None else default_folder()
    key = content_key(task, rows, tokenizer, key_parts or {})
    final = place / key
    for _ in range(ATTEMPTS):
        dataset = _load(final, key)
        if dataset is not None:
            return dataset
        try:
            with _sibling(final) as building:
                _build(building, key, task, rows, tokenizer)
                _publish(building, final, key)
        except OSError as error:
            fix = "Set TASKLOOM_HOME to a folder with room"
            found = error.strerror or str(error)
            raise DataError(Fault(str(place), "be a folder that can be written to", found, fix)) from error
    raise DataError(Fault(str(final), "stay as it was written", "a folder that others change", "Remove it"))


def _build(folder: Path, key: str, task: Task, rows: Sequence[Row], tokenizer: PreTrainedTokenizerFast) -> None:
    """Write the items and, last, their seal."""
    from datasets import Dataset

    with quiet():
        # A fingerprint of our own: datasets would pickle its state to find one.
        dataset = Dataset(_table(task, rows, tokenizer), fingerprint=key[:16])
        # An empty set would be written as no shard, which datasets cannot read.
        dataset.save_to_disk(str(folder), num_shards=None if len(dataset) else 1)
    seal = {"format": FORMAT, "key": key, "files": _digests(folder)}
    (folder / SEAL).write_text(json.dumps(seal, sort_keys=True), encoding="utf-8")


def _table(task: Task, rows: Sequence[Row], tokenizer: PreTrainedTokenizerFast) -> Any:
    """Encode in batches; kinds are found per batch and then unified, so an empty list waits for the numbers."""
    import pyarrow

    tables = []
    for start in range(0, len(rows), ROWS_PER_BATCH):
        batch = rows[start : start + ROWS_PER_BATCH]
        items = []
        for index, each in enumerate(zip(batch, task.encode(batch, tokenizer), strict=True), start=start):
            items += [{**item, "row": index, "tokens": sum(map(len, item["input_ids"]))} for item in each[1]]
        if items:
            tables.append(_batch(items, task))
    if not tables:
        kinds = {"input_ids": pyarrow.list_(pyarrow.list_(pyarrow.int64())), "row": pyarrow.int64()}
        return pyarrow.schema({**kinds, "tokens": pyarrow.int64()}).empty_table()
    try:
        return pyarrow.concat_tables(tables, promote_options="permissive")
    except pyarrow.ArrowException as error:
        raise TypeError(f"`{type(task).__name__}.encode` gives columns of several kinds: {error}") from error


def _batch(items: Sequence[Item], task: Task) -> Any:
    import pyarrow

    names = dict.fromkeys(name for item in items for name in item)
    columns = {}
    for name in names:
        try:
            columns[name] = pyarrow.array([item.get(name) for item in items])
        except pyarrow.ArrowException as error:
            raise TypeError(f"`{type(task).__name__}.encode` gives several kinds in `{name}`: {error}") from error
    return pyarrow.table(columns)


def _load(final: Path, key: str) -> Dataset | None:
    """Load a folder whose seal holds; None for one that is absent, half-written or damaged."""
    import datasets
    import pyarrow

    if not _is_whole(final, key):
        return None
    try:
        with quiet():
            return datasets.load_from_disk(str(final), keep_in_memory=False)
    except (OSError, ValueError, KeyError, TypeError, pyarrow.ArrowException):  # another version of datasets wrote it
        return None


def _is_whole(final: Path, key: str) -> bool:
    try:
        seal = json.loads((final / SEAL).read_text(encoding="utf-8"))
        expected = {"format": FORMAT, "key": key, "files": _digests(final)}
    except (OSError, ValueError):
        return False
    return bool(seal == expected)


def _digests(folder: Path) -> dict[str, str]:
    digests = {}
    for path in sorted(folder.iterdir()):
        if path.name != SEAL:
            with path.open("rb") as stream:
                digests[path.name] = file_digest(stream, "sha256").hexdigest()
    return digests


def _publish(building: Path, final: Path, key: str) -> None:
    """Rename into place; where another process was first, its folder stays and ours goes."""
    try:
        building.rename(final)
    except OSError:
        if not final.exists():
            raise
        if _load(final, key) is not None:
            return
        # Moved away before it is removed, so that no one ever sees half of it under its name. Where another process
        # moves at the same time, the caller's next look finds whichever folder came to stand there.
        damaged = _beside(final)
        with suppress(OSError):
            final.rename(damaged)
            building.rename(final)
        if damaged.is_dir():
            shutil.rmtree(damaged, ignore_errors=True)
        else:
            damaged.unlink(missing_ok=True)


def _beside(final: Path) -> Path:
    return final.with_name(f".{final.name}.{uuid.uuid4().hex}")


@contextmanager
def _sibling(final: Path) -> Iterator[Path]:
    """Give a folder beside the final one, which is gone at the end; what killed processes left goes too."""
    final.parent.mkdir(parents=True, exist_ok=True)
    for path in final.parent.iterdir():
        try:
            stale = BESIDE.fullmatch(path.name) and time.time() - path.stat().st_mtime > SECONDS_UNTIL_STALE
        except OSError:  # its owner has just removed it
            continue
        if stale:
            shutil.rmtree(path, ignore_errors=True)
    building = _beside(final)
    building.mkdir()
    try:
        yield building
    finally:
        shutil.rmtree(building, ignore_errors=True)
