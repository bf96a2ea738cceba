"""Studies: descriptions, what is compared, how it is said, trials, and the command."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from study_tools import study_values
from taskloom.cli import commands, study
from taskloom.composite.weighted_mean import WeightedMean
from taskloom.config.document import dump
from taskloom.errors import ConfigError, RunFolderError
from taskloom.record import Record, read_lines, write_json
from taskloom.study import run_study
from taskloom.study.comparison import ArmFacts, TaskScores, compare, ranks, regret
from taskloom.study.description import read_study
from taskloom.study.ground_truth import measure_transfer, read_measured
from tiny_runs import tiny_values


def facts(name: str, *rows: list[float]) -> ArmFacts:
    tasks = {}
    for place, scores in enumerate(rows):
        held = np.array(scores)
        tasks[f"t{place}"] = TaskScores(f"t{place}", "accuracy", held, held, np.full(len(held), 0.1))
    return ArmFacts(name, tasks, {"parameters": 1.0}, 1)


SINGLE = facts("single", [0.5] * 8, [0.8] * 8)
NOISE = np.random.default_rng(0).normal(scale=0.002, size=8)


def test_a_comparison_is_what_its_words_say() -> None:
    arm = facts("joint", (0.6 + NOISE).tolist(), (0.76 + NOISE).tolist())
    found = compare(arm, SINGLE, {"t0": 3.0, "t1": 1.0}, how=WeightedMean(), margin=0.01, level=0.05)
    assert [each.word for each in found.verdicts] == ["helped", "harmed"]
    assert found.delta_m.mean() == pytest.approx((0.1 / 0.5 - 0.04 / 0.8) / 2, abs=0.005)
    assert found.composite.difference == pytest.approx(0.75 * 0.1 - 0.25 * 0.04, abs=0.005)
    assert found.worst[0] == "t1"
    assert found.harmed == 0.5
    assert found.ratio == pytest.approx(np.sqrt(1.2 * 0.95), abs=0.01)


def test_equal_arms_are_equivalent_and_few_seeds_cannot_tell() -> None:
    same = compare(facts("same", (0.5 + NOISE).tolist(), (0.8 + NOISE).tolist()), SINGLE, {"t0": 1, "t1": 1},
                   how=WeightedMean(), margin=0.01, level=0.05)  # fmt: skip
    assert [each.word for each in same.verdicts] == ["no difference shown"] * 2
    assert max(same.equivalence.values()) < 0.05
    few = compare(facts("few", [0.6, 0.6], [0.9, 0.9]), facts("single", [0.5, 0.5], [0.8, 0.8]), {"t0": 1, "t1": 1},
                  how=WeightedMean(), margin=0.01, level=0.05)  # fmt: skip
    assert [each.word for each in few.verdicts] == ["cannot tell"] * 2


def test_ranks_and_regret_tell_the_best_arm() -> None:
    arms = [SINGLE, facts("best", [0.6] * 8, [0.9] * 8), facts("worst", [0.4] * 8, [0.1] * 8)]
    assert ranks(arms) == {"single": 2.0, "best": 1.0, "worst": 3.0}
    found = regret(arms)
    assert found["best"] == 0.0
    assert found["single"] == pytest.approx((0.1 / 0.5 + 0.1 / 0.8) / 2)
    assert found["worst"] == pytest.approx((0.2 / 0.5 + 0.8 / 0.8) / 2)


@pytest.fixture(scope="module")
def outcome(tiny_encoder: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    arms = {
        "upgrad": {"balance": {"method": "upgrad"}},
        "apart": {"groups": [["topics"], ["intent"]]},
        "ties": {"merge": {"method": "ties"}},
    }
    values = study_values(tiny_values(tiny_encoder, tiny_data), arms=arms)
    folder = tmp_path_factory.mktemp("study") / "out"
    file = folder.with_name("study.yaml")
    file.write_text(dump(values), encoding="utf-8")
    run_study(file, folder)
    return folder, file


def test_a_study_compares_every_arm_with_each_task_alone(outcome: tuple[Path, Any]) -> None:
    folder, _ = outcome
    held = Record(folder)
    from taskloom.record import read_note

    found = read_note(held.folder / "study.json")
    names = [arm["name"] for arm in found["arms"]]
    assert names == ["single", "joint", "random_weights", "upgrad", "apart", "ties"]
    assert [each["arm"] for each in found["comparisons"]] == names[1:]
    assert len(list((folder / "members").glob("*/scores.jsonl"))) == 2 * (2 + 3)  # `apart` is each task alone
    by_name = {arm["name"]: arm for arm in found["arms"]}
    assert by_name["apart"]["tasks"] == by_name["single"]["tasks"]
    assert by_name["single"]["models"] == 2
    assert by_name["ties"]["models"] == 1
    rows = {name: by_name[name]["cost"]["rows"] for name in ("single", "joint")}
    assert rows["single"] == rows["joint"] == 48
    apart = next(each for each in found["comparisons"] if each["arm"] == "apart")
    assert [row["difference"] for row in apart["tasks"]] == [0.0, 0.0]


def test_scores_of_a_study_are_those_of_its_runs(outcome: tuple[Path, Any]) -> None:
    from taskloom.record import read_note

    folder, _ = outcome
    found = read_note(folder / "study.json")
    arm = next(each for each in found["arms"] if each["name"] == "joint")
    values = set()
    for path in (folder / "members").glob("*/scores.jsonl"):
        own = [row for row in read_lines(path) if row["task"] == "intent" and row["split"] == "test"]
        values |= {own[0]["value"]} if own else set()
    assert set(arm["tasks"]["intent"]["raw"]) <= values


def test_the_command_says_what_two_seeds_can_tell(outcome: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, file = outcome
    out = io.StringIO()
    for module in (commands, study):
        monkeypatch.setattr(module, "console", Console(file=out, width=160))
    study.run_study_file(file, folder, None, [])
    text = out.getvalue()
    assert "10 runs, 10 finished before" in text
    assert "2 paired seeds of 2 tasks cannot tell whether training together helped or harmed. " in text
    assert "Take more seeds, or compare fewer tasks." in text
    for name in ("random_weights", "upgrad", "ties"):
        assert f"{name} against single:" in text


def test_a_study_has_a_page_with_its_verdicts(outcome: tuple[Path, Any]) -> None:
    from taskloom.reports import report

    folder, _ = outcome
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "2 paired seeds of 2 tasks cannot tell" in page
    for name in ("single", "joint", "random_weights", "ties"):
        assert f">{name}</th>" in page
    assert page.count('class="chart"') == 2
    begun = folder.with_name("begun")
    begun.mkdir()
    write_json(begun / "study.json", {"version": 1, "seeds": [0], "budget": {}})
    assert "This study is not finished." in report([begun]).read_text(encoding="utf-8")


def test_what_is_wrong_with_a_study_is_told_at_once(run_values: dict[str, Any]) -> None:
    arms = {
        "single": {},
        "typo": {"balanse": {"method": "upgrad"}},
        "longer": {"training.max_steps": 900},
        "parts": {"groups": [["intent"]]},
        "sum": {"merge": {"method": "tise"}},
        "wrong": {"balance": {"method": "upgrat"}},
    }
    with pytest.raises(ConfigError) as caught:
        read_study(study_values(run_values, arms=arms, seeds=[1, 1]))
    assert [str(fault).removeprefix("config: ") for fault in caught.value.faults] == [
        "`seeds` should be different numbers, one at least. Found `[1, 1]`.",
        "`arms.single` should not be called `single`, which is what every study has. Found `single`. "
        "Choose another name.",
        "`arms.typo.balanse` should be a key that Taskloom knows. Found `balanse`. Did you mean `balance`?",
        "`arms.longer.training.max_steps` should leave steps, rows of a step, seeds and splits to the study. "
        "Found `900`. Set `budget` or `seeds` for all arms alike.",
        "`arms.parts.groups` should be lists of tasks in which each task of the run stands once. Found `[['intent']]`.",
        "`arms.sum.merge.method` should be a way to merge adapters. Found `tise`. Did you mean `ties`?",
        "`arms.wrong: balance.method` should be a balancing method that Taskloom has. Found `upgrat`. "
        "Did you mean `upgrad`?",
    ]
    for arm, told in (
        ({"x": {"merge": {"densty": 0.1}}}, "`arms.x.merge.densty` should be an option of merging"),
        ({"x": {"merge": {"density": 3}}}, "`arms.x.merge.density` should be above 0 and at most 1"),
        ({"a:b": {"balance": "upgrad"}}, "`arms.a:b` should be letters, digits"),
        ({"x": {"training": {"seed": 4}}}, "should leave steps, rows of a step, seeds and splits to the study"),
    ):
        with pytest.raises(ConfigError, match=re.escape(told)):
            read_study(study_values(run_values, arms=arm))
    tuning = {"trials": 2, "parameters": {"training.max_steps": [3, 9]}}
    with pytest.raises(ConfigError, match=r"`tuning.parameters.training.max_steps` should leave steps"):
        read_study(study_values(run_values, tuning=tuning))
    with pytest.raises(ConfigError, match=r"`armz` should be a key that Taskloom knows"):
        read_study(study_values(run_values, armz={}))


def test_keys_of_the_run_are_overridden_whether_it_stands_in_a_file_or_not(
    run_values: dict[str, Any], tmp_path: Path
) -> None:
    values = study_values(run_values)
    (tmp_path / "run.yaml").write_text(dump(values["run"]), encoding="utf-8")
    for run in ("run.yaml", values["run"]):
        (tmp_path / "study.yaml").write_text(dump({**values, "run": run}), encoding="utf-8")
        found = read_study(tmp_path / "study.yaml", ["run.training.learning_rate=0.25", "seeds=1"])
        assert found.base.training["learning_rate"] == 0.25
        assert found.seeds == (0,)


def test_a_folder_with_other_files_is_left_alone(run_values: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(RunFolderError, match=r"be a study's folder, or one to be made"):
        run_study(study_values(run_values), tmp_path)


def test_every_arm_has_as_many_trials_and_the_best_settings_are_used(
    run_values: dict[str, Any], tmp_path: Path
) -> None:
    tuning = {"trials": 3, "parameters": {"training.learning_rate": [1e-4, 1e-2]}, "share": 0.5}
    values = study_values(run_values, seeds=[4], tuning=tuning, controls=False)
    found = run_study(values, tmp_path / "out")
    assert set(found["tuning"]) == {"single", "joint"}
    for arm in found["tuning"].values():
        assert len(arm["trials"]) == 3
        whole = [each for each in arm["trials"] if not each["pruned"]]
        assert arm["best"] == max(whole, key=lambda each: each["composite"])["settings"]
    best = found["tuning"]["joint"]["best"]["training.learning_rate"]
    arm = next(each for each in found["arms"] if each["name"] == "joint")
    assert arm["overrides"] == {"training.learning_rate": best}
    trials = list((tmp_path / "out" / "trials").iterdir())
    again = run_study(values, tmp_path / "out")
    assert again == found
    assert sorted((tmp_path / "out" / "trials").iterdir()) == sorted(trials)


def test_measured_transfer_is_the_difference_of_scores_and_of_losses(
    run_values: dict[str, Any], tmp_path: Path
) -> None:
    from taskloom.config import load_config

    base = load_config(study_values(run_values)["run"])
    found = measure_transfer(base, tmp_path / "truth", seeds=(0, 1))
    assert set(found) == {"score", "loss"}
    assert {each.measured for each in found.values()} == {True}
    held = read_measured(tmp_path / "truth")
    np.testing.assert_array_equal(held["score"].effect, found["score"].effect)
    wanted = []
    for seed in (0, 1):
        scores = {}
        for path in (tmp_path / "truth" / "members").iterdir():
            record = Record(path)
            if not path.is_dir() or f"seed: {seed}" not in record.run_yaml.read_text().split("training:")[1]:
                continue
            own = {score.task: score.value for score in reversed(record.scores()) if score.task != "composite"}
            scores[frozenset(own)] = own
        wanted.append(scores[frozenset({"intent", "topics"})]["topics"] - scores[frozenset({"topics"})]["topics"])
    assert found["score"].effect[0, 1] == pytest.approx(np.mean(wanted))
    left_out = measure_transfer(base, tmp_path / "truth", "leave_one_out", seeds=(0, 1))
    np.testing.assert_allclose(left_out["score"].effect, found["score"].effect)  # of two tasks both are the same
