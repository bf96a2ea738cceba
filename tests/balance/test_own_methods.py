"""Taskloom's own methods against their papers' formulas, written out again or left to autograd."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from balance_steps import NAMES, gradients, made, seen_of
from taskloom.balance.nash_mtl import solve
from taskloom.errors import ConfigError

TASKS = NAMES[:4]
LOSSES = [0.7, 1.9, 0.2, 3.1]


def numbers(values: object) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


# --- fixed weights --------------------------------------------------------------------------------------------------


def test_equal_weights_are_one_over_the_tasks() -> None:
    assert made("equal", TASKS).weigh(seen_of(gradients(4))).tolist() == [0.25] * 4
    assert made("equal", TASKS[:1]).weigh(seen_of(gradients(1))).tolist() == [1.0]


def test_static_weights_are_the_ratios_of_what_is_given() -> None:
    balance = made("static", TASKS, weights=dict(zip(TASKS, [3, 0, 1, 4], strict=True)))
    assert balance.weigh(seen_of(gradients(4))).tolist() == pytest.approx([3 / 8, 0, 1 / 8, 4 / 8])


def test_static_weights_are_the_same_in_a_step_with_some_tasks() -> None:
    balance = made("static", TASKS, weights=dict(zip(TASKS, [3, 0, 1, 4], strict=True)))
    part = seen_of(gradients(2), tasks=[TASKS[3], TASKS[2]])
    assert (balance.weigh(part) * 2 / 4).tolist() == pytest.approx([4 / 8, 1 / 8])


def test_static_names_every_task_that_is_wrong() -> None:
    with pytest.raises(ConfigError) as caught:
        made("static", TASKS[:2], weights={"intent": 1.0, "slts": 2.0})
    assert str(caught.value).splitlines() == [
        "`balance.weights.slts` should be one of the run's tasks. Found `slts`. Did you mean `slots`?",
        "`balance.weights.slots` should be given. Found nothing. Add `slots: 1`.",
    ]
    with pytest.raises(ConfigError, match=r"`balance\.weights` should have a number above 0\. Found none\."):
        made("static", TASKS[:2], weights={"intent": 0.0, "slots": 0.0})


# --- one over the loss ------------------------------------------------------------------------------------------------


def test_uncertainty_is_the_papers_softmax() -> None:
    seen = seen_of(gradients(4), LOSSES)
    wanted = torch.softmax(1 / numbers(LOSSES) / 3.0, dim=0)
    assert torch.allclose(made("uncertainty", TASKS, temperature=3.0).weigh(seen), wanted)


def test_uncertainty_smooths_the_losses_by_task() -> None:
    balance = made("uncertainty", TASKS[:2], decay=0.75)
    balance.weigh(seen_of(gradients(2), [1.0, 2.0]))
    found = balance.weigh(seen_of(gradients(2), [2.0, 0.5]))
    wanted = torch.softmax(1 / numbers([0.75 + 0.25 * 2.0, 0.75 * 2.0 + 0.25 * 0.5]), dim=0)
    assert torch.allclose(found, wanted)


@pytest.mark.parametrize("name", ["uw", "imtl_l", "geometric_mean"])
def test_methods_that_learn_from_losses_end_at_one_over_the_loss(name: str) -> None:
    options = {} if name == "geometric_mean" else {"learning_rate": 0.05}
    balance = made(name, TASKS, **options)
    seen = seen_of(gradients(4), LOSSES)
    for _ in range(600):
        weights = balance.weigh(seen)
    products = weights * numbers(LOSSES)
    assert torch.allclose(products, products.mean().expand(4), rtol=1e-3)


def test_the_gradient_of_the_sum_of_logarithms_is_one_over_the_loss_too() -> None:
    leaf = numbers(LOSSES).requires_grad_()
    leaf.log().sum().backward()
    weights = made("geometric_mean", TASKS).weigh(seen_of(gradients(4), LOSSES))
    assert leaf.grad is not None
    assert torch.allclose(weights / weights.sum(), leaf.grad / leaf.grad.sum())


def test_famo_follows_its_formula() -> None:
    balance = made("famo", TASKS[:2], lr=0.1, weight_decay=0.0)
    first = balance.weigh(seen_of(gradients(2), [1.0, 4.0]))
    assert first.tolist() == pytest.approx([0.8, 0.2])  # z_t / L_t, divided by their sum
    second = balance.weigh(seen_of(gradients(2), [0.5, 4.0]))
    # The first loss fell, the second stood still: Adam's first step moves each logit by 0.1 along the sign.
    shares = torch.softmax(numbers([-0.1, 0.1]), dim=0)
    wanted = shares / numbers([0.5, 4.0])
    assert torch.allclose(second, wanted / wanted.sum(), rtol=1e-6)


def test_group_dro_moves_shares_by_the_exponential_of_the_loss() -> None:
    balance = made("group_dro", TASKS, step_size=0.1)
    shares = numbers([0.25] * 4)
    for losses in (LOSSES, LOSSES[::-1], [1.0] * 4):
        shares = shares * (0.1 * numbers(losses)).exp()
        shares = shares / shares.sum()
        assert torch.allclose(balance.weigh(seen_of(gradients(4), losses)), shares)


# --- by gradients -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", range(2, 21))
def test_nash_solves_its_equation(count: int) -> None:
    for seed in range(5):
        jacobian = gradients(count, seed=seed, params=24)
        gramian = jacobian @ jacobian.T
        found = solve(gramian)
        assert (found > 0).all()
        assert (gramian @ found * found - 1).abs().max() < 1e-8


def test_nash_minimizes_its_convex_problem() -> None:
    gramian = (lambda j: j @ j.T)(gradients(5, seed=2)).numpy()
    result = minimize(
        lambda a: a @ gramian @ a / 2 - np.log(a).sum(),
        np.ones(5),
        jac=lambda a: gramian @ a - 1 / a,
        bounds=[(1e-9, None)] * 5,
        options={"ftol": 1e-14, "gtol": 1e-10},
    )
    assert solve(torch.from_numpy(gramian)).numpy() == pytest.approx(result.x, rel=1e-4)


def test_nash_maximizes_the_product_of_gains_over_the_ball() -> None:
    jacobian = gradients(4, seed=5, spread=50.0)
    combined = jacobian.T @ made("nash_mtl", TASKS).weigh(seen_of(jacobian))
    best = (jacobian @ combined / combined.norm()).log().sum()
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        other = combined / combined.norm() + 0.05 * torch.randn(12, generator=generator, dtype=torch.float64)
        gains = jacobian @ other / other.norm()
        assert (gains <= 0).any() or gains.log().sum() <= best + 1e-9


@pytest.mark.parametrize("factor", [1e-9, 1.0, 1e9])
def test_nash_does_not_care_what_a_task_is_measured_in(factor: float) -> None:
    jacobian = gradients(4, seed=6)
    other = jacobian.clone()
    other[2] *= factor
    plain, scaled = made("nash_mtl", TASKS).weigh(seen_of(jacobian)), made("nash_mtl", TASKS).weigh(seen_of(other))
    one, two = jacobian.T @ plain, other.T @ scaled
    assert torch.allclose(one / one.norm(), two / two.norm(), rtol=1e-6)


def test_nash_of_opposite_gradients_stays_finite_and_stands_still() -> None:
    one = gradients(1, seed=1)
    pair = torch.cat([one, -3 * one])
    weights = made("nash_mtl", TASKS[:2]).weigh(seen_of(pair))
    assert weights.tolist() == pytest.approx([0.75, 0.25])
    assert (pair.T @ weights).norm() < 1e-9


def test_db_mtl_brings_the_gradients_of_the_logarithms_to_the_longest() -> None:
    jacobian = gradients(4, seed=3, spread=30.0)
    weights = made("db_mtl", TASKS).weigh(seen_of(jacobian, LOSSES))
    logarithms = jacobian / numbers(LOSSES)[:, None]
    alphas = logarithms.norm(dim=1).max() / logarithms.norm(dim=1)
    assert torch.allclose(jacobian.T @ weights, logarithms.T @ alphas)
    assert torch.allclose((weights[:, None] * jacobian).norm(dim=1), logarithms.norm(dim=1).max().expand(4))


def test_gradnorm_learns_as_autograd_and_adam_do() -> None:
    balance = made("gradnorm", TASKS, alpha=1.2, learning_rate=0.05)
    weights = torch.nn.Parameter(torch.ones(4, dtype=torch.float64))
    adam = torch.optim.Adam([weights], lr=0.05)
    first = numbers(LOSSES)
    for step in range(6):
        jacobian = gradients(4, seed=step, spread=10.0)
        losses = numbers(LOSSES) * numbers([0.9, 1.0, 0.7, 1.1]) ** step
        found = balance.weigh(seen_of(jacobian, losses.tolist()))
        assert torch.allclose(found, weights.detach())
        lengths = jacobian.norm(dim=1) / jacobian.norm(dim=1).mean()
        ratio = losses / first
        wanted = ((weights * lengths).mean() * (ratio / ratio.mean()) ** 1.2).detach()
        adam.zero_grad()
        (weights * lengths - wanted).abs().sum().backward()
        adam.step()
        with torch.no_grad():
            weights.mul_(4 / weights.sum())


def test_gradnorm_keeps_the_sum_of_its_weights() -> None:
    balance = made("gradnorm", TASKS, learning_rate=0.3)
    for step in range(30):
        some = [0, 2, 3] if step % 3 else [0, 1, 2, 3]
        balance.weigh(seen_of(gradients(4, seed=step, spread=50.0)[some], tasks=[TASKS[place] for place in some]))
    kept = [each["number"] for each in balance.state()["learned"].values()]
    assert sum(kept) == pytest.approx(4.0)
    assert min(kept) > 0


def test_pike_moves_shares_by_squared_gradients_less_their_variance() -> None:
    generator = torch.Generator().manual_seed(4)
    halves = torch.randn(2, 4, 12, generator=generator, dtype=torch.float64)
    whole = halves.mean(0)
    seen = seen_of(whole)
    seen = type(seen)(seen.tasks, seen.losses, seen.preference, 0, whole @ whole.T, halves[0] @ halves[1].T)
    found = made("pike", TASKS, zeta_1=0.3, zeta_2=0.2).weigh(seen)
    squares = (halves[0] * halves[1]).sum(1)
    variances = ((halves[0] - halves[1]) / 2).pow(2).sum(1)  # of the mean of two halves
    size = whole.pow(2).sum(1).mean()
    gains = (0.3 * squares - 0.1 * variances) / size
    assert gains.abs().max() < 1
    assert torch.allclose(found, torch.softmax(gains, dim=0))


def test_pike_estimates_what_it_says() -> None:
    generator = torch.Generator().manual_seed(1)
    mean, noise, rows, draws = torch.full((50,), 0.3, dtype=torch.float64), 2.0, 16, 4000
    drawn = mean + noise * torch.randn(draws, 2, rows // 2, 50, generator=generator, dtype=torch.float64)
    one, two = drawn.mean(2).unbind(1)
    square, whole = (one * two).sum(1), ((one + two) / 2).pow(2).sum(1)
    assert float(square.mean()) == pytest.approx(float(mean @ mean), rel=0.05)
    assert float((whole - square).mean()) == pytest.approx(50 * noise**2 / rows, rel=0.05)


# --- by validation ----------------------------------------------------------------------------------------------------


def test_priorities_are_the_focal_loss_of_the_smoothed_scores() -> None:
    balance = made("dynamic_task_prioritisation", TASKS[:2], gamma=2.0, decay=0.25)
    assert balance.weigh(seen_of(gradients(2))).tolist() == [0.5, 0.5]
    balance.weigh(seen_of(gradients(2), scores={"intent": 0.2, "slots": 0.6}))
    for _ in range(3):  # an evaluation counts once, however many steps follow it
        found = balance.weigh(seen_of(gradients(2), scores={"intent": 0.6, "slots": 0.8}))
    known = [0.25 * 0.2 + 0.75 * 0.6, 0.25 * 0.6 + 0.75 * 0.8]
    wanted = numbers([-((1 - k) ** 2) * math.log(k) for k in known])
    assert torch.allclose(found, wanted / wanted.sum())
    extreme = balance.weigh(seen_of(gradients(2), scores={"intent": -1.0, "slots": 1.0}))
    assert extreme.isfinite().all()
    assert (extreme > 0).all()


def coba_by_hand(losses: np.ndarray, warmup: int, history: int, tau: float) -> list[np.ndarray]:
    """Write out equations 1 to 6 of the paper over validation losses [step, task], with the code's lift."""

    def softmax(values: np.ndarray) -> np.ndarray:
        return np.exp(values) / np.exp(values).sum()

    ratios = losses / losses[0]
    tasks = losses.shape[1]
    slopes: list[list[float]] = []
    weights = []
    for step in range(1, len(losses) + 1):
        if step <= warmup:
            weights.append(np.full(tasks, 1 / tasks))
            continue
        window = ratios[max(0, step - history) : step]
        line = np.stack([np.arange(len(window)), np.ones(len(window))]).T
        slopes.append([np.linalg.lstsq(line, window[:, task], rcond=None)[0][0] for task in range(tasks)])
        past = np.array(slopes[-history:])
        now, n = past[-1], len(past)
        rcs = softmax(tasks * now / np.abs(now).sum())
        acs = softmax(-n * now / np.abs(past).sum(axis=0))
        greatest = past.max(axis=1)
        factor = min(1.0, n * softmax(-tau * n * greatest / np.abs(greatest).sum())[-1])
        mixed = factor * rcs + (1 - factor) * acs
        floor = 1 / (10 * tasks)
        weights.append(mixed * (1 - floor * tasks) + floor if mixed.min() < floor else mixed)
    return weights


@pytest.mark.parametrize("seed", range(4))
def test_coba_is_what_the_paper_writes(seed: int) -> None:
    generator = np.random.default_rng(seed)
    fall = np.exp(-np.arange(25)[:, None] * np.array([0.2, 0.05, 0.02, 0.1]))
    losses = 2 * fall + 0.02 * np.arange(25)[:, None] * np.array([1, 0, 0, 2]) + 0.01 * generator.random((25, 4))
    balance = made("coba", TASKS, warmup_steps=3, history=6, tau=2.0)
    for row, wanted in zip(losses, coba_by_hand(losses, 3, 6, 2.0), strict=True):
        known = dict(zip(TASKS, row.tolist(), strict=True))
        found = balance.weigh(seen_of(gradients(4), validation_losses=known))
        assert found.tolist() == pytest.approx(wanted.tolist(), rel=1e-9)
    assert found.min() >= 1 / 40


def test_coba_gives_slow_tasks_more_and_rising_tasks_less() -> None:
    balance = made("coba", ("intent", "slots", "mood"), warmup_steps=2, history=10)
    for step in range(20):
        rising = 0.5 + 0.03 * max(0, step - 8)
        known = {"intent": 1.0 - 0.04 * step, "slots": 1.0 - 0.01 * step, "mood": rising}
        weights = balance.weigh(
            seen_of(gradients(3), tasks=("intent", "slots", "mood"), validation_losses=known)
        ).tolist()
        if step == 8:
            assert weights[1] > weights[0]
    assert weights[2] == min(weights)


def test_coba_weighs_a_step_with_one_task_by_its_part_of_all() -> None:
    balance = made("coba", TASKS, warmup_steps=1, history=5)
    for step in range(6):
        known = {task: 1.0 - 0.1 * step * (place + 1) / 4 for place, task in enumerate(TASKS)}
        whole = balance.weigh(seen_of(gradients(4), validation_losses=known))
    again = made("coba", TASKS, warmup_steps=1, history=5)
    for step in range(6):
        known = {task: 1.0 - 0.1 * step * (place + 1) / 4 for place, task in enumerate(TASKS)}
        alone = again.weigh(seen_of(gradients(1), tasks=[TASKS[2]], validation_losses=known))
    assert float(alone[0]) / 4 == pytest.approx(float(whole[2]))
    assert float(alone[0]) / 4 != pytest.approx(0.25)


def test_coba_without_validation_losses_weighs_equally_and_keeps_nothing() -> None:
    balance = made("coba", TASKS)
    before = json.dumps(balance.state())
    assert balance.weigh(seen_of(gradients(4))).tolist() == [0.25] * 4
    assert json.dumps(balance.state()) == before
