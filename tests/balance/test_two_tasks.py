"""What methods come to where there are two tasks: closed forms, and which of them share a direction."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from balance_steps import gradients, made, seen_of

PAIRS = [gradients(2, seed=seed, spread=spread) for seed in range(6) for spread in (1.0, 20.0)]
CONFLICTING = [pair * torch.tensor([[1.0], [-1.0 if pair[0] @ pair[1] > 0 else 1.0]]) for pair in PAIRS]


def direction(name: str, pair: Tensor, **options: object) -> Tensor:
    weights = made(name, ("intent", "slots"), **options).weigh(seen_of(pair))
    return pair.T @ weights


def cosine(one: Tensor, other: Tensor) -> float:
    return float(one @ other / one.norm() / other.norm())


@pytest.mark.parametrize("name", ["imtl_g", "config", "fairgrad", "nash_mtl"])
@pytest.mark.parametrize("pair", PAIRS + CONFLICTING)
def test_the_bisector_of_the_unit_gradients_is_where_four_methods_go(name: str, pair: Tensor) -> None:
    bisector = (pair / pair.norm(dim=1, keepdim=True)).sum(0)
    assert cosine(direction(name, pair), bisector) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("pair", PAIRS + CONFLICTING)
def test_nash_and_imtl_g_have_the_same_weights(pair: Tensor) -> None:
    assert torch.allclose(direction("nash_mtl", pair), direction("imtl_g", pair), rtol=1e-8)


@pytest.mark.parametrize("pair", PAIRS + CONFLICTING)
def test_upgrad_is_half_of_pcgrad(pair: Tensor) -> None:
    assert torch.allclose(direction("upgrad", pair), direction("pcgrad", pair) / 2, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("pair", CONFLICTING)
def test_pcgrad_takes_from_each_gradient_what_opposes_the_other(pair: Tensor) -> None:
    one, other = pair
    wanted = one - (one @ other) / (other @ other) * other + other - (one @ other) / (one @ one) * one
    assert torch.allclose(direction("pcgrad", pair), wanted)


@pytest.mark.parametrize("pair", PAIRS + CONFLICTING)
def test_mgda_takes_the_point_of_the_segment_that_is_nearest_to_zero(pair: Tensor) -> None:
    one, other = pair
    share = float(((other - one) @ other / (one - other).pow(2).sum()).clamp(0, 1))
    found = made("mgda", ("intent", "slots")).weigh(seen_of(pair))
    assert found.tolist() == pytest.approx([share, 1 - share], abs=1e-9)


@pytest.mark.parametrize("pair", PAIRS)
def test_without_conflict_the_projecting_methods_take_the_mean(pair: Tensor) -> None:
    if pair[0] @ pair[1] < 0:
        pair = pair * torch.tensor([[1.0], [-1.0]])
    for name in ("upgrad", "dualproj"):
        assert torch.allclose(direction(name, pair), pair.mean(0))


@pytest.mark.parametrize("pair", CONFLICTING)
def test_dualproj_of_conflicting_gradients_ends_on_the_border_or_at_the_mean(pair: Tensor) -> None:
    found, mean = direction("dualproj", pair), pair.mean(0)
    gains = pair @ found
    assert gains.min() > -1e-12
    assert torch.allclose(found, mean) or float(gains.min()) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("pair", PAIRS)
def test_cagrad_with_no_ball_is_the_mean_and_gradients_align(pair: Tensor) -> None:
    assert torch.allclose(direction("cagrad", pair, c=0.0), pair.mean(0), atol=1e-6)


@pytest.mark.parametrize("pair", PAIRS + CONFLICTING)
def test_aligned_gradients_are_orthogonal_and_of_one_length(pair: Tensor) -> None:
    whole = torch.eye(2, dtype=torch.float64)
    rows = []
    for preference in whole.tolist():
        balance = made("aligned_mtl", ("intent", "slots"))
        rows.append(pair.T @ balance.weigh(seen_of(pair, preference=preference)))
    inner = torch.stack(rows) @ torch.stack(rows).T
    assert torch.allclose(inner, torch.linalg.eigvalsh(pair @ pair.T)[0] * whole, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("pair", CONFLICTING)
def test_fairgrad_gives_alpha_fairness(pair: Tensor) -> None:
    for alpha in (0.1, 0.5, 1.0, 2.0):
        weights = made("fairgrad", ("intent", "slots"), alpha=alpha).weigh(seen_of(pair))
        assert torch.allclose(pair @ pair.T @ weights, weights ** (-1 / alpha), rtol=1e-4)
    equal = made("fairgrad", ("intent", "slots"), alpha=0.0).weigh(seen_of(pair))
    assert equal.tolist() == [1.0, 1.0]


def test_fairgrad_scales_as_its_equation_does() -> None:
    pair = PAIRS[0]
    for alpha in (0.5, 1.0, 2.0):
        plain = made("fairgrad", ("intent", "slots"), alpha=alpha).weigh(seen_of(pair))
        large = made("fairgrad", ("intent", "slots"), alpha=alpha).weigh(seen_of(1e4 * pair))
        assert torch.allclose(large, plain * 1e8 ** (-alpha / (alpha + 1)), rtol=1e-9)
