"""What a step of a balancer puts into `.grad`, against one separate pass for each task and torchjd's own weights."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from balancer_tools import (
    TASKS,
    Separate,
    Tiny,
    balancer_of,
    batch,
    head_gradients,
    off,
    run,
    separate,
    shared_gradient,
)
from torch import Tensor
from torchjd import aggregation as agg

from taskloom.balance import BALANCES
from taskloom.balance._projector import NnlsProjector
from taskloom.gradients import Balancer

EVEN = dict.fromkeys(TASKS, 3)
LIKED = {"intent": 1.0, "slots": 3.0, "urgency": 0.5, "mood": 1.5}
HUGE = 4096
"""A sketch with more numbers than the tiny model has parameters: nothing is lost in it."""

Weigh = Callable[[Tensor, Tensor, Tensor], Tensor]


def longest_over_each(gramian: Tensor, losses: Tensor) -> Tensor:
    lengths = gramian.diagonal().sqrt()
    return (lengths / losses).max() / lengths


WEIGHTS: dict[str, Weigh] = {
    "equal": lambda g, p, losses: torch.full_like(p, 1 / len(p)),
    "sum": lambda g, p, losses: torch.ones_like(p),
    "mgda": lambda g, p, losses: agg.MGDAWeighting(1e-5, 1000)(g),
    "imtl_g": lambda g, p, losses: agg.IMTLGWeighting()(g),
    "fairgrad": lambda g, p, losses: agg.FairGradWeighting(1.0)(g),
    "krum": lambda g, p, losses: agg.KrumWeighting(1, 1)(g),
    "db_mtl": lambda g, p, losses: longest_over_each(g, losses),
    "upgrad": lambda g, p, losses: agg.UPGradWeighting(p, NnlsProjector())(g),
    "dualproj": lambda g, p, losses: agg.DualProjWeighting(p, NnlsProjector())(g),
    "aligned_mtl": lambda g, p, losses: agg.AlignedMTLWeighting(p)(g),
    "cagrad": lambda g, p, losses: agg.CAGradWeighting(c=0.4)(g),
}
"""Method -> weights [task] out of Gramian, preference and losses, by torchjd or a formula."""


def preference_of(liked: dict[str, float] | None) -> Tensor:
    given = torch.tensor([(liked or {}).get(name, 1.0) for name in TASKS], dtype=torch.float64)
    return given / given.sum()


def wanted_gradient(method: str, found: Separate, preference: Tensor, weigh: Weigh | None = None) -> Tensor:
    """Weigh the gradients of separate passes: liked ones, where the method does not know of preference."""
    known = BALANCES.load(method).takes_preference
    rows = found.jacobian if known else len(preference) * preference.unsqueeze(1) * found.jacobian
    weights = (weigh or WEIGHTS[method])(rows @ rows.T, preference, found.losses)
    return weights @ rows


def assert_heads(model: Tiny, found: Separate, preference: Tensor) -> None:
    for name, share, gradient in zip(TASKS, preference, head_gradients(model).values(), strict=True):
        assert off(gradient, share * found.heads[name]) < 1e-5


@pytest.mark.parametrize("chunks", [1, 4])
@pytest.mark.parametrize("liked", [None, LIKED], ids=["alike", "liked"])
@pytest.mark.parametrize("method", WEIGHTS)
def test_gradients_are_those_of_separate_passes_weighed_by_torchjd(
    method: str, liked: dict[str, float] | None, chunks: int
) -> None:
    model, step = Tiny(), batch(EVEN, chunks=chunks)
    found, preference = separate(model, step), preference_of(liked)
    balancer = balancer_of(model, method, preference=liked)
    done = run(model, balancer, step)
    wanted = wanted_gradient(method, found, preference)
    assert off(shared_gradient(model), wanted) < 1e-5
    assert_heads(model, found, preference)
    assert list(done.losses.values()) == pytest.approx(found.losses.tolist(), rel=1e-6)
    mixed = torch.tensor(list(done.weights.values()), dtype=torch.float64) * preference @ found.jacobian
    assert off(mixed, wanted) < 1e-5, "the weights told are those of the preferred gradients"
    plain = preference @ found.jacobian
    assert method == "equal" or off(shared_gradient(model), plain) > 1e-3, "the test would see no balance"


def test_pcgrad_takes_conflict_out_in_an_order_drawn_from_seed_and_step() -> None:
    """Every order of the others is tried for every task; what the balancer gives is one of them."""
    model, step = Tiny(), batch(EVEN)
    rows = separate(model, step).jacobian
    others = [[other for other in range(len(rows)) if other != task] for task in range(len(rows))]
    ways: list[list[Tensor]] = []
    for task, rest in enumerate(others):
        made = []
        for order in itertools.permutations(rest):
            gradient = rows[task].clone()
            for other in order:
                product = gradient @ rows[other]
                gradient = gradient - product.clamp(max=0.0) / rows[other].square().sum() * rows[other]
            made.append(gradient)
        ways.append(made)
    sums = [sum(choice, torch.zeros(rows.shape[1])) for choice in itertools.product(*ways)]
    assert (rows @ rows.T < 0).any(), "nothing conflicts here"
    found = []
    for seed in range(6):
        run(model, balancer_of(model, BALANCES.load("pcgrad")(seed=seed)), step)
        found.append(shared_gradient(model))
        assert min(off(found[-1], each) for each in sums) < 1e-5
    run(model, balancer_of(model, BALANCES.load("pcgrad")(seed=0)), step)
    assert torch.equal(shared_gradient(model), found[0])
    assert len({tuple(each.tolist()) for each in found}) > 1


def test_nash_mtl_weights_solve_its_equation() -> None:
    model, step = Tiny(), batch(EVEN)
    rows = separate(model, step).jacobian
    done = run(model, balancer_of(model, "nash_mtl"), step)
    weights = torch.tensor(list(done.weights.values()), dtype=torch.float64) / len(TASKS)
    assert off(shared_gradient(model), weights @ rows) < 1e-5
    products = weights * (rows @ rows.T @ weights)
    assert float(products.std() / products.mean()) < 1e-4


# --- constant weights -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("record", [False, True])
@pytest.mark.parametrize("method", ["static", "constant"])
def test_constant_weights_are_a_preference_that_heads_follow_too(method: str, record: bool) -> None:
    numbers, liked = {"intent": 1.0, "slots": 2.0, "urgency": 0.0, "mood": 5.0}, preference_of(LIKED)
    model, step = Tiny(), batch(EVEN)
    found = separate(model, step)
    given = torch.tensor(list(numbers.values()), dtype=torch.float64)
    balancer = balancer_of(model, BALANCES.load(method)(weights=numbers), preference=LIKED)
    done = run(model, balancer, step, record=record)
    shares = liked * given / (liked * given).sum()
    assert balancer.preference.tolist() == pytest.approx(shares.tolist())
    # `static` divides the numbers by their sum; `constant` multiplies gradients that are 1 each on average.
    wanted = shares @ found.jacobian if method == "static" else len(TASKS) * (liked * given) @ found.jacobian
    assert off(shared_gradient(model), wanted) < 1e-5
    assert_heads(model, found, shares)
    told = torch.tensor(list(done.weights.values()), dtype=torch.float64)
    assert off(told * liked @ found.jacobian, wanted) < 1e-5
    assert not record or done.record["tasks"] == ["intent", "slots", "mood"], "a weight of zero leaves no gradient"


# --- absent tasks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("liked", [None, LIKED], ids=["alike", "liked"])
@pytest.mark.parametrize("method", ["equal", "mgda", "imtl_g", "upgrad", "aligned_mtl", "nash_mtl", "pcgrad"])
def test_an_absent_task_does_not_move_the_weights_of_the_others(method: str, liked: dict[str, float] | None) -> None:
    """The others get what a run of them alone gets, times their share of the preference."""
    present = tuple(name for name in TASKS if name != "slots")
    model, step = Tiny(), batch(EVEN | {"slots": 0})
    done = run(model, balancer_of(model, method, preference=liked), step)
    found, heads = shared_gradient(model), head_gradients(model)
    assert list(done.losses) == list(done.weights) == list(present)
    assert not heads["slots"].any()
    others = Tiny(present)
    others.load_state_dict({name: value for name, value in model.state_dict().items() if "slots" not in name})
    for rows in step:
        rows.tasks = [present.index(TASKS[task]) for task in rows.tasks]
    alone = balancer_of(others, method, present, preference=liked)
    run(others, alone, step)
    share = float(preference_of(liked)[[TASKS.index(name) for name in present]].sum())
    scale = share if alone.method.total == "mean" else share * len(TASKS) / len(present)
    assert off(found, scale * shared_gradient(others)) < 1e-5
    for name in present:
        assert off(heads[name], share * head_gradients(others)[name]) < 1e-5


def test_an_absent_task_keeps_its_multiplier_for_the_next_step() -> None:
    model = Tiny()
    balancer = balancer_of(model, "gradnorm")
    run(model, balancer, batch(EVEN))
    run(model, balancer, batch(EVEN, seed=1))
    before = balancer.multipliers.clone()
    run(model, balancer, batch(EVEN | {"mood": 0}, seed=2))
    changed = (balancer.multipliers != before).tolist()
    assert changed == [True, True, True, False]


# --- methods that are more than weights -----------------------------------------------------------------------------


def present_rows(found: Separate, preference: Tensor) -> Tensor:
    return (len(TASKS) * preference.unsqueeze(1) * found.jacobian)[~found.losses.isnan()]


@pytest.mark.parametrize("counts", [EVEN, EVEN | {"urgency": 0}], ids=["all", "absent"])
@pytest.mark.parametrize("liked", [None, LIKED], ids=["alike", "liked"])
def test_trimmed_mean_cuts_each_coordinate_as_torchjd_does(
    counts: dict[str, int], liked: dict[str, float] | None
) -> None:
    model, step = Tiny(), batch(counts)
    rows = present_rows(separate(model, step), preference_of(liked))
    run(model, balancer_of(model, "trimmed_mean", preference=liked), step)
    assert off(shared_gradient(model), agg.TrimmedMean(1)(rows) * len(rows) / len(TASKS)) < 1e-5


@pytest.mark.parametrize("counts", [EVEN, EVEN | {"urgency": 0}], ids=["all", "absent"])
def test_graddrop_keeps_one_sign_in_each_coordinate(counts: dict[str, int]) -> None:
    model, step = Tiny(), batch(counts)
    rows = present_rows(separate(model, step), preference_of(LIKED))
    run(model, balancer_of(model, "graddrop", preference=LIKED), step)
    found = shared_gradient(model)
    kept = torch.stack([rows.clamp(min=0).sum(dim=0), rows.clamp(max=0).sum(dim=0)])
    nearest = (found - kept).abs().min(dim=0).values
    assert float(nearest.max()) < 1e-5 * float(rows.abs().max())
    assert {int(sign) for sign in found.sign()} >= {-1, 1}


@pytest.mark.parametrize("liked", [None, LIKED], ids=["alike", "liked"])
def test_config_has_the_direction_of_torchjd(liked: dict[str, float] | None) -> None:
    model, step = Tiny(), batch(EVEN)
    found, preference = separate(model, step), preference_of(liked)
    run(model, balancer_of(model, "config", preference=liked), step)
    assert off(shared_gradient(model), agg.ConFIG(preference)(found.jacobian)) < 1e-4


def halves(model: Tiny, step: Any, preference: Tensor | None) -> tuple[Tensor, Tensor]:
    """Give the gradients [task, param] of the two halves of each task's rows, each as a mean."""
    scale = 2.0 if preference is None else 2.0 * len(TASKS) * preference.unsqueeze(1)
    first = separate(model, step, keep=lambda place: place % 2 == 0).jacobian
    return scale * first, scale * separate(model, step, keep=lambda place: place % 2 == 1).jacobian


@pytest.mark.parametrize("chunks", [1, 3])
@pytest.mark.parametrize("statistic", ["jacobian", "sketch", "gramian"])
@pytest.mark.parametrize("method", ["modo", "sdmgrad", "pike"])
def test_methods_of_two_halves_see_the_halves_of_separate_passes(method: str, statistic: str, chunks: int) -> None:
    model, step, preference = Tiny(), batch(dict.fromkeys(TASKS, 4), chunks=chunks), preference_of(LIKED)
    options: dict[str, Any] = {"pike": {"zeta_1": 0.5, "zeta_2": 0.2}}.get(method, {})
    balance = BALANCES.load(method)(**options)
    found = separate(model, step)
    one, other = halves(model, step, None if balance.takes_preference else preference)
    cross = one @ other.T
    if method == "modo":
        weights = agg.MoDoWeighting()(cross)
    elif method == "sdmgrad":
        weights = agg.SDMGradWeighting(pref_vector=preference)(cross)
    else:
        squares, whole = cross.diagonal(), ((one + other) / 2).square().sum(dim=1)
        gain = (0.5 * squares - 0.1 * (whole - squares)) / whole.mean()
        weights = torch.softmax(gain.clamp(-1, 1), dim=0)
    rows = found.jacobian if balance.takes_preference else len(TASKS) * preference.unsqueeze(1) * found.jacobian
    options = {"statistic": statistic, "weights_from": "this_step", "sketch_size": HUGE}
    balancer = balancer_of(model, balance, preference=LIKED, **options)
    if statistic == "gramian" and chunks > 1:
        run(model, balancer, step)  # that a parameter is used more than once is known after a first pass
        assert balancer.multipliers.tolist() == [1.0] * len(TASKS)
    run(model, balancer, step)
    assert off(shared_gradient(model), weights @ rows) < 1e-4
    assert float((weights - 1 / len(TASKS)).abs().max()) > 1e-3


def test_a_method_that_reads_the_jacobian_is_not_given_less() -> None:
    with pytest.raises(ValueError, match=r"needs it kept\. Found the statistic `sketch`"):
        balancer_of(Tiny(), "graddrop", statistic="sketch")


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_a_preference_is_above_zero(bad: float) -> None:
    with pytest.raises(ValueError, match="`preference` should be above 0 for every task"):
        Balancer(Tiny().shared.named_parameters(), TASKS, preference={"slots": bad})
