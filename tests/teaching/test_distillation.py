"""Learning from a teacher: losses in closed form, lessons against a plain pass of the teacher, and every refusal."""

from __future__ import annotations

import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from taskloom.config import load_config
from taskloom.errors import ConfigError
from taskloom.model import load_model
from taskloom.preparation import Prepared, prepare
from taskloom.tasks import TASKS, Task
from taskloom.tasks._soft import LESSON, Pupil, binary_divergence, divergence
from taskloom.teaching import distillation
from taskloom.teaching.distillation import Lessons, begin_distillation, teachers_of

PUPILS = ("intent", "slots", "urgency", "topics")
CPU = torch.device("cpu")


def pupil(kind: str, **options: Any) -> Any:
    return TASKS.load(kind)(distillation={"teacher": "somewhere", **options})


def softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def test_a_classification_learns_hard_and_soft_answers_by_their_shares() -> None:
    task = pupil("classification", temperature=3.0, share=0.25)
    output, teacher = np.random.default_rng(0).normal(size=(2, 4, 5))
    label = [0, 3, 2, 2]
    targets = {"label": torch.tensor(label), LESSON: torch.from_numpy(teacher)}
    loss = task.loss(torch.from_numpy(output), targets)
    hard = -np.log(softmax(output)[np.arange(4), label])
    wanted, said = softmax(teacher / 3), softmax(output / 3)
    soft = 9 * (wanted * np.log(wanted / said)).sum(1)
    np.testing.assert_allclose(loss, 0.75 * hard + 0.25 * soft, rtol=1e-6)


def test_several_labels_are_each_learned_from_the_teachers_sigmoid() -> None:
    task = pupil("multi_label", temperature=2.0, share=1.0)
    output, teacher = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    loss = task.loss(output, {"labels": torch.ones(3, 4, dtype=torch.float64), LESSON: teacher})
    p, q = (torch.sigmoid(each / 2) for each in (teacher, output))
    both = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    torch.testing.assert_close(loss, 4 * both.mean(dim=1))


def test_a_word_that_the_teacher_did_not_read_is_learned_from_its_tag_alone() -> None:
    task = pupil("token_classification", temperature=1.0, share=0.5)
    output = torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    teacher = torch.tensor([[[1.0, 0, 0], [float("nan")] * 3, [0, 2.0, 0], [float("nan")] * 3]])
    tags = torch.tensor([[0, 1, 2, -100]])
    loss = task.loss(output, {"tags": tags, LESSON: teacher})
    hard = functional.cross_entropy(output[0, :3], tags[0, :3], reduction="none")
    soft = [functional.kl_div(output[0, w].log_softmax(0), teacher[0, w].softmax(0), reduction="sum") for w in (0, 2)]
    wanted = (0.5 * (hard[0] + soft[0]) + hard[1] + 0.5 * (hard[2] + soft[1])) / 3
    torch.testing.assert_close(loss[0], wanted)
    loss.sum().backward()
    assert output.grad is not None
    assert output.grad.isfinite().all()
    assert not output.grad[0, 3].any()


def test_a_number_is_learned_from_the_row_and_from_the_teacher_by_their_shares() -> None:
    task = pupil("regression", share=0.25)
    targets = {"number": torch.tensor([1.0, -2.0]), LESSON: torch.tensor([[0.0], [1.0]])}
    loss = task.loss(torch.tensor([[2.0], [0.0]]), targets)
    torch.testing.assert_close(loss, torch.tensor([0.75 * 1 + 0.25 * 4, 0.75 * 4 + 0.25 * 1]))


def test_a_pupil_that_says_what_its_teacher_says_loses_nothing_and_is_not_moved() -> None:
    output = torch.randn(3, 5, requires_grad=True)
    for form in (divergence, binary_divergence):
        loss = form(output, output.detach(), 2.0).sum()
        (gradient,) = torch.autograd.grad(loss, output)
        assert float(loss.detach()) == pytest.approx(0, abs=1e-6)
        assert float(gradient.abs().max()) < 1e-6


def test_at_a_high_temperature_logits_are_matched_as_the_paper_says() -> None:
    output, teacher = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    output.requires_grad_()
    (gradient,) = torch.autograd.grad(divergence(output, teacher, 1e4).sum(), output)
    apart = output.detach() - teacher
    torch.testing.assert_close(gradient, (apart - apart.mean(1, keepdim=True)) / 5, rtol=1e-3, atol=1e-6)


def test_items_without_a_lesson_are_learned_as_without_a_teacher() -> None:
    task, plain = pupil("classification"), TASKS.load("classification")()
    output = torch.randn(2, 3)
    items = [{"label": 1}, {"label": 0}]
    assert task.targets(items, 4).keys() == {"label"}
    assert torch.equal(task.loss(output, task.targets(items, 4)), plain.loss(output, plain.targets(items, 4)))


def test_lessons_come_in_the_order_of_the_pupils_labels() -> None:
    task, teacher = pupil("classification"), TASKS.load("classification")()
    task.restore({"labels": ["a", "b", "c"]})
    teacher.restore({"labels": ["c", "a", "b"]})
    assert task.lesson(teacher, np.array([[30.0, 10.0, 20.0]]), {}, {}).tolist() == [[10.0, 20.0, 30.0]]


def test_words_meet_their_lessons_whatever_pieces_pupil_and_teacher_see() -> None:
    task, teacher = pupil("token_classification"), TASKS.load("token_classification")()
    for each in (task, teacher):
        each.restore({"labels": ["B-x", "O"]})
    output = np.arange(12, dtype=np.float32).reshape(1, 6, 2)
    said = task.lesson(teacher, output, {"words": [0, 1], "positions": [1, 4]}, {"words": [0, 1, 2]})
    np.testing.assert_array_equal(said, [[2, 3], [8, 9], [np.nan, np.nan]])


def test_a_teachers_number_is_brought_to_the_pupils_scale() -> None:
    task, teacher = pupil("regression"), TASKS.load("regression")()
    task.restore({"mean": 10.0, "spread": 2.0, "low": 0, "high": 20})
    teacher.restore({"mean": 4.0, "spread": 8.0, "low": 0, "high": 20})
    assert task.lesson(teacher, np.array([[1.0]]), {}, {}).tolist() == [[1.0]]  # 12 on the scale of the data


def test_lessons_are_read_item_by_item() -> None:
    lessons = Lessons(np.arange(10, dtype=np.float32).reshape(5, 2), np.array([2, 0, 3]))
    assert len(lessons) == 3
    assert [each.tolist() for each in lessons] == [[[0, 1], [2, 3]], [], [[4, 5], [6, 7], [8, 9]]]
    with pytest.raises(IndexError):
        lessons[3]


def taught(run_values: dict[str, Any], teacher: Path, **changes: Any) -> Prepared:
    values = deepcopy(run_values)
    values["tasks"] = {name: values["tasks"][name] for name in PUPILS}
    for section in values["tasks"].values():
        section["distillation"] = {"teacher": str(teacher), **changes}
    return prepare(load_config(values), splits=("train", "validation"))


@pytest.fixture
def prepared(run_values: dict[str, Any], tiny_run: Path) -> Prepared:
    return taught(run_values, tiny_run)


def begin(prepared: Prepared, folder: Path, told: list[str] | None = None) -> None:
    told = [] if told is None else told
    begin_distillation(prepared.config, prepared, folder, CPU, told.append)


def test_lessons_are_what_the_teachers_head_gives_row_by_row(
    prepared: Prepared, tiny_run: Path, tmp_path: Path
) -> None:
    told: list[str] = []
    begin(prepared, tmp_path, told)
    model, tasks, _ = load_model(tiny_run / "model")
    for name in PUPILS:
        task = prepared.tasks[name]
        for item in (prepared.items[name]["train"][index] for index in (0, 7)):
            inputs = {key: torch.tensor(item[key]) for key in ("input_ids", "token_type_ids")}
            mask = torch.ones_like(inputs["input_ids"])
            with torch.no_grad():
                hidden = model.backbone(**inputs, attention_mask=mask).last_hidden_state
                output = model.heads[name](hidden, mask)[0]
            if name == "urgency":
                output = (output * tasks[name].spread + tasks[name].mean - task.mean) / task.spread
            wanted = output[item["positions"]] if name == "slots" else output[None]
            np.testing.assert_allclose(item[LESSON], wanted, rtol=1e-4, atol=1e-5)
        assert LESSON not in prepared.items[name]["validation"][0]
    assert told[0] == f"intent is taught by intent of {tiny_run / 'model'}"


def test_a_resumed_run_reads_its_lessons_and_asks_no_teacher_again(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(prepared, tmp_path)
    before = {name: prepared.items[name]["train"].beside.pop(LESSON) for name in PUPILS}

    def refused(folder: Path) -> None:
        raise AssertionError(folder)

    monkeypatch.setattr(distillation, "load_model", refused)
    begin(prepared, tmp_path)
    for name in PUPILS:
        again = prepared.items[name]["train"].beside[LESSON]
        assert isinstance(again, Lessons)
        assert np.array_equal(again.values, before[name].values, equal_nan=True)


def test_another_teacher_gives_other_lessons(
    prepared: Prepared, run_values: dict[str, Any], tiny_run: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    begin(prepared, tmp_path / "run")
    other = tmp_path / "other"
    shutil.copytree(tiny_run / "model", other / "model")
    heads = load_file(other / "model" / "heads.safetensors")
    save_file({key: value + 1 if key == "urgency.linear.bias" else value for key, value in heads.items()},
              other / "model" / "heads.safetensors")  # fmt: skip
    changed = taught(run_values, other)
    begin(changed, tmp_path / "run")
    first, second = (each.items["urgency"]["train"][0][LESSON] for each in (prepared, changed))
    assert second == pytest.approx(first + 1, abs=1e-4)


def test_a_step_with_a_teacher_is_its_share_of_both_losses(prepared: Prepared, tmp_path: Path) -> None:
    begin(prepared, tmp_path)
    for name in PUPILS:
        task: Task = prepared.tasks[name]
        assert isinstance(task, Pupil)
        items = [prepared.items[name]["train"][index] for index in range(3)]
        tokens = max(len(item["input_ids"][0]) for item in items)
        targets = task.targets(items, tokens)
        shape = (3, tokens, len(task.labels)) if name == "slots" else (3, 1 if name == "urgency" else len(task.labels))
        output = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        alone = {key: value for key, value in targets.items() if key != LESSON}
        assert targets.keys() - alone.keys() == {LESSON}
        assert not torch.allclose(task.loss(output, targets), task.loss(output, alone))
        assert task.loss(output, targets).isfinite().all()
        assert torch.equal(task.terms(targets), task.terms(alone))


def refusal(prepared: Prepared) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        teachers_of(prepared.config, prepared.tasks)
    return [str(fault).removeprefix("config: ") for fault in caught.value.faults]


def test_a_teacher_that_is_no_run_is_refused(run_values: dict[str, Any], tmp_path: Path) -> None:
    said = refusal(taught(run_values, tmp_path / "nowhere"))
    assert len(said) == 4
    assert said[0] == (
        "`tasks.intent.distillation.teacher` should be the folder of a finished run. "
        f"Found `{tmp_path / 'nowhere'}`, which is no folder. Train the teacher first."
    )
    assert "which holds no model" in refusal(taught(run_values, tmp_path))[0]


def test_a_teacher_without_the_task_or_with_one_of_another_type_is_refused(
    run_values: dict[str, Any], tiny_run: Path
) -> None:
    assert refusal(taught(run_values, tiny_run, task="intnt"))[0] == (
        "`tasks.intent.distillation.task` should be a task of the teacher. Found `intnt`. Did you mean `intent`?"
    )
    said = refusal(taught(run_values, tiny_run, task="intent"))
    assert said[1] == (
        "`tasks.urgency.distillation.task` should name a task of the same type. "
        "Found `Classification` where this is `Regression`."
    )


def test_a_teacher_of_other_labels_is_refused() -> None:
    task, teacher = pupil("classification"), TASKS.load("classification")()
    task.restore({"labels": ["a", "b"]})
    teacher.restore({"labels": ["c", "a"]})
    assert task.objection(teacher) == ("have the labels of this task", "no `b` and `c` besides")
    teacher.restore({"labels": ["b", "a"]})
    assert task.objection(teacher) is None


def test_what_a_run_file_says_of_a_teacher_is_checked_and_kept_whole(
    run_values: dict[str, Any], tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = run_values["tasks"]["intent"]
    section["distillation"] = {"teacher": str(tiny_run), "temprature": 1}
    with pytest.raises(ConfigError, match=r"`tasks.intent.distillation.temprature`.*Did you mean `temperature`\?"):
        load_config(run_values)
    section["distillation"] = {"teacher": str(tiny_run), "share": 1.5}
    with pytest.raises(ConfigError, match=r"`tasks.intent.distillation.share` should be at most 1"):
        load_config(run_values)
    monkeypatch.chdir(tiny_run.parent)
    section["distillation"] = {"teacher": tiny_run.name}
    config = load_config(run_values)
    assert config.options("intent")["distillation"]["teacher"] == str(tiny_run.resolve())
    assert load_config(config.resolved()).resolved() == config.resolved()
