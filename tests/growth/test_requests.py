"""What cannot be added is refused in one sentence, before anything is written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from growth_tools import lora, run_of, topics, twin

from taskloom.config import read_config
from taskloom.errors import ConfigError, DataError, ModelError, RunFolderError, TaskloomError
from taskloom.growth import add_task
from taskloom.growth.request import read_request
from taskloom.record import Record
from taskloom.run import train

pytest_plugins = ("growth_fixtures",)
pytestmark = pytest.mark.usefixtures("_plain_page")

Change = Callable[[dict[str, Any]], Any]


def message_of(run: Path, request: Any, **options: Any) -> str:
    out = run.with_name("never")
    with pytest.raises(TaskloomError) as error:
        add_task(run, request, out, **options)
    assert not out.exists()
    return str(error.value)


CASES: list[tuple[Change, str]] = [
    (
        lambda v: v.update(taks={}),
        "config: `taks` should be a key that Taskloom knows. Found `taks`. Did you mean `tasks`?",
    ),
    (
        lambda v: v["tasks"].update(more={"type": "classification", "data": "x"}),
        "config: `tasks` should name one new task. Found 2 tasks. Write `tasks:` and under it "
        "`NAME: {type: classification, data: FOLDER}`; call again for each further one.",
    ),
    (
        lambda v: v.update(tasks={"intent": v["tasks"]["topics"]}),
        "config: `tasks.intent` should have a name that no task of `{run}` has. Found `intent`. Choose another.",
    ),
    (
        lambda v: v["tasks"]["topics"].update(type="multi_lable"),
        "config: `tasks.topics.type` should be a task type that Taskloom has. Found `multi_lable`. "
        "Did you mean `multi_label`?",
    ),
    (
        lambda v: v.update(training={"seed": 3}),
        "config: `training.seed` should be left to the run, whose splits were made by it. Found `3`. "
        "Set `data_seed` for other draws.",
    ),
    (
        lambda v: v.update(own_adapter={"rank": 3}),
        "config: `own_adapter.rank` should be a key that Taskloom knows. Found `rank`. "
        "Choose one of `lora_alpha`, `lora_dropout`, `r`, `target_modules`, `use_rslora`.",
    ),
    (
        lambda v: v.update(own_adapter={"r": 0}),
        "config: `own_adapter.r` should be more than 0. Found `0`.",
    ),
    (
        lambda v: v.update(gentle="repaly"),
        "config: `gentle.method` should be a way to train shared parts on. Found `repaly`. Did you mean `replay`?",
    ),
    (
        lambda v: v.update(gentle={"method": "replay", "share": 1.0}),
        "config: `gentle.share` should be less than 1. Found `1.0`.",
    ),
    (
        lambda v: v.update(gentle={"method": "fisher", "share": 0.5}),
        "config: `gentle.share` should be a key that Taskloom knows. Found `share`. "
        "Choose one of `method`, `rows`, `strength`.",
    ),
]


@pytest.mark.parametrize(("change", "message"), CASES)
def test_a_faulty_request_is_told_in_one_sentence(
    small_run: Path, tiny_data: Path, change: Change, message: str
) -> None:
    request = topics(tiny_data)
    change(request)
    assert message_of(small_run, request) == message.replace("{run}", str(small_run))


def test_a_fault_says_the_line_of_the_file(small_run: Path, tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text("tasks:\n  topics:\n    type: multi_label\n    data: x\n    wieght: 2\n")
    with pytest.raises(ConfigError) as error:
        read_request(tmp_path / "task.yaml", read_config(small_run / "run.yaml"))
    assert str(error.value).startswith("task.yaml:5: `tasks.topics.wieght` should be a key that Taskloom knows.")


def test_an_assignment_overrides_the_file(small_run: Path, tiny_data: Path) -> None:
    base = read_config(small_run / "run.yaml")
    found = read_request(topics(tiny_data), base, ["training.max_steps=9", "own_adapter.r=3"])
    assert found.alone.training["max_steps"] == 9
    assert found.own_adapter is not None
    assert found.own_adapter["r"] == 3
    assert found.own_adapter["lora_alpha"] == 6.0
    assert found.own_adapter["target_modules"] == "all-linear"
    assert found.alone.training["per_device_train_batch_size"] == base.training["per_device_train_batch_size"]


def test_training_is_that_of_the_run_where_nothing_is_said(small_run: Path, tiny_data: Path) -> None:
    base = read_config(small_run / "run.yaml")
    found = read_request(topics(tiny_data), base)
    assert found.alone.training == base.training
    assert list(found.joint.tasks) == ["intent", "urgency", "topics"]


def test_an_unknown_task_to_begin_from_is_refused_with_the_nearest(small_run: Path, tiny_data: Path) -> None:
    found = message_of(small_run, topics(tiny_data), init_from="intend")
    wanted = "`--init-from` should name a task of the run, or `auto`. Found `intend`. Did you mean `intent`?"
    assert found == wanted


def test_a_task_whose_parts_do_not_fit_is_refused(small_run: Path, tiny_data: Path) -> None:
    assert message_of(small_run, topics(tiny_data), init_from="intent") == (
        "`--init-from` should name a task with a part that fits `topics`. "
        "Found `intent`, whose labels and adapter are others. Take `--init-from auto`, or leave it out."
    )


def test_an_own_adapter_is_refused_where_the_run_has_none(tiny_encoder: Path, tiny_data: Path, tmp_path: Path) -> None:
    train(run_of(tiny_encoder, tiny_data, adapter=None), tmp_path / "a")
    assert message_of(tmp_path / "a", topics(tiny_data, own_adapter={})) == (
        "config: `own_adapter` should stand beside a shared adapter of type `lora`. "
        "Found a run without an adapter. Leave it out: the head alone is trained."
    )


def test_target_modules_that_match_nothing_are_refused(small_run: Path, tiny_data: Path) -> None:
    with pytest.raises(ModelError, match=r"`own_adapter` should be what peft accepts beside the shared adapter\."):
        add_task(small_run, topics(tiny_data, own_adapter={"target_modules": ["nothing"]}), small_run.with_name("no"))
    assert not small_run.with_name("no").exists()


def test_a_run_that_is_not_finished_is_refused(small_run: Path, tiny_data: Path, tmp_path: Path) -> None:
    shutil.copytree(small_run, tmp_path / "a")
    Record(tmp_path / "a").write_state("interrupted", 2)
    with pytest.raises(RunFolderError) as error:
        add_task(tmp_path / "a", topics(tiny_data))
    assert str(error.value) == (
        f"`{tmp_path / 'a'}` should hold a finished run. Found status interrupted. "
        f"Run `taskloom train … --out {tmp_path / 'a'}` to its end."
    )


def test_a_folder_of_another_growth_is_refused(small_run: Path, tiny_data: Path, tmp_path: Path) -> None:
    add_task(small_run, twin(tiny_data), tmp_path / "b")
    with pytest.raises(RunFolderError) as error:
        add_task(small_run, twin(tiny_data), tmp_path / "b", init_from="intent")
    assert str(error.value) == (
        f"`{tmp_path / 'b'}` should hold `init_from: intent`. Found `init_from: None`. "
        f"Name another folder, or delete `{tmp_path / 'b'}` to begin anew."
    )


def test_a_task_with_neither_data_nor_predictions_is_refused_unless_nothing_is_to_be_proved(
    tiny_encoder: Path, tiny_data: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_data, tmp_path / "data")
    train(run_of(tiny_encoder, tmp_path / "data", adapter=lora()), tmp_path / "a")
    shutil.rmtree(tmp_path / "data" / "intent")
    shutil.rmtree(tmp_path / "a" / "predictions")
    with pytest.raises(RunFolderError) as error:
        add_task(tmp_path / "a", topics(tiny_data), tmp_path / "b")
    assert str(error.value) == (
        f"{tmp_path / 'a'}: `tasks.intent` should have data or predictions left to be probed with. Found neither. "
        "Bring the data back, or call with `--no-proof` to go without."
    )
    assert not (tmp_path / "b").exists()
    grown = add_task(tmp_path / "a", topics(tiny_data), tmp_path / "b", prove=False)
    assert grown.record.state.status == "finished"
    assert not (tmp_path / "b" / "unchanged.json").exists()
    assert "composite" not in {score.task for score in grown.scores}


def test_gentle_ways_need_the_data_of_old_tasks(tiny_encoder: Path, tiny_data: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_data, tmp_path / "data")
    train(run_of(tiny_encoder, tmp_path / "data", adapter=lora()), tmp_path / "a")
    shutil.rmtree(tmp_path / "data" / "intent")
    with pytest.raises(DataError, match=r"tasks\.intent"):
        add_task(tmp_path / "a", topics(tiny_data, gentle="replay"), tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_a_task_of_words_is_refused_where_no_language_head_is(small_run: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.jsonl").write_text('{"text": "where is my parcel"}\n' * 20)
    section = {"type": "masked_language_modelling", "data": str(tmp_path / "texts.jsonl"), "max_length": 32}
    assert message_of(small_run, {"tasks": {"words": section}}) == (
        "`tasks.words.type` should be one that needs no language head. Found `masked_language_modelling` on a run "
        "that has loaded none. Train a run with a task that reads words, and add to that."
    )
