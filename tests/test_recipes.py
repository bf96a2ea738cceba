"""The recipes are run files that hold together, and what is made for them is what they need."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from taskloom.config import read_config
from taskloom.metrics import METRICS
from taskloom.study.description import read_study

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parent.parent
STUDIES = sorted(ROOT.glob("recipes/*study*.yaml"))
RECIPES = sorted(set(ROOT.glob("recipes/*.yaml")) - set(STUDIES))
CASES = ("bert", "chat", "t5")
DATA = os.environ.get("TASKLOOM_DATA", "")


def turns(count: int) -> list[dict[str, str]]:
    """Give a conversation of so many exchanges."""
    said = [(f"question {number}", f"answer {number}") for number in range(count)]
    return [
        turn
        for asked, answered in said
        for turn in ({"role": "user", "content": asked}, {"role": "assistant", "content": answered})
    ]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def pretrain(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script that makes backbones, with ones so small that they are made at once."""
    monkeypatch.syspath_prepend(str(ROOT / "recipes"))
    module = importlib.import_module("pretrain")
    for name, value in {"TOKENS": 320, "WIDTH": 16, "LAYERS": 1, "HEADS": 2}.items():
        monkeypatch.setattr(module, name, value)
    return module


@pytest.fixture
def comparison(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark that trains a recipe."""
    for folder in ("recipes", "benchmarks"):
        monkeypatch.syspath_prepend(str(ROOT / folder))
    return importlib.import_module("recipes")


@pytest.fixture
def small_data(tmp_path: Path) -> Path:
    """A folder with three of the data sets, a few rows of each."""
    sentences = [f"number {number} is a good film about {number * 7} birds and a river" for number in range(24)]
    folder = tmp_path / "data"
    for split, held in (("train", sentences), ("validation", sentences[:4]), ("test", sentences[4:8])):
        write_rows(folder / "sst2" / f"{split}.jsonl", [{"text": text, "label": "positive"} for text in held])
        pairs = [{"source": text, "target": f"das ist {text}"} for text in held]
        write_rows(folder / "xquad_en_de" / f"{split}.jsonl", pairs)
        write_rows(folder / "sgd" / f"{split}.jsonl", [{"messages": turns(2)}])
    return folder


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_a_run_file_without_faults(path: Path) -> None:
    config = read_config(path, ["data_root=nowhere"])
    assert len(config.tasks) >= 3
    for name, section in config.tasks.items():
        assert section.metrics, name
        assert all(METRICS.load(metric) for metric in section.metrics)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_among_the_recipes_is_one_without_faults(path: Path) -> None:
    study = read_study(path)
    assert {"single", "joint"} <= {arm.name for arm in study.arms}
    assert len(study.seeds) == study.section.seeds


@pytest.mark.parametrize("name", CASES)
def test_each_task_of_a_case_study_draws_whole_rows_in_every_step(name: str) -> None:
    config = read_config(ROOT / "recipes" / f"{name}.yaml")
    ratios = config.mixture["ratios"]
    assert list(ratios) == list(config.tasks)
    assert all(rows == int(rows) for rows in ratios.values())
    assert sum(ratios.values()) == config.training["per_device_train_batch_size"]


@pytest.mark.parametrize("name", CASES)
def test_a_task_alone_draws_as_many_rows_as_in_the_joint_run_and_is_a_run_without_faults(
    name: str, comparison: ModuleType
) -> None:
    from taskloom.config import load_config
    from taskloom.config.document import parse_document

    path = ROOT / "recipes" / f"{name}.yaml"
    joint = parse_document(path.read_text(encoding="utf-8"), path.name).values
    for task, rows in joint["mixture"]["ratios"].items():
        single = load_config(comparison.alone(joint, task))
        assert list(single.tasks) == [task]
        assert single.training["per_device_train_batch_size"] == rows
        assert single.training["max_steps"] == joint["training"]["max_steps"]
        assert single.training["learning_rate"] == joint["training"]["learning_rate"]


def test_conversations_are_learned_whole_and_judged_at_turns_before_the_goodbye(
    tmp_path: Path, comparison: ModuleType
) -> None:
    for split in ("train", "validation", "test"):
        write_rows(tmp_path / "sgd" / f"{split}.jsonl", [{"messages": turns(7)}, {"messages": turns(2)}])
    folder = comparison.cut_conversations(tmp_path / "sgd", tmp_path / "cut")
    found = {
        split: [json.loads(line)["messages"] for line in (folder / f"{split}.jsonl").read_text().splitlines()]
        for split in ("train", "validation", "test")
    }
    assert found["train"] == [turns(7), turns(2)]
    assert [messages[-1]["content"] for messages in found["test"]] == ["answer 1", "answer 3", "answer 5", "answer 0"]
    assert found["test"] == found["validation"] == [turns(2), turns(4), turns(6), turns(1)]


def test_a_backbone_of_t5s_make_is_pretrained_on_the_training_texts(
    pretrain: ModuleType, small_data: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, T5ForConditionalGeneration

    made = pretrain.pretrain("t5", small_data, tmp_path / "made", steps=1)
    assert isinstance(AutoModelForSeq2SeqLM.from_pretrained(made), T5ForConditionalGeneration)
    tokenizer = AutoTokenizer.from_pretrained(made)
    ids = tokenizer("a good film")["input_ids"]
    assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a good film"
    assert len({tokenizer.convert_tokens_to_ids(f"<extra_id_{number}>") for number in range(100)}) == 100
    assert pretrain.pretrain("t5", small_data, tmp_path / "made") == made


def test_a_backbone_of_llamas_make_speaks_in_turns(pretrain: ModuleType, small_data: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    made = pretrain.pretrain("llama", small_data, tmp_path / "made", steps=1)
    assert isinstance(AutoModelForCausalLM.from_pretrained(made), LlamaForCausalLM)
    tokenizer = AutoTokenizer.from_pretrained(made)
    text = tokenizer.apply_chat_template(turns(1), tokenize=False)
    assert text == next(pretrain.read({"messages": turns(1)}, ("messages",)))
    ids = tokenizer(text)["input_ids"]
    assert ids.count(tokenizer.eos_token_id) == 2
    assert tokenizer.decode(ids) == text


def test_a_folder_without_any_of_the_data_sets_is_refused(pretrain: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="should hold one of scitldr, squad_v1"):
        pretrain.pretrain("t5", tmp_path, tmp_path / "made")


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
@pytest.mark.skipif(not Path(DATA, "sgd").is_dir(), reason="TASKLOOM_DATA names no folder with sgd and the others")
def test_a_case_study_goes_from_its_data_to_its_report(name: str, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "recipes.py"), name, "--data", DATA, "--out", str(tmp_path)]
    done = subprocess.run([*command, "--quick"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report.html").is_file()
