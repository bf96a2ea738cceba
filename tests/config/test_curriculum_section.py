"""The section `curriculum:` of a run file: what it is filled in with, and how each fault of it is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from taskloom.config import load_config, read_config
from taskloom.config.document import dump
from taskloom.errors import ConfigError

TASK = {"type": "classification", "data": "data/x"}
RUN: dict[str, Any] = {
    "model": {"name_or_path": "some/encoder"},
    "tasks": {name: dict(TASK) for name in ("intent", "slots", "mood")},
}
LISTED = {"by": "listed", "order": ["mood", "intent", "slots"]}


def section_of(curriculum: Any) -> dict[str, Any]:
    return load_config({**RUN, "curriculum": curriculum}).curriculum.model_dump()


def told(curriculum: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        section_of(curriculum)
    return str(caught.value).replace("config: ", "")


def test_a_run_without_the_section_has_no_curriculum() -> None:
    assert load_config(RUN).curriculum.model_dump() == section_of({}) == {"tasks": None, "items": None}


def test_a_section_is_filled_in_and_reads_the_same_again() -> None:
    config = load_config({**RUN, "curriculum": {"tasks": LISTED, "items": {"by": "loss", "tasks": ["slots"]}}})
    assert config.curriculum.model_dump() == {
        "tasks": {**LISTED, "direction": "easy_first", "first": 1, "until": 0.5, "leave": False},
        "items": {"by": "loss", "direction": "easy_first", "start": 0.1, "until": 0.5, "tasks": ["slots"]},
    }
    for again in (load_config(config.as_yaml()), load_config(config.resolved())):
        assert again.curriculum == config.curriculum
        assert again.as_yaml() == config.as_yaml()


def order_of(*names: str) -> dict[str, Any]:
    return {"tasks": {"by": "listed", "order": list(names)}}


ORDER = "`curriculum.tasks.order` should list every task of the run once. "


@pytest.mark.parametrize(
    ("curriculum", "message"),
    [
        (order_of("intent", "slot", "mood"), f"{ORDER}Found `slot`, which the run does not have and no `slots`. "
         "Did you mean `slots`?"),
        (order_of("intent", "mood"), f"{ORDER}Found no `slots`. Write all of `intent`, `slots`, `mood`."),
        (order_of("intent", "slots", "mood", "mood"), f"{ORDER}Found `mood` more than once. "
         "Write all of `intent`, `slots`, `mood`."),
        (order_of("xx", "yy", "xx"), f"{ORDER}Found `xx`, `yy`, which are none of its tasks and `xx` more than once "
         "and no `intent`, `slots`, `mood`. Choose one of `intent`, `mood`, `slots`."),
        ({"tasks": {"by": "listed"}}, f"{ORDER}Found nothing. Write all of `intent`, `slots`, `mood`."),
        ({"tasks": {"by": "loss", "order": ["intent"]}}, "`curriculum.tasks.order` should be left out where tasks "
         "enter by `loss`. Found `intent`. Write `by: listed` to have this order, or leave `order` out."),
        ({"tasks": {**LISTED, "direction": "hard_first"}}, "`curriculum.tasks.direction` should be left out where "
         "`order` lists the tasks. Found `hard_first`. Turn `order` round."),
        ({"tasks": {"by": "length", "first": 3}}, "`curriculum.tasks.first` should be less than the run's 3 tasks. "
         "Found `3`. Leave out `curriculum.tasks` to train all from the start."),
        ({"tasks": {}}, "`curriculum.tasks.by` should be given. Found nothing. Add `by:`."),
        ({"tasks": {"by": "lenght"}}, "`curriculum.tasks.by` should be one of `loss`, `length`, `speed`, `listed`. "
         "Found `lenght`. Did you mean `length`?"),
        ({"tasks": {"by": "length", "frist": 1}}, "`curriculum.tasks.frist` should be a key that Taskloom knows. "
         "Found `frist`. Did you mean `first`?"),
        ({"tasks": {"by": "length", "until": 1}}, "`curriculum.tasks.until` should be less than 1. Found `1`."),
        ({"items": {"by": "length", "start": 0}}, "`curriculum.items.start` should be more than 0. Found `0`."),
        ({"items": {"by": "length", "tasks": ["mod"]}}, "`curriculum.items.tasks` should name tasks of the run. "
         "Found `mod`. Did you mean `mood`?"),
        ({"items": {"by": "length", "tasks": []}}, "`curriculum.items.tasks` should have one entry at least. "
         "Found `[]`."),
        ({"item": None}, "`curriculum.item` should be a key that Taskloom knows. Found `item`. "
         "Did you mean `items`?"),
        ("easy_first", "`curriculum` should be a mapping. Found the text `easy_first`."),
    ],
)  # fmt: skip
def test_a_fault_is_told_in_one_sentence(curriculum: Any, message: str) -> None:
    assert told(curriculum) == message


def test_faults_stand_with_their_lines_among_those_of_other_sections(tmp_path: Path) -> None:
    run = {**RUN, "curriculum": order_of("intent", "slot", "mood"), "evaluation": {"resamples": 10}}
    (tmp_path / "run.yaml").write_text(dump(run), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_config(tmp_path / "run.yaml")
    lines = (tmp_path / "run.yaml").read_text(encoding="utf-8").splitlines()
    order, resamples = (next(n for n, line in enumerate(lines, 1) if word in line) for word in ("order:", "resamples"))
    assert [str(fault).split(" ")[0] for fault in caught.value.faults] == [
        f"run.yaml:{order}:",
        f"run.yaml:{resamples}:",
    ]
