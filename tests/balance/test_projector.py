"""The projection onto the dual cone, against its optimality conditions, enumeration and another solver."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from balance_steps import gradients
from taskloom.balance import _projector
from taskloom.balance._projector import NnlsProjector


def projected(jacobian: Tensor, target: Tensor) -> Tensor:
    found: Tensor = NnlsProjector()(target, jacobian @ jacobian.T)  # type: ignore[arg-type]
    return found


def by_enumeration(gramian: Tensor, target: Tensor) -> Tensor:
    """Try every set of bounds that hold with equality; the feasible one with multipliers from 0 is the answer."""
    count = len(target)
    best, least = target, torch.inf
    for size in range(count + 1):
        for free in itertools.combinations(range(count), size):
            found, places = target.clone(), list(free)
            if places:
                bound = [place for place in range(count) if place not in free]
                inner = gramian[places][:, places]
                found[places] = torch.linalg.solve(inner, -gramian[places][:, bound] @ target[bound])
            value = float(found @ gramian @ found)
            if (found >= target - 1e-9).all() and value < least - 1e-12:
                best, least = found, value
    return best


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("count", [2, 3, 5, 8])
@pytest.mark.parametrize("spread", [1.0, 30.0, 1000.0])
@pytest.mark.parametrize("rank", [1, 3, None])
def test_the_conditions_of_optimality_hold(seed: int, count: int, spread: float, rank: int | None) -> None:
    jacobian = gradients(count, seed=seed, rank=rank, spread=spread)
    gramian, lengths = jacobian @ jacobian.T, jacobian.norm(dim=1)
    for target in (*torch.eye(count, dtype=torch.float64), torch.full((count,), 1 / count, dtype=torch.float64)):
        found = projected(jacobian, target)
        slope = gramian @ found  # of v^T G v / 2, which is the multiplier of v >= u
        noise = 1e-12 * lengths * (found.abs() @ lengths)
        assert (found >= target - 1e-15 * found.abs()).all()
        assert (slope >= -noise).all()
        assert ((found - target) * slope).abs().sum() <= (noise * found).sum() + 1e-15


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("count", [2, 3, 4, 6])
def test_it_is_what_enumerating_the_active_bounds_finds(seed: int, count: int) -> None:
    jacobian = gradients(count, seed=seed, spread=5.0)
    for target in torch.eye(count, dtype=torch.float64):
        assert torch.allclose(projected(jacobian, target), by_enumeration(jacobian @ jacobian.T, target), atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_it_is_what_a_general_solver_finds(seed: int) -> None:
    jacobian = gradients(5, seed=seed, spread=3.0)
    gramian = (jacobian @ jacobian.T).numpy()
    for target in np.eye(5):
        bounds = [(bound, None) for bound in target]
        result = minimize(
            lambda v: v @ gramian @ v,
            target + 0.1,
            jac=lambda v: 2 * gramian @ v,
            bounds=bounds,
            method="SLSQP",
            options={"ftol": 1e-15, "maxiter": 1000},
        )
        found = projected(jacobian, torch.from_numpy(target)).numpy()
        assert found @ gramian @ found <= result.fun + 1e-10
        assert found == pytest.approx(result.x, abs=1e-4)


def test_nothing_conflicts_where_lengths_differ_a_thousandfold() -> None:
    for seed in range(200):
        jacobian = gradients(2 + seed % 5, seed=seed)
        jacobian[0] *= 1000.0
        combined = jacobian.T @ projected(jacobian, torch.eye(len(jacobian), dtype=torch.float64)).sum(0)
        cosines = jacobian @ combined / jacobian.norm(dim=1) / combined.norm()
        assert cosines.min() > -1e-9


def test_a_ridge_as_in_torchjds_projector_would_let_conflict_pass() -> None:
    # The longest gradient against a short one: with 1e-4 of the trace on the diagonal, the short one is not heard.
    jacobian = torch.tensor([[100.0, 0.0], [-0.8, 0.6]], dtype=torch.float64)
    gramian = jacobian @ jacobian.T
    normalized = gramian / gramian.trace() + 1e-4 * torch.eye(2, dtype=torch.float64)
    weights = sum(by_enumeration(normalized, target) for target in torch.eye(2, dtype=torch.float64))
    ours = projected(jacobian, torch.eye(2, dtype=torch.float64)).sum(0)
    assert float((gramian @ weights)[1]) < -1.0
    assert float((gramian @ ours)[1]) >= 0.0


def test_a_zero_gradient_and_a_zero_target_stay() -> None:
    jacobian = gradients(3, seed=1)
    jacobian[1] = 0.0
    found = projected(jacobian, torch.eye(3, dtype=torch.float64))
    assert found.isfinite().all()
    assert torch.allclose(found[1], torch.eye(3, dtype=torch.float64)[1], atol=1e-15)
    assert torch.equal(projected(jacobian, torch.zeros(3, dtype=torch.float64)), torch.zeros(3, dtype=torch.float64))
    nothing = torch.zeros(3, 4, dtype=torch.float64)
    assert torch.equal(projected(nothing, torch.eye(3, dtype=torch.float64)), torch.eye(3, dtype=torch.float64))


def test_where_nnls_gives_up_the_other_solver_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    jacobian = gradients(5, seed=4, spread=10.0)
    targets = torch.eye(5, dtype=torch.float64)
    wanted = projected(jacobian, targets)

    def give_up(*arguments: object, **options: object) -> None:
        raise RuntimeError("Maximum number of iterations reached.")

    monkeypatch.setattr(_projector, "nnls", give_up)
    assert torch.allclose(projected(jacobian, targets), wanted, atol=1e-9)
