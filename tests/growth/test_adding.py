"""A task that is added later is trained alone, and no bit of the others' outputs changes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from growth_tools import assert_old_weights_stand, lora, run_of, topics, twin, weights_of

from taskloom.errors import RunFolderError
from taskloom.growth import add_task, proof
from taskloom.model import load_model
from taskloom.record import Record
from taskloom.run import Run, evaluate, train

pytest_plugins = ("growth_fixtures",)
pytestmark = pytest.mark.usefixtures("_plain_page")


@pytest.fixture(scope="module")
def grown(small_run: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small run with a third task that has an adapter of its own."""
    folder = tmp_path_factory.mktemp("grown") / "b"
    add_task(small_run, topics(tiny_data, own_adapter={"r": 2, "lora_dropout": 0.1}), folder)
    return folder


def test_the_outputs_of_old_tasks_are_the_same_to_the_bit(grown: Path) -> None:
    tasks = json.loads((grown / proof.FILE).read_text())["tasks"]
    assert list(tasks) == ["intent", "urgency"]
    for each in tasks.values():
        assert each["same"] is True
        assert each["before"] == each["after"]
        assert len(each["before"]) == 64
        assert each["rows"] > 0
        assert each["source"] == "validation rows"


def test_no_weight_of_the_run_moves_and_the_new_parts_do(small_run: Path, grown: Path) -> None:
    assert_old_weights_stand(small_run, grown)
    own = [value for name, value in weights_of(grown).items() if "own-topics" in name and "lora_B" in name]
    assert own
    assert all(bool(value.any()) for value in own)


def test_the_grown_folder_is_a_finished_run_with_all_tasks(small_run: Path, grown: Path, tiny_data: Path) -> None:
    run, old = Run(grown), Run(small_run)
    assert run.record.state.status == "finished"
    assert run.record.report_html.is_file()
    assert set(run.record.data()) == {"intent", "urgency", "topics"}
    kept = [score for score in run.scores if score.task in {"intent", "urgency"}]
    assert kept == [score for score in old.scores if score.task != "composite"]
    new = [score for score in run.scores if score.task == "topics"]
    assert new
    assert all(score.low <= score.value <= score.high for score in new)
    again = evaluate(shutil.copytree(grown, grown.with_name("again")))
    assert again == run.scores


def test_a_task_with_its_own_adapter_answers_otherwise_than_by_the_shared_one(grown: Path) -> None:
    run = Run(grown)
    rows = [{"text": "my parcel is late and the invoice is wrong"}]
    with_own = run.predict("topics", rows)
    model, _, _ = run.loaded()
    model.own_adapters.clear()
    assert run.predict("topics", rows) != with_own


def test_rows_of_one_batch_take_their_own_adapters(grown: Path, small_run: Path) -> None:
    from taskloom.batches.chunks import Padding, collate

    model, tasks, tokenizer = load_model(grown / "model")
    rows = {name: [{"text": text} for text in ("where is my parcel", "refund me please")] for name in tasks}
    drawn = [(name, item[0]) for name in tasks for item in tasks[name].encode(rows[name], tokenizer)]
    for item in drawn:
        item[1].setdefault("value", 0.0)
    with torch.no_grad():
        mixed = model(collate(drawn, tasks, Padding(0)))
        for name in tasks:
            alone = model(collate([each for each in drawn if each[0] == name], tasks, Padding(0)))
            assert torch.allclose(mixed[name], alone[name], atol=1e-6)


def test_the_new_head_alone_is_trained_where_all_of_the_backbone_was(
    tiny_encoder: Path, tiny_data: Path, tmp_path: Path
) -> None:
    train(run_of(tiny_encoder, tiny_data, adapter=None), tmp_path / "a")
    grown = add_task(tmp_path / "a", topics(tiny_data))
    assert grown.folder == tmp_path / "a-topics"
    assert_old_weights_stand(tmp_path / "a", grown.folder)
    tasks = json.loads((grown.folder / proof.FILE).read_text())["tasks"]
    assert all(each["same"] for each in tasks.values())


def test_frozen_parts_have_no_dropout_while_a_head_is_trained(small_run: Path, tiny_data: Path, tmp_path: Path) -> None:
    seen: list[set[bool]] = []

    class Look(transformers.TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            seen.append({each.training for each in model.backbone.modules()})
            seen.append({each.training for each in model.heads["topics"].modules()})

    add_task(small_run, topics(tiny_data), tmp_path / "b", callbacks=[Look()])
    assert seen[0::2] == [{False}] * 4
    assert seen[1::2] == [{True}] * 4


def test_a_growth_that_is_killed_and_called_again_gives_the_same_bytes(
    small_run: Path, grown: Path, tiny_data: Path, tmp_path: Path
) -> None:
    class Killed(Exception):
        pass

    class Kill(transformers.TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 3:
                raise Killed

    request = topics(tiny_data, own_adapter={"r": 2, "lora_dropout": 0.1})
    with pytest.raises(Killed):
        add_task(small_run, request, tmp_path / "b", callbacks=[Kill()])
    assert Record(tmp_path / "b").state.status == "failed"
    add_task(small_run, request, tmp_path / "b")
    whole, resumed = weights_of(grown), weights_of(tmp_path / "b")
    here = {name for name in whole if "checkpoint" not in name}
    assert here == {name for name in resumed if "checkpoint" not in name}
    assert all(torch.equal(whole[name], resumed[name]) for name in here)
    assert (grown / "scores.jsonl").read_bytes() == (tmp_path / "b" / "scores.jsonl").read_bytes()


def test_a_growth_does_not_go_on_with_other_rows(small_run: Path, tiny_data: Path, tmp_path: Path) -> None:
    class Stop(transformers.TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 3:
                raise KeyError

    shutil.copytree(tiny_data / "topics", tmp_path / "topics")
    request = topics(tmp_path)
    with pytest.raises(KeyError):
        add_task(small_run, request, tmp_path / "b", callbacks=[Stop()])
    train_rows = next((tmp_path / "topics").glob("train*"))
    first, second, *rest = train_rows.read_text().splitlines(keepends=True)
    train_rows.write_text("".join([second, first, *rest]))
    with pytest.raises(RunFolderError) as error:
        add_task(small_run, request, tmp_path / "b")
    assert str(error.value).splitlines() == [
        f"`--out {tmp_path / 'b'}` should go on with what it began with. Found 1 of it changed. "
        "Bring back what changed, or name another folder.",
        "`tasks.topics.data` should give the train rows that the run began with. "
        "Found the same 16 train rows in another order.",
    ]


def test_a_finished_growth_is_not_trained_again(small_run: Path, grown: Path, tiny_data: Path) -> None:
    before = (grown / "steps.jsonl").read_bytes()
    add_task(small_run, topics(tiny_data, own_adapter={"r": 2, "lora_dropout": 0.1}), grown)
    assert (grown / "steps.jsonl").read_bytes() == before


def test_a_third_task_is_added_to_what_grew(grown: Path, tiny_data: Path, tmp_path: Path) -> None:
    again = add_task(grown, twin(tiny_data, own_adapter={"r": 2}), tmp_path / "c")
    tasks = json.loads((again.folder / proof.FILE).read_text())["tasks"]
    assert list(tasks) == ["intent", "urgency", "topics"]
    assert all(each["same"] for each in tasks.values())
    assert_old_weights_stand(grown, again.folder)


def test_where_data_is_gone_the_texts_of_the_predictions_are_probed(
    tiny_encoder: Path, tiny_data: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_data, tmp_path / "data")
    train(run_of(tiny_encoder, tmp_path / "data", adapter=lora()), tmp_path / "a")
    shutil.rmtree(tmp_path / "data" / "intent")
    grown = add_task(tmp_path / "a", topics(tiny_data), tmp_path / "b")
    tasks = json.loads((grown.folder / proof.FILE).read_text())["tasks"]
    assert tasks["intent"]["source"] == "predictions on test, since the data is gone"
    assert tasks["intent"]["same"] is True
    assert tasks["urgency"]["source"] == "validation rows"


def test_outputs_that_changed_are_an_error_and_no_model_is_kept(
    small_run: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = proof.digests, []

    def digests(*arguments: Any) -> dict[str, str]:
        found = original(*arguments)
        calls.append(1)
        return found if len(calls) == 1 else {**found, "intent": "0" * 64}

    monkeypatch.setattr(proof, "digests", digests)
    with pytest.raises(proof.ChangedOutputsError) as error:
        add_task(small_run, topics(tiny_data), tmp_path / "b")
    assert error.value.exit_code == 1
    fix = "Nothing was kept; please report this."
    assert str(error.value) == f"`tasks.intent` should give the same outputs as before. Found others. {fix}"
    assert Record(tmp_path / "b").state.status == "failed"
    assert not (tmp_path / "b" / "model").exists()
    assert json.loads((tmp_path / "b" / proof.FILE).read_text())["tasks"]["intent"]["same"] is False
