"""Which backbone it is, told by what is in its files, or by its commit where it comes from the hub."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from taskloom.model.backbone import check_backbone, locate

if TYPE_CHECKING:
    from taskloom.config.schema import ModelSection

PATTERNS = ("config.json", "adapter_config.json", "*.safetensors", "*.safetensors.index.json", "*.py")
"""What transformers reads of a folder beside the tokenizer."""

LIMIT_WHOLE_BYTES = 2**30
"""A larger file is told by its size and by `BLOCKS` blocks spread over it, so that it costs no minute to look at."""

BLOCKS, BLOCK_BYTES = 256, 2**20


def backbone_identity(section: ModelSection) -> dict[str, str]:
    """Give what tells a backbone from every other: file -> digest, or ``commit`` -> the hub's commit.

    The folder's own place is no part of it, so a backbone may be moved.

    Raises:
        ModelError: it cannot be found.
    """
    place = Path(locate(section.name_or_path))
    if not place.is_dir():
        commit = getattr(check_backbone(section), "_commit_hash", None)
        return {"commit": str(commit or section.revision or "unknown")}
    paths = sorted({path for pattern in PATTERNS for path in place.glob(pattern) if path.is_file()})
    return {path.name: file_identity(path) for path in paths}


def file_identity(path: Path) -> str:
    """Digest a file: all of it, or its size and blocks of it, its first and its last among them, where it is large."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        if size <= LIMIT_WHOLE_BYTES:
            return hashlib.file_digest(stream, "sha256").hexdigest()
        digest = hashlib.sha256(str(size).encode())
        for block in range(BLOCKS):
            stream.seek((size - BLOCK_BYTES) * block // (BLOCKS - 1))
            digest.update(stream.read(BLOCK_BYTES))
        return digest.hexdigest()
