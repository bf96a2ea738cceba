"""Probes of a joint run: against separate backward passes, and beside a training that goes on as if without them."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import taskloom.reports
from resume_tools import At, assert_same, die, killed, short_run
from taskloom.affinity import Probe, read_probes
from taskloom.config import load_config
from taskloom.errors import ConfigError
from taskloom.preparation import prepare
from taskloom.record import Record
from taskloom.run import train
from taskloom.session import Session
from taskloom.transfer import probe_schedule
from taskloom.transfer.ledger import adam_roots

EVERY = 3


@pytest.fixture(autouse=True)
def _plain_page(monkeypatch: pytest.MonkeyPatch) -> None:
    def report(folders: list[Path]) -> None:
        Record.open(folders[0]).report_html.write_text("a page", encoding="utf-8")

    monkeypatch.setattr(taskloom.reports, "report", report)


@pytest.fixture
def values(tiny_encoder: Path, tiny_data: Path) -> dict[str, Any]:
    held = short_run(tiny_encoder, tiny_data, 8)
    # So many numbers that no two coordinates of a gradient share one: the sketch is exact.
    held["transfer"] = {"every_steps": EVERY, "rows": 4, "sketch_size": 400_000}
    return held


def stepped(session: Session, steps: int) -> torch.optim.AdamW:
    """Train a little by hand, so that Adam has second moments."""
    parameters = [each for each in session.model.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)
    for number in range(steps):
        for chunk in session.steps[number].chunks:
            outputs = session.model(chunk)
            losses = [session.prepared.tasks[name].loss(outputs[name], part.targets).mean()
                      for name, part in chunk.parts.items()]  # fmt: skip
            torch.autograd.backward(torch.stack(losses).sum())
        optimizer.step()
        optimizer.zero_grad()
    return optimizer


def separate(session: Session, name: str, rows: list[Any]) -> tuple[float, list[Tensor]]:
    """Give a task's mean loss over rows and its gradient on shared parameters, by a backward pass of its own."""
    session.model.eval()
    shared = [each for _, each in session.model.shared_parameters() if each.requires_grad]
    total = torch.zeros(())
    for chunk in session.steps.build([(name, item) for item in rows]).chunks:
        output = session.model(chunk)[name]
        total = total + session.prepared.tasks[name].loss(output, chunk.parts[name].targets).sum() / len(rows)
    found = torch.autograd.grad(total, shared, allow_unused=True)
    return float(total.detach()), [torch.zeros_like(p) if g is None else g for p, g in zip(shared, found, strict=True)]


def test_a_probe_holds_the_gradients_of_separate_passes(values: dict[str, Any], tmp_path: Path) -> None:
    config = load_config(values)
    session = Session(config, prepare(config), tmp_path)
    optimizer = stepped(session, 2)
    (callback,) = session.probes(tmp_path / "transfer")
    probe = callback.probe(EVERY, optimizer)
    roots = adam_roots(optimizer, callback._made().leaves)
    assert roots is not None
    names = [name for name, each in session.model.shared_parameters() if each.requires_grad]
    plain, scaled = [], []
    for side in range(2):
        drawn = callback._drawn(EVERY, side)
        for place, name in enumerate(session.prepared.tasks):
            loss, gradient = separate(session, name, [item for owner, item in drawn if owner == name])
            assert probe.losses[side, place] == pytest.approx(loss, rel=1e-5)
            plain.append(torch.cat([each.flatten() for each in gradient]))
            parts = [roots.get(leaf, torch.zeros(1)) * each.flatten()
                     for leaf, each in zip(names, gradient, strict=True)]  # fmt: skip
            scaled.append(torch.cat(parts))
    for found, wanted in ((probe.plain, plain), (probe.scaled, scaled)):
        flat = torch.from_numpy(found.reshape(6, -1)).double()
        exact = torch.stack(wanted).double()
        gramian = exact @ exact.T
        torch.testing.assert_close(flat @ flat.T, gramian, rtol=0, atol=1e-5 * float(gramian.abs().max()))


def test_looking_ahead_is_a_step_on_one_task_alone(values: dict[str, Any], tmp_path: Path) -> None:
    values["transfer"]["lookahead"] = True
    config = load_config(values)
    session = Session(config, prepare(config), tmp_path)
    optimizer = stepped(session, 2)
    (callback,) = session.probes(tmp_path / "transfer")
    before = [each.detach().clone() for each in session.model.parameters()]
    probe = callback.probe(EVERY, optimizer)
    assert all(torch.equal(one, other) for one, other in zip(before, session.model.parameters(), strict=True))
    drawn = [callback._drawn(EVERY, side) for side in range(2)]
    rows = [{name: [item for owner, item in held if owner == name] for name in session.prepared.tasks}
            for held in drawn]  # fmt: skip
    names = list(session.prepared.tasks)
    for source, name in enumerate(names):
        _, gradient = separate(session, name, rows[0][name])
        pairs = [each for each in session.model.shared_parameters() if each[1].requires_grad]
        kept = [each.detach().clone() for _, each in pairs]
        with torch.no_grad():
            for (_, parameter), part in zip(pairs, gradient, strict=True):
                state = optimizer.state[parameter]
                if state:
                    root = (state["exp_avg_sq"] / (1 - 0.999 ** float(state["step"]))).sqrt() + 1e-8
                    parameter.sub_(1e-3 * part / root)
        for target, other in enumerate(names):
            after, _ = separate(session, other, rows[1][other])
            wanted = 1 - after / float(probe.losses[1, target])
            assert probe.lookahead is not None
            assert probe.lookahead[source, target] == pytest.approx(wanted, abs=1e-4)
        with torch.no_grad():
            for (_, parameter), value in zip(pairs, kept, strict=True):
                parameter.copy_(value)


def test_training_goes_on_as_if_it_had_not_been_probed(values: dict[str, Any], tmp_path: Path) -> None:
    values["transfer"]["lookahead"] = True
    train(values, tmp_path / "probed")
    train({**deepcopy(values), "transfer": {"every_steps": 0}}, tmp_path / "alone")
    assert [each.step for each in read_probes(tmp_path / "probed" / "transfer")] == [3, 6]
    assert not (tmp_path / "alone" / "transfer").exists()
    assert_same(tmp_path / "probed", tmp_path / "alone")


def test_a_killed_run_takes_the_probes_of_one_never_killed(values: dict[str, Any], tmp_path: Path) -> None:
    values["transfer"]["sketch_size"] = 64
    train(values, tmp_path / "whole")
    killed(values, tmp_path / "killed", lambda: [At(8, die)])
    train(values, tmp_path / "killed")
    assert_same(tmp_path / "whole", tmp_path / "killed")
    one, other = (read_probes(tmp_path / name / "transfer") for name in ("whole", "killed"))
    assert [each.step for each in one] == [each.step for each in other] == [3, 6]
    for left, right in zip(one, other, strict=True):
        np.testing.assert_array_equal(left.scaled, right.scaled)
        np.testing.assert_array_equal(left.losses, right.losses)


def test_a_probe_reads_other_rows_each_time(values: dict[str, Any], tmp_path: Path) -> None:
    config = load_config(values)
    session = Session(config, prepare(config), tmp_path)
    (callback,) = session.probes(tmp_path)

    def rows(step: int, side: int) -> list[int]:
        return [item["row"] for name, item in callback._drawn(step, side) if name == "intent"]

    assert rows(3, 0) == rows(3, 0) != rows(6, 0)
    assert len({*rows(3, 1), *rows(6, 1)}) == 8


def test_without_an_optimizer_of_adams_kind_the_geometry_is_plain(values: dict[str, Any], tmp_path: Path) -> None:
    values["training"]["optim"] = "sgd"
    train(values, tmp_path / "run")
    probes = read_probes(tmp_path / "run" / "transfer")
    assert {each.geometry for each in probes} == {"plain"}
    for each in probes:
        np.testing.assert_array_equal(each.plain, each.scaled)


@pytest.mark.parametrize("packing", [False, True])
def test_probes_do_not_depend_on_how_rows_are_cut(values: dict[str, Any], tmp_path: Path, packing: bool) -> None:
    found: list[Probe] = []
    for name, limit in (("wide", 4096), ("narrow", 128)):
        batching = {"limit_tokens": limit, "packing": packing and name == "narrow"}
        config = load_config({**deepcopy(values), "batching": batching})
        session = Session(config, prepare(config), tmp_path / name)
        (callback,) = session.probes(tmp_path / name)
        found.append(callback.probe(EVERY, None))
    scale = float(np.abs(found[0].plain).max())
    np.testing.assert_allclose(found[0].plain, found[1].plain, rtol=0, atol=1e-4 * scale)


def test_probes_come_as_often_as_three_percent_of_the_rows_allow() -> None:
    never = None
    assert probe_schedule((never, 8), 6, 32, 1000) == (100, 8)
    assert 2 * 6 * 8 / (100 * 32) <= 0.03
    assert probe_schedule((never, never), 2, 512, 1000) == (20, 8)
    assert probe_schedule((5, 8), 6, 32, 1000) == (5, 8)
    assert probe_schedule((0, never), 6, 32, 1000)[0] == 0
    assert probe_schedule((5, never), 1, 32, 1000)[0] == 0


@given(tasks=st.integers(2, 40), rows=st.integers(1, 2000), updates=st.integers(1, 10**6))
def test_a_schedule_of_its_own_stays_within_its_share_and_prefers_many_probes(
    tasks: int, rows: int, updates: int
) -> None:
    every, each = probe_schedule((None, None), tasks, rows, updates)
    assert 2 * tasks * each <= 0.03 * rows * every + 1e-6
    assert each == 2 or every == 20 or updates // every >= 7


def test_a_section_that_cannot_be_is_told(values: dict[str, Any]) -> None:
    values["transfer"] = {"every_steps": -1, "rows": 0, "probes": 3}
    with pytest.raises(ConfigError) as caught:
        load_config(values)
    assert [fault.where for fault in caught.value.faults] == [
        "transfer.every_steps",
        "transfer.rows",
        "transfer.probes",
    ]
