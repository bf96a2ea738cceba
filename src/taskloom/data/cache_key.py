"""What tokenised items depend on, as one digest."""

from __future__ import annotations

import functools
import inspect
import json
import uuid
from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskloom.types import Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from taskloom.tasks import Task

FORMAT = 1
"""The version of what a folder of the cache holds."""

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=repr)  # made once: rows come by the million
_PROCESS = uuid.uuid4().hex  # stands for a source that cannot be read

TOKENIZER_SETTINGS = ("model_max_length", "padding_side", "truncation_side", "chat_template", "model_input_names")


def content_key(
    task: Task, rows: Sequence[Row], tokenizer: PreTrainedTokenizerFast, key_parts: Mapping[str, Any]
) -> str:
    """Give the digest of everything that items depend on: rows, task, tokenizer, versions.

    Of the task: its class, the source it is written in, its plain attributes (its options) and its state. A class
    without a source file, as one typed at a prompt, gets a key of its own in each process and is never found again.

    Args:
        task: encodes the rows.
        rows: [example].
        tokenizer: reads the texts.
        key_parts: what else the caller knows to matter.

    Returns:
        64 hexadecimal digits.
    """
    kind = type(task)
    parts = {
        "format": FORMAT,
        "task": f"{kind.__module__}.{kind.__qualname__}",
        "source": source_digests(kind) or [_PROCESS],
        "options": {name: value for name, value in vars(task).items() if _is_plain(value)},
        "state": task.state(),
        "tokenizer": tokenizer_digest(tokenizer),
        "versions": {package: version(package) for package in ("tokenizers", "transformers")},
        "more": key_parts,
    }
    digest = sha256(canonical(parts))
    for row in rows:
        digest.update(b"\n" + canonical(row))
    return digest.hexdigest()


def canonical(value: Any) -> bytes:
    """Write a value in one form, whatever the order of its keys."""
    # ASCII keeps half characters writable; repr serves the dates and decimals that Parquet can bring.
    return _ENCODER.encode(value).encode("ascii")


def _is_plain(value: Any) -> bool:
    """Whether a value has a canonical form; the repr of any other could hold an address, new in each process."""
    try:
        json.dumps(value, sort_keys=True)
    except (TypeError, ValueError):
        return False
    return True


def source_digests(kind: type, without: str = "") -> list[str] | None:
    """Digest the files that a class and its bases are written in, and their rooms' own files beside them.

    Args:
        kind: the class.
        without: a package whose classes are left out.

    Returns:
        sorted digests; None where a class has no source file.
    """
    files: set[Path] = set()
    for base in kind.__mro__:
        if base.__module__.partition(".")[0] in {"builtins", "abc", "typing", without}:
            continue
        try:
            path = Path(inspect.getfile(base))
        except (OSError, TypeError):
            return None
        if not path.is_file():
            return None
        files |= {path, *path.parent.glob("_*.py")}
    return sorted(sha256(path.read_bytes()).hexdigest() for path in files)


@functools.lru_cache(maxsize=4)
def tokenizer_digest(tokenizer: PreTrainedTokenizerFast) -> str:
    """Digest a tokenizer, once a run; the truncation and padding of its last call are no part of it."""
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    backend.pop("truncation", None)
    backend.pop("padding", None)
    settings = {name: getattr(tokenizer, name, None) for name in TOKENIZER_SETTINGS}
    tokens = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    return sha256(canonical([type(tokenizer).__name__, backend, settings, tokens])).hexdigest()
