"""From step to step of a balancer: where weights come from, gradients that are not finite, and what is recorded."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import pytest
import torch
from balancer_tools import (
    TASKS,
    Tiny,
    balancer_of,
    batch,
    flat,
    head_gradients,
    off,
    run,
    separate,
    shared_gradient,
)
from torch import Tensor
from torchjd import aggregation as agg

from taskloom.balance import BALANCES
from taskloom.gradients import Balancer

EVEN = dict.fromkeys(TASKS, 3)
LIKED = {"intent": 1.0, "slots": 3.0, "urgency": 0.5, "mood": 1.5}
SHARES = torch.tensor(list(LIKED.values()), dtype=torch.float64) / 6
HUGE = 4096


def mgda(rows: Tensor) -> Tensor:
    return agg.MGDAWeighting(1e-5, 1000)(rows @ rows.T)


def liked_rows(model: Tiny, step: Any) -> Tensor:
    return len(TASKS) * SHARES.unsqueeze(1) * separate(model, step).jacobian


def assert_heads(model: Tiny, step: Any) -> None:
    gradients = head_gradients(model)
    found = separate(model, step)
    for name, share in zip(TASKS, SHARES, strict=True):
        assert off(gradients[name], share * found.heads[name]) < 1e-5


# --- whose weights --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [1, 3])
@pytest.mark.parametrize("statistic", ["jacobian", "gramian", "sketch"])
def test_a_step_is_weighed_by_what_the_last_one_showed(statistic: str, chunks: int) -> None:
    model = Tiny()
    options = {"statistic": statistic, "weights_from": "last_step", "sketch_size": HUGE}
    balancer = balancer_of(model, "mgda", preference=LIKED, **options)
    weights = torch.full((len(TASKS),), 0.25, dtype=torch.float64)
    for number in range(3):
        step = batch(EVEN, seed=number, chunks=chunks)
        rows = liked_rows(model, step)
        done = run(model, balancer, step)
        assert balancer.passes == 1
        assert off(shared_gradient(model), weights @ rows) < 1e-5
        assert list(done.weights.values()) == pytest.approx((len(TASKS) * weights).tolist(), abs=1e-5)
        assert_heads(model, step)
        # How often a parameter is used in a step, the first step has to find out.
        if done.told:
            weights = mgda(rows)
        assert done.told == (statistic != "gramian" or chunks == 1 or number > 0)
    assert float((weights - 0.25).abs().max()) > 0.05


@pytest.mark.parametrize("chunks", [1, 3])
@pytest.mark.parametrize("statistic", ["jacobian", "gramian", "sketch"])
def test_a_step_is_weighed_by_what_it_shows_itself(statistic: str, chunks: int) -> None:
    model = Tiny()
    options = {"statistic": statistic, "weights_from": "this_step", "sketch_size": HUGE}
    balancer = balancer_of(model, "mgda", preference=LIKED, **options)
    assert balancer.passes == (1 if statistic == "jacobian" else 2)
    for number in range(3):
        step = batch(EVEN, seed=number, chunks=chunks)
        rows = liked_rows(model, step)
        run(model, balancer, step)
        if statistic != "gramian" or chunks == 1 or number:
            assert off(shared_gradient(model), mgda(rows) @ rows) < 1e-5
        assert_heads(model, step)
    assert balancer.steps == 3, "a pass that only measures is no step"


def test_a_small_sketch_gives_weights_near_those_of_the_whole_gradient() -> None:
    model, step = Tiny(), batch(EVEN)
    rows = liked_rows(model, step)
    assert rows.shape[1] > 200
    options = {"statistic": "sketch", "weights_from": "this_step", "preference": LIKED}
    balancer = balancer_of(model, "mgda", sketch_size=101, **options)
    run(model, balancer, step)
    assert 1e-6 < float((balancer.multipliers / len(TASKS) - mgda(rows)).abs().max()) < 0.1


@pytest.mark.parametrize(
    ("needs", "chosen"), [("equal", "last_step"), ("uw", "last_step"), ("upgrad", "this_step"), ("config", "this_step")]
)
def test_the_step_behind_the_weights_follows_from_the_method_and_the_statistic(needs: str, chosen: str) -> None:
    assert balancer_of(Tiny(), needs).weights_from == chosen
    assert balancer_of(Tiny(), needs, statistic="sketch").weights_from == "last_step"


# --- by losses ------------------------------------------------------------------------------------------------------

BY_LOSSES: dict[str, dict[str, Any]] = {
    **{name: {} for name in ("uncertainty", "geometric_mean", "uw", "imtl_l", "famo", "pbi", "cosmos", "group_dro")},
    "dwa": {"window": 1},
    "stch": {"mu": 10.0},
}


@pytest.mark.parametrize(("method", "options"), BY_LOSSES.items(), ids=BY_LOSSES)
def test_one_backward_pass_of_the_weighted_losses_gives_what_splitting_by_task_gives(
    method: str, options: dict[str, Any]
) -> None:
    """A step that is recorded is split; the others are not: the gradients have to be the same."""
    models = [Tiny(), Tiny()]
    balancers = [balancer_of(model, BALANCES.load(method)(**options), preference=LIKED) for model in models]
    for number in range(4):
        step = batch(EVEN | ({"mood": 0} if number == 1 else {}), seed=number, chunks=2)
        done = [run(models[0], balancers[0], step), run(models[1], balancers[1], step, record=True)]
        assert [each.splits for each in done] == [False, True]
        assert done[0].weights == pytest.approx(done[1].weights, rel=1e-6)
        assert off(shared_gradient(models[0]), shared_gradient(models[1])) < 1e-5
        for one, other in zip(*(head_gradients(model).values() for model in models), strict=True):
            assert off(one, other) < 1e-5
    assert len(set(done[0].weights.values())) > 1


def test_the_next_step_follows_the_losses_of_this_one() -> None:
    model = Tiny()
    balancer = balancer_of(model, "geometric_mean", preference=LIKED)
    first, second = batch(EVEN), batch(EVEN, seed=1)
    losses = separate(model, first).losses
    run(model, balancer, first)
    rows = liked_rows(model, second)
    run(model, balancer, second)
    weights = losses.log().mean().exp() / (len(TASKS) * losses)
    assert off(shared_gradient(model), weights @ rows) < 1e-5
    assert_heads(model, second)


@pytest.mark.parametrize("statistic", ["jacobian", "gramian", "sketch"])
def test_losses_of_the_step_itself_weigh_it_where_it_is_split(statistic: str) -> None:
    model, step = Tiny(), batch(EVEN, chunks=2)
    found = separate(model, step)
    balancer = balancer_of(model, "geometric_mean", weights_from="this_step", statistic=statistic)
    run(model, balancer, step)
    weights = found.losses.log().mean().exp() / (len(TASKS) * found.losses)
    assert off(shared_gradient(model), weights @ found.jacobian) < 1e-5


@pytest.mark.parametrize("method", ["sum", "uw", "gradnorm", "pcgrad"])
def test_a_method_with_weights_of_one_for_each_task_begins_with_a_step_as_long_as_the_next(method: str) -> None:
    model, step = Tiny(), batch(EVEN)
    plain = separate(model, step).jacobian.sum(dim=0)
    run(model, balancer_of(model, method, weights_from="last_step"), step)
    assert off(shared_gradient(model), plain) < 1e-5


def test_a_head_learns_in_full_where_its_tasks_weight_is_nothing() -> None:
    """Weights of 1e-40 and 0 cannot be undone in its gradient: such a step is split."""
    model = Tiny()
    balancer = balancer_of(model, BALANCES.load("stch")(mu=1e-3), preference=LIKED)
    step = batch(EVEN)
    run(model, balancer, step)
    assert sorted((balancer.multipliers > 0).tolist()) == [False, False, False, True]
    done, found = run(model, balancer, step), shared_gradient(model)
    assert done.splits
    assert_heads(model, step)
    worst = int(balancer.multipliers.argmax())
    assert off(found, len(TASKS) * SHARES[worst] * separate(model, step).jacobian[worst]) < 1e-5


def test_the_mean_that_a_method_is_shown_is_over_the_terms_that_were_counted() -> None:
    """A share of the loss is a mean only on average where a step draws now more rows of a task, now fewer."""
    model = Tiny()
    balancer = balancer_of(model, "uncertainty")
    leaf = model.shared["last"].weight.sum()
    with balancer.step() as done:
        for total, count in ((6.0, 3), (2.0, 1)):
            losses = {"intent": leaf * 0 + total, "slots": leaf * 0 + 4.0}
            done.backward(losses, scales={"intent": 0.5, "slots": 0.1}, counts={"intent": count, "slots": 5})
    assert done.losses == pytest.approx({"intent": 2.0, "slots": 0.8})


# --- not finite -----------------------------------------------------------------------------------------------------


def spoilt(balancer: Balancer, model: Tiny, step: Any, value: float, task: str | None, **options: Any) -> Any:
    """Make a step in which the gradient of a task, or of a shared parameter, is not finite; its loss is."""
    place = model.shared["norm"].weight if task is None else model.heads[task].weight
    handle = place.register_hook(lambda gradient: gradient * value)
    done = run(model, balancer, step, **options)
    handle.remove()
    return done


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
@pytest.mark.parametrize("method", ["upgrad", "equal", "uw", "gradnorm"])
def test_a_step_with_a_gradient_that_is_not_finite_is_dropped_and_its_task_named(method: str, value: float) -> None:
    model, twin = Tiny(), Tiny()
    balancer, calm = balancer_of(model, method), balancer_of(twin, method)
    run(model, balancer, batch(EVEN))
    run(twin, calm, batch(EVEN))
    done = spoilt(balancer, model, batch(EVEN, seed=1), value, "slots")
    assert (done.sound, done.broken, balancer.skipped, balancer.steps) == (False, ["slots"], 1, 1)
    assert all(parameter.grad is None for parameter in model.parameters())
    for each in (balancer, calm):
        state = each.state()
        state["skipped"] = 0
        assert state == {**calm.state(), "skipped": 0}, "what the step showed was kept"
    run(model, balancer, batch(EVEN, seed=2))
    run(twin, calm, batch(EVEN, seed=2))
    assert torch.equal(shared_gradient(model), shared_gradient(twin))


@pytest.mark.parametrize(
    "options",
    [
        {"statistic": "jacobian"},
        {"statistic": "gramian"},
        {"statistic": "sketch"},
        {"statistic": "sketch", "weights_from": "this_step"},
        {"statistic": "gramian", "weights_from": "this_step"},
    ],
    ids=str,
)
@pytest.mark.parametrize("chunks", [1, 2])
def test_a_task_whose_shared_gradient_alone_is_not_finite_is_found(options: dict[str, Any], chunks: int) -> None:
    model = Tiny()
    balancer = balancer_of(model, "mgda", **options)
    inner = model.heads["urgency"].forward
    seen: list[int] = []

    def forward(hidden: Tensor) -> Tensor:
        seen.append(1)
        shown = hidden.detach().requires_grad_()  # the head learns from finite numbers
        return inner(shown).detach() * 0 + inner(hidden.detach()) + torch.sqrt(hidden - hidden).sum() * 0

    model.heads["urgency"].forward = forward
    done = run(model, balancer, batch(EVEN, chunks=chunks))
    assert seen
    assert not done.sound
    # The first step of the statistic "gramian" over chunks knows of no task's gradient.
    assert done.broken == (["urgency"] if options["statistic"] != "gramian" or chunks == 1 else [])
    assert balancer.skipped == 1
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_shared_gradient_that_is_not_finite_in_one_pass_of_all_tasks_names_none() -> None:
    model = Tiny()
    balancer = balancer_of(model, "equal")
    done = spoilt(balancer, model, batch(EVEN), float("inf"), None)
    assert (done.sound, done.broken, balancer.skipped) == (False, [], 1)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_weights_that_are_not_finite_move_nothing() -> None:
    class Broken(BALANCES.load("gradnorm")):  # type: ignore[misc]
        def weigh(self, seen: Any) -> Tensor:
            return torch.full((len(seen.tasks),), float("nan"), dtype=torch.float64)

    for options in ({}, {"statistic": "sketch"}):
        model = Tiny()
        balancer = balancer_of(model, Broken(), **options)
        done = run(model, balancer, batch(EVEN))
        assert (done.sound, done.broken, balancer.skipped) == (False, [], 1)
        assert all(parameter.grad is None for parameter in model.parameters())
        assert balancer.multipliers.isfinite().all()


# --- under a loss scale ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"statistic": "sketch"}, {"statistic": "gramian"}], ids=str)
@pytest.mark.parametrize("method", ["upgrad", "equal", "uw", "trimmed_mean", "fairgrad", "gradnorm", "modo"])
def test_a_loss_scale_scales_gradients_and_leaves_weights_and_records_alone(
    method: str, options: dict[str, Any]
) -> None:
    if BALANCES.load(method).needs == "jacobian" and options:
        pytest.skip("keeps the Jacobian always")
    scale = 1024.0

    def scaled(loss: Tensor, **more: Any) -> None:
        torch.autograd.backward(loss * scale, **more)

    models = [Tiny(), Tiny()]
    balancers = [balancer_of(model, method, preference=LIKED, **options) for model in models]
    for number in range(2):
        step = batch(dict.fromkeys(TASKS, 4), seed=number)
        done = [
            run(models[0], balancers[0], step, record=number == 1),
            run(models[1], balancers[1], step, record=number == 1, backward=scaled, loss_scale=scale),
        ]
        assert off(shared_gradient(models[1]) / scale, shared_gradient(models[0])) < 1e-5
        assert off(flat(models[1].heads.parameters()) / scale, flat(models[0].heads.parameters())) < 1e-5
        assert done[1].weights == pytest.approx(done[0].weights, rel=1e-5)
        assert done[1].losses == pytest.approx(done[0].losses)
        wanted = torch.tensor(done[0].record.get("gramian", [[1.0]]))
        torch.testing.assert_close(torch.tensor(done[1].record.get("gramian", [[1.0]])), wanted, rtol=1e-4, atol=1e-6)
    assert balancers[1].multipliers.tolist() == pytest.approx(balancers[0].multipliers.tolist(), rel=1e-5)


@pytest.mark.parametrize("method", ["upgrad", "equal"])
def test_the_scaler_sees_what_is_not_finite_lowers_its_scale_and_steps_over_it(method: str) -> None:
    model = Tiny()
    balancer = balancer_of(model, method)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    before = deepcopy(model.state_dict())

    def backward(loss: Tensor, **more: Any) -> None:
        scaler.scale(loss).backward(**more)

    options = {"backward": backward, "loss_scale": scaler.get_scale()}
    done = spoilt(balancer, model, batch(EVEN), float("inf"), "slots", **options)
    scaler.step(optimizer)
    scaler.update()
    assert (done.sound, done.broken, balancer.skipped, balancer.steps) == (False, ["slots"], 0, 0)
    assert scaler.get_scale() == 32.0
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    optimizer.zero_grad()
    run(model, balancer, batch(EVEN), backward=backward, loss_scale=scaler.get_scale())
    scaler.step(optimizer)
    assert all(not torch.equal(value, before[name]) for name, value in model.state_dict().items())


# --- records --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"statistic": "sketch", "sketch_size": HUGE}, {"statistic": "gramian"}], ids=str
)
@pytest.mark.parametrize("method", ["equal", "uw", "upgrad"])
def test_a_record_holds_the_gramian_of_the_tasks_own_gradients_by_layer_and_by_halves(
    method: str, options: dict[str, Any]
) -> None:
    model, step = Tiny(), batch({"intent": 4, "slots": 6, "urgency": 2, "mood": 0})
    rows = separate(model, step).jacobian[:3]
    first, second = (separate(model, step, keep=lambda place, odd=odd: place % 2 == odd).jacobian[:3] for odd in (0, 1))
    done = run(model, balancer_of(model, method, preference=LIKED, **options), step, record=True)
    record = json.loads(json.dumps(done.record, allow_nan=False))
    assert record["tasks"] == ["intent", "slots", "urgency"]
    gramian = torch.tensor(record["gramian"], dtype=torch.float64)
    torch.testing.assert_close(gramian, rows @ rows.T, rtol=1e-4, atol=1e-6)
    if options.get("statistic") == "sketch":
        assert "layers" not in record
    else:
        layers = {name: torch.tensor(part, dtype=torch.float64) for name, part in record["layers"].items()}
        assert list(layers) == ["words", "first", "norm", "last"]
        torch.testing.assert_close(sum(layers.values(), torch.zeros(3, 3)), gramian, rtol=1e-5, atol=1e-8)
        place = 0
        for name, module in model.shared.items():
            size = sum(parameter.numel() for parameter in module.parameters())
            part = rows[:, place : place + size]
            torch.testing.assert_close(layers[name], part @ part.T, rtol=1e-4, atol=1e-6)
            place += size
    units = [half / half.norm(dim=1, keepdim=True) for half in (first, second)]
    wanted = sum((one @ other.T for one in units for other in units), torch.zeros(3, 3)) / 4
    wanted.diagonal().copy_((units[0] * units[1]).sum(dim=1))
    # The halves are always sketched, here by more numbers than there are coordinates.
    torch.testing.assert_close(torch.tensor(record["half_cosines"], dtype=torch.float64), wanted, rtol=0, atol=1e-5)


def test_half_cosines_of_a_small_sketch_are_as_far_off_as_its_size_says() -> None:
    model, step = Tiny(), batch(dict.fromkeys(TASKS, 4))
    size, wanted = 151, run(model, balancer_of(model, "equal"), step, record=True).record["half_cosines"]
    errors = []
    for seed in range(20):
        done = run(model, balancer_of(model, "equal", sketch_size=size, seed=seed), step, record=True)
        errors.append(torch.tensor(done.record["half_cosines"]) - torch.tensor(wanted))
    spread = float(torch.stack(errors).square().mean().sqrt())
    assert 0.1 / size**0.5 < spread < 1.5 / size**0.5


def test_a_step_that_is_not_recorded_has_no_record() -> None:
    model = Tiny()
    assert run(model, balancer_of(model, "upgrad"), batch(EVEN)).record == {}
