"""Explanations of runs: under every adapter and sharing scheme, through the commands, and on a real encoder."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from taskloom.attribution.aims import aims_of
from taskloom.attribution.explaining import Explainer, answered_rows, explain
from taskloom.attribution.lines import explanations_path, read_explanations
from taskloom.cli import commands
from taskloom.cli.explaining import coloured, run_explain
from taskloom.config import load_config
from taskloom.errors import ConfigError, DataError
from taskloom.model import build_model
from taskloom.model.bundled import BUNDLED_NAME, bundled_folder
from taskloom.model.folder import add_own_adapter
from taskloom.preparation import Prepared, prepare
from taskloom.record import Record
from taskloom.run import Run

KEPT = ("intent", "slots", "similarity", "reply")
LOW: dict[str, Any] = {"r": 3, "lora_alpha": 6}
PARTS: dict[str, dict[str, Any]] = {
    "full": {"adapter": None},
    "lora": {"adapter": {"type": "lora", "target_modules": "all-linear", **LOW}},
    "dora": {"adapter": {"type": "lora", "use_dora": True, "target_modules": "all-linear", **LOW}},
    "own adapters": {"adapter": {"type": "lora", "target_modules": "all-linear", **LOW}},
    "shared_and_task": {"sharing": {"scheme": "shared_and_task", **LOW}},
    "mtl_lora": {"sharing": {"scheme": "mtl_lora", **LOW}},
    "experts": {"sharing": {"scheme": "experts", "gate": "task_and_token", **LOW}},
    "bottleneck": {"sharing": {"scheme": "bottleneck", "width": 4}},
    "task_layers": {"sharing": {"scheme": "task_layers", "top": 1}},
    "prefix": {"sharing": {"scheme": "prefix", "length": 3}},
    "head experts": {"adapter": None, "head_experts": {"experts": 2, "width": 8}},
}


def prepared_of(values: dict[str, Any], model: dict[str, Any]) -> Prepared:
    values = {**values, "model": {"name_or_path": values["model"]["name_or_path"], **model}}
    values["tasks"] = {name: {**values["tasks"][name], "limit_rows": 6} for name in KEPT}
    return prepare(load_config(values))


@pytest.mark.parametrize("parts", PARTS)
def test_explanations_add_up_under_every_adapter_and_sharing_scheme(run_values: dict[str, Any], parts: str) -> None:
    prepared = prepared_of(run_values, PARTS[parts])
    model = build_model(prepared.config.model, prepared.tasks, seed=0).eval()
    if parts == "own adapters":
        add_own_adapter(model, "slots", {"r": 2, "target_modules": "all-linear"})
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    for name in KEPT:
        explainer = Explainer(model, prepared.tasks, name, prepared.tokenizer)
        rows = prepared.corpora[name].splits["test"][:1]
        items = [item | {"row": 0} for item in next(iter(prepared.tasks[name].encode(rows, prepared.tokenizer)))]
        (answered,) = answered_rows(explainer, rows, items)
        aim = aims_of(answered)[0]
        given, _, _ = explainer.embedded(aim)
        with torch.no_grad():  # two copies, read as embeddings, are told what one row is told as tokens
            values = explainer.values(aim, given.unsqueeze(0).repeat(2, 1, 1, 1))
        if name == "intent":
            assert values.tolist() == pytest.approx([float(answered.outputs[0].max())] * 2, abs=1e-5)
        assert float(values[0]) == pytest.approx(float(values[1]), abs=1e-6)
        assert explainer.explain(aim, "integrated_gradients").completeness_error < 0.05
        assert model.own_adapters.keys() == ({"slots"} if parts == "own adapters" else set())


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    stream = io.StringIO()
    monkeypatch.setattr(commands, "console", Console(file=stream, width=160, highlight=False))
    return stream


@pytest.fixture(scope="module")
def run_copy(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explained") / "run"
    shutil.copytree(tiny_run, folder)
    return folder


def test_the_command_shows_words_and_writes_lines(run_copy: Path, tiny_data: Path, said: io.StringIO) -> None:
    source = str(tiny_data / "intent" / "test.jsonl")
    run_explain(run_copy, "intent", source, "integrated_gradients", 3, None, None, sanity=True)
    lines = read_explanations(Record(run_copy), "intent")
    rows = [json.loads(line) for line in Path(source).read_text().splitlines()[:3]]
    assert [line["row"] for line in lines] == [0, 1, 2]
    assert [line["text"] for line in lines] == [row["text"] for row in rows]
    answers = [answer.value for answer in Run(run_copy).predict("intent", rows)]
    for line, answer in zip(lines, answers, strict=True):
        assert line["target"] == line["prediction"] == answer
        assert line["method"] == "integrated_gradients"
        assert line["source"] == source
        assert line["input"] == {"text": line["text"]}
        assert line["completeness_error"] < 0.05
        assert set(line["sanity"]) == {"head", "head_and_backbone"}
        assert all(line["text"][word["start"] : word["end"]] == word["word"] for word in line["words"])
        total = sum(word["weight"] for word in line["words"])
        assert abs(total - line["value"] + line["baseline"]) < 0.06 * abs(line["value"] - line["baseline"]) + 1e-6
    shown = said.getvalue()
    assert rows[0]["text"] in shown
    assert "weights add up to the difference within" in shown
    assert "with random weights (head and backbone): correlation of ranks" in shown
    assert f"wrote {explanations_path(Record(run_copy), 'intent')}" in shown


def test_a_text_of_its_own_and_one_word_of_tagging_are_explained(
    run_copy: Path, tmp_path: Path, said: io.StringIO
) -> None:
    out = tmp_path / "x.jsonl"
    run_explain(run_copy, "slots", "the parcel [red] of Monday", "leave_one_out", 5, [2, 4], out)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["target"].split("/")[0] for line in lines] == ["[red]", "Monday"]
    assert [word["word"] for word in lines[0]["words"]] == ["the", "parcel", "[red]", "of", "Monday"]
    assert "[red]" in said.getvalue()  # which is no colour of ours


def test_words_are_coloured_where_they_stand(run_copy: Path) -> None:
    row = {"text": "first one", "text_pair": "the second"}
    (found,) = explain(Run(run_copy), "similarity", [row], method="leave_one_out")
    text = coloured(found)
    assert text.plain == "  first one\n  the second"
    for span in text.spans:
        assert text.plain[span.start : span.end] in {"first", "one", "the", "second"}
    strongest = max(found.words, key=lambda word: abs(word.weight))
    hue = "bold green" if strongest.weight > 0 else "bold red"
    assert (strongest.word, hue) in {(text.plain[span.start : span.end], span.style) for span in text.spans}


def test_what_cannot_be_is_refused_in_a_sentence(run_copy: Path) -> None:
    with pytest.raises(ConfigError) as wrong:
        run_explain(run_copy, "intent", "hello", "integrated_gradient", 1, None, None)
    assert str(wrong.value) == (
        "`--method` should be a method of attribution. Found `integrated_gradient`. "
        "Did you mean `integrated_gradients`?"
    )
    with pytest.raises(DataError) as unknown:
        explain(Run(run_copy), "intend", [{"text": "hello"}])
    assert str(unknown.value) == "`intend` should be a task of the run. Found `intend`. Did you mean `intent`?"
    with pytest.raises(DataError) as empty:
        explain(Run(run_copy), "intent", [{"txt": "hello"}])
    assert str(empty.value) == "`row 1` should have `text`. Found the columns ['txt']."


def test_reading_explanations_needs_no_torch() -> None:
    code = "import sys, taskloom.attribution.lines; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.skipif(bundled_folder() is None, reason="the extra `offline` is not installed")
def test_weights_add_up_within_five_percent_on_a_real_encoder(run_values: dict[str, Any]) -> None:
    values = {**run_values, "model": {"name_or_path": BUNDLED_NAME}}
    tasks = ("intent", "slots", "similarity", "answer")
    values["tasks"] = {name: {**values["tasks"][name], "limit_rows": 40} for name in tasks}
    prepared = prepare(load_config(values))
    model = build_model(prepared.config.model, prepared.tasks, seed=0).eval()
    errors = []
    for name in tasks:
        explainer = Explainer(model, prepared.tasks, name, prepared.tokenizer)
        rows = prepared.corpora[name].splits["test"][:2]
        encoded = prepared.tasks[name].encode(rows, prepared.tokenizer)
        items = [item | {"row": number} for number, own in enumerate(encoded) for item in own]
        found = (aims_of(answered)[0] for answered in answered_rows(explainer, rows, items))
        errors += [explainer.explain(aim, "integrated_gradients").completeness_error for aim in found]
    assert len(errors) == 8
    assert max(errors) < 0.05
