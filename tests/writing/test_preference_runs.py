"""Runs that compare with the model before training: what it said is measured once, kept, and read ever after."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from writing_tools import BreaksOff, lines_of, results_of, row_of, run_of, save_backbone, steps_of, write_rows

import taskloom.reports
from taskloom.config import load_config
from taskloom.model.families import class_for
from taskloom.preparation import prepare
from taskloom.references import FILE
from taskloom.run import Run, evaluate, train
from taskloom.types import IGNORED, Family

FAMILIES: tuple[Family, ...] = ("decoder", "encoder_decoder")
KINDS = {"liking": "preference", "intent": "classification"}
SPLITS = ("train", "validation", "test")


@pytest.fixture(autouse=True)
def _plain_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write no page with charts after each of many runs; the page has tests of its own."""
    monkeypatch.setattr(taskloom.reports, "report", lambda folders: None)


@pytest.fixture(scope="module")
def values_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Family], dict[str, Any]]:
    """Describe the run of a family, with a LoRA adapter."""
    folder = tmp_path_factory.mktemp("preference")
    write_rows(folder / "data", KINDS)
    for family in FAMILIES:
        save_backbone(family, folder / family)
    return lambda family: run_of(folder / family, folder / "data", KINDS, method="equal")


@pytest.fixture(scope="module")
def finished(
    values_of: Callable[[Family], dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Family], Path]:
    """Give the folder of a finished run of a family; each is trained once."""
    place = tmp_path_factory.mktemp("runs")

    def run(family: Family) -> Path:
        if not (place / family).exists():
            train(values_of(family), place / family)
        return place / family

    return run


def said_of(model: Any, items: Any) -> torch.Tensor:
    """Give the summed log-probabilities of both answers by transformers' own logits, each alone: [item, 2]."""
    found = []
    for index in range(len(items)):
        for ids, labels in zip(items[index]["input_ids"], items[index]["labels"], strict=True):
            wanted, read = torch.tensor([list(map(int, labels))]), torch.tensor([list(map(int, ids))])
            with torch.no_grad():
                if model.config.is_encoder_decoder:
                    logits = model(input_ids=read, labels=wanted).logits
                else:
                    logits, wanted = model(input_ids=read).logits[:, :-1], wanted[:, 1:]
            costs = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), wanted.flatten(), ignore_index=IGNORED, reduction="sum"
            )
            found.append(-costs)
    return torch.stack(found).view(-1, 2)


def untrained(values: dict[str, Any]) -> Any:
    """Load the backbone of a run as it came."""
    place = values["model"]["name_or_path"]
    loader = class_for(transformers.AutoConfig.from_pretrained(place), words=True)
    return loader.from_pretrained(place).eval()


def trained(values: dict[str, Any], run: Path) -> Any:
    """Load the backbone of a run with its trained adapter, by peft alone."""
    from peft import PeftModel

    return PeftModel.from_pretrained(untrained(values), run / "model" / "adapter").eval()


def gains_of(run: Path, split: str) -> torch.Tensor:
    """Read from the predictions by how much more probable training made both answers: [example, 2]."""
    lines = lines_of(run / "predictions" / split / "liking.jsonl")
    assert {line["detail"]["compared"] for line in lines} == {"gain"}
    return torch.tensor(
        [[line["detail"]["log_probability"][name] for name in ("chosen", "rejected")] for line in lines]
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_kept_is_what_the_untrained_model_says(
    family: Family, values_of: Callable[..., dict[str, Any]], finished: Callable[[Family], Path]
) -> None:
    values = values_of(family)
    kept = load_file(str(finished(family) / FILE))
    assert kept.keys() == {f"liking/{split}" for split in SPLITS}
    items, model = prepare(load_config(values)).items["liking"], untrained(values)
    for split in SPLITS:
        wanted = said_of(model, items[split])
        assert len(wanted.unique()) > 2
        torch.testing.assert_close(kept[f"liking/{split}"], wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_predictions_tell_what_training_gained(
    family: Family, values_of: Callable[..., dict[str, Any]], finished: Callable[[Family], Path]
) -> None:
    values, run = values_of(family), finished(family)
    items, before, after = prepare(load_config(values)).items["liking"], untrained(values), trained(values, run)
    for split in ("validation", "test"):
        wanted = said_of(after, items[split]) - said_of(before, items[split])
        assert wanted.abs().max() > 1e-3, "training has moved something"
        torch.testing.assert_close(gains_of(run, split), wanted, rtol=1e-3, atol=1e-4)


def test_the_first_loss_is_that_of_a_model_that_has_gained_nothing(finished: Callable[[Family], Path]) -> None:
    first = next(line for line in steps_of(finished("decoder")) if "tasks" in line)
    assert first["tasks"]["liking"]["loss"] == pytest.approx(0.693147, abs=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_run_that_is_taken_up_measures_nothing_again(
    family: Family,
    values_of: Callable[..., dict[str, Any]],
    finished: Callable[[Family], Path],
    tmp_path: Path,
) -> None:
    with pytest.raises(ArithmeticError, match="broken off"):
        train(values_of(family), tmp_path / "run", callbacks=[BreaksOff(4)])
    path = tmp_path / "run" / FILE
    written = path.stat().st_mtime_ns
    assert path.read_bytes() == (finished(family) / FILE).read_bytes()
    train(values_of(family), tmp_path / "run")
    assert path.stat().st_mtime_ns == written
    assert steps_of(tmp_path / "run") == steps_of(finished(family))
    assert results_of(tmp_path / "run") == results_of(finished(family))


def test_a_run_that_is_taken_up_learns_from_what_is_kept(
    values_of: Callable[..., dict[str, Any]], finished: Callable[[Family], Path], tmp_path: Path
) -> None:
    with pytest.raises(ArithmeticError, match="broken off"):
        train(values_of("decoder"), tmp_path / "run", callbacks=[BreaksOff(4)])
    path = tmp_path / "run" / FILE
    # As if the untrained model had found every chosen answer far more probable: all has still to be gained.
    save_file({key: said + torch.tensor([20.0, 0.0]) for key, said in load_file(str(path)).items()}, str(path))
    train(values_of("decoder"), tmp_path / "run")
    found, plain = (
        [line["tasks"]["liking"]["loss"] for line in steps_of(run) if "tasks" in line]
        for run in (tmp_path / "run", finished("decoder"))
    )
    assert found[:2] == plain[:2]
    assert min(found[2:]) > 2 > max(plain)


def test_a_run_that_is_scored_again_compares_with_what_is_kept(
    finished: Callable[[Family], Path], tmp_path: Path
) -> None:
    run = finished("decoder")
    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run" / FILE
    evaluate(tmp_path / "run")
    assert results_of(tmp_path / "run") == results_of(run)
    save_file({key: said + torch.tensor([1.5, 0.0]) for key, said in load_file(str(path)).items()}, str(path))
    evaluate(tmp_path / "run")
    shifted = gains_of(run, "test") - gains_of(tmp_path / "run", "test")
    torch.testing.assert_close(shifted, torch.tensor([[1.5, 0.0]]).expand_as(shifted), rtol=0, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_new_rows_are_judged_by_the_trained_model_alone(
    family: Family, values_of: Callable[..., dict[str, Any]], finished: Callable[[Family], Path]
) -> None:
    values, run = values_of(family), finished(family)
    rows = [row_of("preference", number) for number in (400, 401)]
    answers = Run(run).predict("liking", rows)
    task = prepare(load_config(values)).tasks["liking"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(values["model"]["name_or_path"])
    wanted = said_of(trained(values, run), [items[0] for items in task.encode(rows, tokenizer)])
    for answer, (chosen, rejected) in zip(answers, wanted.tolist(), strict=True):
        assert answer.detail["compared"] == "sum"
        assert answer.detail["log_probability"] == pytest.approx({"chosen": chosen, "rejected": rejected}, rel=1e-4)
        assert answer.value == ("chosen" if chosen > rejected else "rejected")
