"""Probes on disk, transfer with intervals, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from made_probes import drawn_probes, made_probe
from taskloom.affinity import Transfer, read_probes, read_transfers
from taskloom.affinity.estimators.cosine import Cosine
from taskloom.affinity.probes import truncate_probes
from taskloom.affinity.reading import DEFAULT, estimate
from taskloom.errors import RunFolderError
from taskloom.record import Record


def test_a_probe_is_read_as_it_was_written(tmp_path: Path) -> None:
    wanted = drawn_probes(3, 2)
    for each in wanted:
        each.write(tmp_path)
    found = read_probes(tmp_path)
    assert [each.step for each in found] == [0, 20]
    for one, other in zip(found, wanted, strict=True):
        assert (one.tasks, one.rate, one.geometry, one.rows) == (other.tasks, other.rate, other.geometry, other.rows)
        np.testing.assert_allclose(one.scaled, other.scaled, atol=2e-3 * np.abs(other.scaled).max())
        np.testing.assert_array_equal(one.losses, other.losses)
        assert other.lookahead is not None
        np.testing.assert_array_equal(one.lookahead, other.lookahead)


def test_probes_after_a_step_are_dropped(tmp_path: Path) -> None:
    for each in drawn_probes(2, 4):
        each.write(tmp_path)
    truncate_probes(tmp_path, 20)
    assert [each.step for each in read_probes(tmp_path)] == [0, 20]


def test_a_probe_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "000020.safetensors"
    save_file({"losses": np.zeros(1)}, path, {"probe": '{"version": 2}'})
    with pytest.raises(RunFolderError) as caught:
        read_probes(tmp_path)
    assert str(caught.value) == (
        f"{path}: `version` should be `1`. Found `2`. "
        "Read it with the Taskloom that wrote it, or train again with this one."
    )


def test_an_interval_holds_the_effect_and_narrows_with_probes() -> None:
    few, many = (estimate(drawn_probes(3, count), "cosine", Cosine()) for count in (5, 80))
    off = ~np.eye(3, dtype=bool)
    for each in (few, many):
        assert (each.low[off] <= each.effect[off]).all()
        assert (each.effect[off] <= each.high[off]).all()
    assert (many.high - many.low)[off].mean() < 0.5 * (few.high - few.low)[off].mean()


def test_too_few_probes_give_no_interval() -> None:
    found = estimate([made_probe(np.eye(2), np.eye(2))] * 3, "cosine", Cosine())
    assert np.isnan(found.low).all()
    assert np.isnan(found.high).all()


def test_a_run_gives_every_estimate_its_probes_serve_with_the_default_first(tmp_path: Path) -> None:
    record = Record.create(tmp_path / "run")
    assert read_transfers(record.folder) == {}
    for each in drawn_probes(3, 4, ahead=False):
        each.write(record.transfer)
    found = read_transfers(record.folder)
    assert next(iter(found)) == DEFAULT
    assert "lookahead" not in found
    assert {each.measured for each in found.values()} == {False}


def test_transfer_survives_json_and_is_cut_to_some_tasks() -> None:
    wanted = estimate(drawn_probes(3, 5), "cosine", Cosine())
    found = Transfer.of_row(wanted.as_row())
    np.testing.assert_array_equal(found.effect, wanted.effect)
    part = wanted.among(("c", "a"))
    assert part.tasks == ("c", "a")
    assert part.effect[0, 1] == wanted.effect[2, 0]
    with pytest.raises(ValueError, match="matrices of shape"):
        Transfer(("a",), wanted.effect, wanted.low, wanted.high, "cosine", measured=False, unit="cosine")
