"""The section `balance:` of a run file: what it is filled in with, and how each fault of it is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from taskloom.balance import BALANCES
from taskloom.config import load_config, read_config
from taskloom.config.document import dump
from taskloom.config.schema import BalanceSection
from taskloom.errors import ConfigError

TASK = {"type": "classification", "data": "data/x"}
RUN: dict[str, Any] = {
    "model": {"name_or_path": "some/encoder"},
    "tasks": {name: dict(TASK) for name in ("intent", "slots", "mood", "reply")},
}

COMMON = {
    "reduction": "task",
    "scale_by_log_labels": False,
    "weights_from": None,
    "statistic": "auto",
    "separate_moments": False,
    "sketch_size": 4096,
    "record_steps": None,
    "limit_skipped_steps": 10,
    "check_gradients": True,
}

NEEDED: dict[str, dict[str, Any]] = {
    "constant": {"weights": {"intent": 1, "slots": 2, "mood": 0.5, "reply": 0}},
    "static": {"weights": {"intent": 1, "slots": 2, "mood": 0.5, "reply": 0}},
    "pcd": {"primary": "mood"},
}
"""The options that a method cannot do without."""


def balance_of(section: Any) -> dict[str, Any]:
    return load_config({**RUN, "balance": section}).balance


def told(section: Any, *names: str) -> str:
    values = {**RUN, "tasks": dict.fromkeys(names, TASK)} if names else RUN
    with pytest.raises(ConfigError) as caught:
        load_config({**values, "balance": section})
    return str(caught.value).replace("config: ", "")


def test_a_run_without_the_section_weighs_its_tasks_equally() -> None:
    assert load_config(RUN).balance == {"method": "equal", **COMMON}
    assert balance_of(None) == balance_of({}) == balance_of("equal") == {"method": "equal", **COMMON}


@pytest.mark.parametrize("name", BALANCES.names())
def test_every_method_has_its_options_filled_in_and_reads_the_same_again(name: str) -> None:
    config = load_config({**RUN, "balance": {"method": name, **NEEDED.get(name, {})}})
    assert list(config.balance) == [*BalanceSection.model_fields, *BALANCES.options(name)]
    given = NEEDED.get(name, {})
    for option, (_, default) in BALANCES.options(name).items():
        assert config.balance[option] == given.get(option, default)
    for again in (load_config(config.as_yaml()), load_config(config.resolved())):
        assert again.balance == config.balance
        assert again.as_yaml() == config.as_yaml()


def test_a_method_may_stand_alone_for_its_section() -> None:
    assert balance_of("uncertainty") == balance_of({"method": "uncertainty"})
    assert balance_of("uncertainty")["temperature"] == 1.0


def test_a_method_elsewhere_is_named_in_full() -> None:
    section = balance_of({"method": "taskloom.balance.uncertainty:Uncertainty", "temperature": 2})
    assert section["temperature"] == 2.0


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("upgrd", "`balance.method` should be a balancing method that Taskloom has. Found `upgrd`. "
         "Did you mean `upgrad`?"),
        ({"method": "nosuch:Method"}, "`balance.method` should be a balancing method that can be imported as "
         "`package.module:ClassName`. Found `nosuch:Method` (No module named 'nosuch'). "
         "Install its package, or put its folder on PYTHONPATH."),
        ({"method": "cagrad", "r": 1}, "`balance.r` should be a key that Taskloom knows. Found `r`. Choose one of "
         "`c`, `check_gradients`, `limit_skipped_steps`, `method`, `record_steps`, `reduction`, "
         "`scale_by_log_labels`, `separate_moments`, `sketch_size`, `statistic`, `weights_from`."),
        ({"method": "graddrop", "separate_moments": True}, "`balance.separate_moments` should be left out with "
         "`graddrop`, which gives one gradient for all tasks. Found `true`."),
        ({"method": "upgrad", "separate_moments": True, "statistic": "sketch"}, "`balance.statistic` should be `auto` "
         "or `jacobian` for `separate_moments`, which reads the gradients themselves. Found `sketch`."),
        ({"method": "uncertainty", "temprature": 2}, "`balance.temprature` should be a key that Taskloom knows. "
         "Found `temprature`. Did you mean `temperature`?"),
        ({"method": "uncertainty", "temperature": 0}, "`balance.temperature` should be more than 0. Found `0`."),
        ({"method": "cagrad", "c": "large"}, "`balance.c` should be a number. Found the text `large`."),
        ({"method": "static"}, "`balance.weights` should be given. Found nothing. Add `weights:`."),
        ({"method": "pcd"}, "`balance.primary` should be given. Found nothing. Add `primary:`."),
        ({"method": "pcd", "primary": "intnt"}, "`balance.primary` should be one of the run's tasks. Found `intnt`. "
         "Did you mean `intent`?"),
        ({"method": "static", "weights": {"intent": 1, "slots": 1, "mood": 1, "repl": 1}},
         "`balance.weights.repl` should be one of the run's tasks. Found `repl`. Did you mean `reply`?"),
        ({"method": "static", "weights": {"intent": 1, "slots": 1, "mood": 1}},
         "`balance.weights.reply` should be given. Found nothing. Add `reply: 1`."),
        ({"method": "static", "weights": {"intent": 0, "slots": 0, "mood": 0, "reply": 0}},
         "`balance.weights` should have a number above 0. Found none. Give one task more than 0."),
        ({"method": "stch", "reference": {"intnt": 1}}, "`balance.reference.intnt` should be one of the run's tasks. "
         "Found `intnt`. Did you mean `intent`?"),
        ({"method": "krum", "n_byzantine": 2}, "`balance.n_byzantine` should be small enough for the tasks of the "
         "run. Found one that needs 5 tasks, where the run has 4. Write a smaller number, or take another method."),
        ({"method": "trimmed_mean", "statistic": "sketch"}, "`balance.statistic` should be `auto` or `jacobian` for "
         "`trimmed_mean`, which reads the gradients themselves. Found `sketch`."),
        ({"method": "graddrop", "statistic": "gramian"}, "`balance.statistic` should be `auto` or `jacobian` for "
         "`graddrop`, which reads the gradients themselves. Found `gramian`."),
        ({"method": "cr_mogm", "weighting": "pcgrd"}, "`balance.weighting` should be a method that reads the Gramian "
         "and needs no option. Found `pcgrd`. Did you mean `pcgrad`?"),
        ({"reduction": "row"}, "`balance.reduction` should be one of `task`, `example`, `token`. Found `row`."),
        ({"statistic": "sketches"}, "`balance.statistic` should be one of `auto`, `jacobian`, `gramian`, `sketch`. "
         "Found `sketches`. Did you mean `sketch`?"),
        ({"weights_from": "last_steps"}, "`balance.weights_from` should be one of `this_step`, `last_step`. "
         "Found `last_steps`. Did you mean `last_step`?"),
        ({"sketch_size": 63}, "`balance.sketch_size` should be at least 64. Found `63`."),
        ({"record_steps": -1}, "`balance.record_steps` should be at least 0. Found `-1`."),
        ({"limit_skipped_steps": -1}, "`balance.limit_skipped_steps` should be at least 0. Found `-1`."),
        ({"check_gradients": "often"}, "`balance.check_gradients` should be true or false. Found the text `often`."),
        ({"scale_by_log_labels": 2}, "`balance.scale_by_log_labels` should be true or false. Found `2`."),
    ],
)  # fmt: skip
def test_a_fault_is_told_in_one_sentence(section: Any, message: str) -> None:
    assert told(section) == message


@pytest.mark.parametrize(
    ("section", "fix"),
    [(3, "Choose one of `aligned_mtl`"), (["upgrad"], "Did you mean `upgrad`?"), (True, "Choose one of `aligned_mtl`")],
)
def test_a_section_that_is_none_is_refused(section: Any, fix: str) -> None:
    found = f"Found `{section}`. {fix}"
    assert told(section).startswith(f"`balance.method` should be a balancing method that Taskloom has. {found}")


@pytest.mark.parametrize("name", BALANCES.names())
def test_a_run_of_one_task_takes_the_methods_that_make_sense_for_it(name: str) -> None:
    section = {"method": name, **NEEDED.get(name, {})}
    if "weights" in section:
        section["weights"] = {"intent": 2}
    if "primary" in section:
        section["primary"] = "intent"
    if BALANCES.load(name).minimum_tasks == 1:
        values = {**RUN, "tasks": {"intent": TASK}, "balance": section}
        assert load_config(values).balance["method"] == name
    else:
        assert told(section, "intent") == (
            "`balance.method` should be given two tasks at least. Found one task (`intent`). "
            "Write `method: equal`, or leave out `balance`."
        )


def test_an_extra_that_is_missing_is_told_with_the_other_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchjd._mixins.find_spec", lambda name: None)
    assert told("cagrad") == (
        "`cvxpy` should be installed to balance by `cagrad`. Found no such package. "
        "Run `pip install 'taskloom[balance]'`."
    )


def test_faults_know_their_lines(tmp_path: Path) -> None:
    values = {
        **RUN,
        "balance": {"method": "static", "sketch_size": 1, "weights": {"intent": -1, "slots": 1}},
        "evaluation": {"resamples": 10},
    }
    (tmp_path / "run.yaml").write_text(dump(values), encoding="utf-8")
    lines = (tmp_path / "run.yaml").read_text().splitlines()

    def line(text: str, after: str = "") -> int:
        start = lines.index(after) if after else 0
        return next(number for number, each in enumerate(lines, 1) if number > start and each.strip() == text)

    with pytest.raises(ConfigError) as caught:
        read_config(tmp_path / "run.yaml")
    assert str(caught.value).splitlines() == [
        f"run.yaml:{line('sketch_size: 1')}: `balance.sketch_size` should be at least 64. Found `1`.",
        f"run.yaml:{line('intent: -1')}: `balance.weights.intent` should be at least 0. Found `-1`.",
        f"run.yaml:{line('resamples: 10')}: `evaluation.resamples` should be at least 100. Found `10`.",
    ]
    values["balance"] = {"method": "static", "weights": {"intent": 1, "slots": 1, "mood": 1}}
    (tmp_path / "run.yaml").write_text(dump({**RUN, "balance": values["balance"]}), encoding="utf-8")
    lines = (tmp_path / "run.yaml").read_text().splitlines()
    with pytest.raises(ConfigError) as caught:
        read_config(tmp_path / "run.yaml")
    assert str(caught.value).startswith(f"run.yaml:{line('weights:')}: `balance.weights.reply` should be given.")


def test_set_chooses_a_method(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(dump(RUN), encoding="utf-8")
    config = read_config(tmp_path / "run.yaml", ["balance.method=cagrad", "balance.c=0.5"])
    assert (config.balance["method"], config.balance["c"]) == ("cagrad", 0.5)
    assert read_config(tmp_path / "run.yaml", ["balance=imtl_g"]).balance["method"] == "imtl_g"
