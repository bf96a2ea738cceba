"""What is shipped: each task's run once, under a name that says whose it is."""

from __future__ import annotations

from pathlib import Path

from taskloom.autopilot.shipping import ship
from taskloom.record import Record, read_note


def made(folder: Path) -> Record:
    record = Record.create(folder)
    (folder / "model").mkdir()
    (folder / "model" / "weights").write_text(folder.name)
    (folder / "checkpoints").mkdir()
    return record


def test_a_run_of_several_tasks_is_copied_once_and_shipping_again_leaves_nothing_old(tmp_path: Path) -> None:
    joint, alone = made(tmp_path / "members" / "a1"), made(tmp_path / "members" / "b2")
    sources = {"intent": joint, "slots": alone, "topics": joint}
    shipped = ship(tmp_path, sources, "more topics", ["topics"])
    assert shipped == {"intent": "more_topics", "slots": "slots", "topics": "more_topics"}
    assert sorted(path.name for path in (tmp_path / "shipped").iterdir()) == ["more_topics", "ship.json", "slots"]
    assert (tmp_path / "shipped" / "slots" / "model" / "weights").read_text() == "b2"
    assert not (tmp_path / "shipped" / "slots" / "checkpoints").exists()
    note = read_note(tmp_path / "shipped" / "ship.json")
    assert (note["tasks"], note["unlearnable"]) == (shipped, ["topics"])
    ship(tmp_path, dict.fromkeys(sources, joint), "joint", [])
    assert sorted(path.name for path in (tmp_path / "shipped").iterdir()) == ["joint", "ship.json"]
