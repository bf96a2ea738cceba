"""Fixtures that the tests of this folder ask for by `pytest_plugins`."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast


@pytest.fixture(scope="session")
def pieces(tiny_tokenizer: Path) -> PreTrainedTokenizerFast:
    """A tokenizer in BERT's form that cuts rare words into pieces."""
    return AutoTokenizer.from_pretrained(tiny_tokenizer)


@pytest.fixture(scope="session")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer in RoBERTa's form, as roberta-base brings it: no blank before a text's first word."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaTokenizerFast

    folder = tmp_path_factory.mktemp("byte-level")
    trained = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trained.train_from_iterator(["to New York and back"] * 3, vocab_size=300, special_tokens=special)
    trained.save_model(str(folder))
    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    RobertaTokenizerFast.from_pretrained(folder, vocab_file=str(vocabulary), merges_file=str(merges)).save_pretrained(
        folder
    )
    return folder
