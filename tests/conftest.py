"""What many tests share: a tiny random encoder, a small help desk, and a run over both."""

from __future__ import annotations

import gc
import os

# Read by libraries when they are imported, so set before any of them is.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # tests are for processors, but those that ask for a GPU by name
os.environ.pop("TASKLOOM_DEBUG", None)

from typing import TYPE_CHECKING, Any

import pytest

from tiny_runs import TINY_TOKENS, tiny_values

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session", autouse=True)
def _frozen() -> None:
    """Keep what the libraries hold out of every later search for garbage, of which accelerate makes one a training."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def _home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("taskloom-home")


@pytest.fixture(autouse=True)
def _apart(_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep every test off the network, out of the user's cache, and in its own debug setting."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TASKLOOM_HOME", str(_home))
    monkeypatch.delenv("TASKLOOM_DEBUG", raising=False)
    yield
    os.environ.pop("TASKLOOM_DEBUG", None)  # what `--debug` set, which monkeypatch does not know of


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the help desk's seven tasks, a few rows of each."""
    from taskloom import helpdesk

    folder = tmp_path_factory.mktemp("helpdesk")
    helpdesk.write(folder, train=40, validation=12, test=16)
    return folder


@pytest.fixture(scope="session")
def tiny_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a fast tokenizer in BERT's form, its pieces learned from the help desk."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    from taskloom import helpdesk

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    rows = [row for splits in helpdesk.generate(train=60, validation=1, test=1).values() for row in splits["train"]]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=1200,
        special_tokens=special,
        initial_alphabet=list("abcdefghijklmnopqrstuvwxyz0123456789"),
        show_progress=False,
    )
    tokenizer.train_from_iterator((text for row in rows for text in _texts(row)), trainer)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", special.index("[SEP]")), ("[CLS]", 2))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=TINY_TOKENS,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )
    folder = tmp_path_factory.mktemp("tiny-tokenizer")
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_encoder(tiny_tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random BERT of two layers of width 32, and its tokenizer."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertModel

    tokenizer = AutoTokenizer.from_pretrained(tiny_tokenizer)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=TINY_TOKENS,
    )
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("encoder") / "tiny-bert"
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def run_values(tiny_encoder: Path, tiny_data: Path) -> dict[str, Any]:
    """A run of all seven tasks of the help desk in four steps, as `load_config` takes it; each test has its own."""
    return tiny_values(tiny_encoder, tiny_data)


@pytest.fixture(scope="session")
def tiny_run(tiny_encoder: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of `run_values`; copy it before you change it."""
    from taskloom import train

    folder = tmp_path_factory.mktemp("runs") / "tiny"
    train(tiny_values(tiny_encoder, tiny_data), folder)
    return folder


def _texts(value: Any) -> Iterator[str]:
    """Give every text in a row, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
