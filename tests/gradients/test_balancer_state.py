"""A balancer that is saved and restored goes on bit for bit; one in two processes goes as one in one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from balancer_tools import (
    TASKS,
    Tiny,
    balancer_of,
    batch,
    counts_of,
    flat,
    off,
    run,
    shares,
)

from balance_steps import made
from taskloom.balance import BALANCES
from taskloom.gradients import Balancer
from two_processes import in_two_processes

EVEN = dict.fromkeys(TASKS, 4)
LIKED = {"intent": 1.0, "slots": 3.0, "urgency": 0.5, "mood": 1.5}


def balance_of(method: str) -> Any:
    """Make a method; those that wait for many steps do not wait here."""
    soon = {"coba": {"warmup_steps": 1, "history": 3}, "dwa": {"window": 2}, "excess_mtl": {"n_warmup_steps": 1}}
    return made(method, TASKS, **soon.get(method, {}))


def play(model: Tiny, balancer: Balancer, steps: range) -> list[torch.Tensor]:
    """Train some steps by SGD, with one absent task now and then; gives the gradients of all steps."""
    found = []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for number in steps:
        step = batch(EVEN | ({TASKS[number % 4]: 0} if number % 3 == 2 else {}), seed=number, chunks=2)
        balancer.validation_losses = {name: 1.0 / (1 + number + place) for place, name in enumerate(TASKS)}
        if number % 2:  # as if there had been an evaluation
            balancer.scores = {name: 0.1 + 0.05 * number + 0.1 * place for place, name in enumerate(TASKS)}
        run(model, balancer, step, record=number == 4)
        optimizer.step()
        found.append(flat(model.parameters()))
    return found


@pytest.mark.parametrize("method", BALANCES.names())
def test_a_balancer_that_is_saved_as_json_and_restored_goes_on_bit_for_bit(method: str) -> None:
    model = Tiny()
    whole = balancer_of(model, balance_of(method), preference=LIKED)
    wanted = play(model, whole, range(6))
    model = Tiny()
    first = balancer_of(model, balance_of(method), preference=LIKED)
    play(model, first, range(3))
    text = json.dumps(first.state())
    again = balancer_of(model, balance_of(method), preference=LIKED)
    again.restore(json.loads(text))
    assert json.dumps(again.state()) == text
    found = play(model, again, range(3, 6))
    assert all(torch.equal(one, other) for one, other in zip(found, wanted[3:], strict=True))
    assert again.state() == whole.state()
    assert again.steps == 6


@pytest.mark.parametrize("weights_from", ["this_step", "last_step"])
@pytest.mark.parametrize("statistic", ["gramian", "sketch"])
def test_how_parameters_are_used_is_saved_too(statistic: str, weights_from: str) -> None:
    """Without it the first step after a pause would not know its Gramian, where the run without a pause did."""
    options: dict[str, Any] = {"statistic": statistic, "weights_from": weights_from, "preference": LIKED}
    model = Tiny()
    wanted = play(model, balancer_of(model, "mgda", **options), range(4))
    model = Tiny()
    first = balancer_of(model, "mgda", **options)
    play(model, first, range(2))
    first.engine.distrust(["norm.bias"], "it differed")
    again = balancer_of(model, "mgda", **options)
    again.restore(json.loads(json.dumps(first.state())))
    assert again.engine.uncovered == {"norm.bias": "it differed"}
    assert again.engine.distrusted == {"norm.bias"}
    again.engine.distrusted.clear()
    again.engine.uncovered.clear()
    found = play(model, again, range(2, 4))
    assert all(torch.equal(one, other) for one, other in zip(found, wanted[2:], strict=True))


# --- two processes --------------------------------------------------------------------------------------------------


def halved(number: int) -> list[list[Any]]:
    """Give the rows of each of two processes; "mood" is in the first alone, "slots" in none of them in step 1."""
    first = {"intent": 2, "slots": 3, "urgency": 1, "mood": 2}
    other = {"intent": 2, "slots": 1, "urgency": 3, "mood": 0}
    if number == 1:
        first, other = first | {"slots": 0}, other | {"slots": 0}
    return [batch(counts, seed=10 * number + place, chunks=2) for place, counts in enumerate((first, other))]


def trained(parts: list[int], method: str, **options: Any) -> dict[str, Any]:
    """Make three steps over the rows of some processes; a share is that of two processes' mean."""
    model = Tiny()
    balancer = balancer_of(model, balance_of(method), preference=LIKED, **options)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    found: dict[str, Any] = {"gradients": [], "weights": [], "losses": [], "records": []}
    for number in range(3):
        steps = halved(number)
        counts = counts_of(steps[0] + steps[1])
        for place in range(balancer.passes):
            optimizer.zero_grad()
            with balancer.step(
                record=number == 2 and place + 1 == balancer.passes, measure=place + 1 < balancer.passes
            ) as done:
                for rows in [rows for part in parts for rows in steps[part]]:
                    done.rows(rows.tasks, rows.ids)
                    done.backward({name: 2 / len(parts) * loss for name, loss in shares(model, rows, counts).items()})
        optimizer.step()
        found["gradients"].append(flat(model.parameters()))
        found["weights"].append(done.weights)
        found["losses"].append(done.losses)
    return {**found, "record": done.record, "splits": done.splits, "state": json.dumps(balancer.state())}


SETTINGS = {
    "upgrad-jacobian": ("upgrad", {}),
    "upgrad-sketch": ("upgrad", {"statistic": "sketch", "weights_from": "this_step"}),
    "mgda-sketch": ("mgda", {"statistic": "sketch"}),
    "equal": ("equal", {}),
    "uw": ("uw", {}),
    "graddrop": ("graddrop", {}),
    "excess_mtl": ("excess_mtl", {}),
}


@pytest.mark.parametrize(("method", "options"), SETTINGS.values(), ids=SETTINGS)
def test_two_processes_with_rows_of_their_own_have_the_gradients_of_one_with_all_rows(
    method: str, options: dict[str, Any], tmp_path: Path
) -> None:
    one, other = in_two_processes(lambda rank: trained([rank], method, **options), tmp_path / "meeting")
    alone = trained([0, 1], method, **options)
    assert one["state"] == other["state"]
    for mine, yours, wanted in zip(one["gradients"], other["gradients"], alone["gradients"], strict=True):
        assert torch.equal(mine, yours)
        assert off(mine, wanted) < 1e-4
    for key in ("weights", "losses"):
        for mine, wanted in zip(one[key], alone[key], strict=True):
            assert mine == pytest.approx(wanted, rel=1e-3, abs=1e-6)
    assert list(one["losses"][0]) == list(TASKS), "a task that one process alone has is there for both"
    assert list(one["losses"][1]) == ["intent", "urgency", "mood"]
    assert one["record"]["tasks"] == alone["record"]["tasks"]
    for mine, wanted in zip(one["record"]["gramian"], alone["record"]["gramian"], strict=True):
        assert mine == pytest.approx(wanted, rel=1e-3, abs=1e-6)


def test_processes_step_over_a_gradient_that_is_not_finite_in_one_of_them_together(tmp_path: Path) -> None:
    def work(rank: int) -> Any:
        model = Tiny()
        balancer = balancer_of(model, "upgrad")
        if rank:
            model.heads["urgency"].weight.register_hook(lambda gradient: gradient * float("nan"))
        done = run(model, balancer, batch(EVEN, seed=rank))
        return done.sound, done.broken, balancer.skipped, [p.grad is None for p in model.parameters()]

    for found in in_two_processes(work, tmp_path / "meeting"):
        assert found == (False, ["urgency"], 1, [True] * 15)


def test_the_exact_gramian_does_not_add_up_over_processes(tmp_path: Path) -> None:
    def work(rank: int) -> str:
        model = Tiny()
        with pytest.raises(ValueError, match="does not add up") as raised:
            run(model, balancer_of(model, "upgrad", statistic="gramian"), batch(EVEN, seed=rank))
        return str(raised.value)

    wanted = "The statistic `gramian` does not add up over processes. Use `sketch` or `jacobian`."
    assert in_two_processes(work, tmp_path / "meeting") == [wanted, wanted]
