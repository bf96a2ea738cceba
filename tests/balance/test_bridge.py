"""The bridge to torchjd: that nothing of torchjd is missing, and that each method is what torchjd gives when asked."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchjd.aggregation
import torchjd.scalarization
from torch import Tensor
from torchjd import aggregation as agg
from torchjd import scalarization as sca

from balance_steps import NAMES, gradients, made, seen_of
from taskloom.balance import BALANCES
from taskloom.balance._aggregations import AGGREGATIONS, LEFT_OUT
from taskloom.balance._projector import NnlsProjector
from taskloom.balance._room import ROWS
from taskloom.balance._scalarizations import SCALARIZATIONS
from taskloom.balance._torchjd import OWN_BRIDGES

COUNT = 5
TASKS = NAMES[:COUNT]
LOSSES = [0.7, 1.9, 0.2, 3.1, 1.2]
LIKING = [0.1, 0.3, 0.2, 0.15, 0.25]
JACOBIAN = gradients(COUNT, seed=8, spread=4.0)
GRAMIAN = JACOBIAN @ JACOBIAN.T
PREFERENCE = torch.tensor(LIKING, dtype=torch.float64)
VALUES = torch.tensor(LOSSES, dtype=torch.float64)
CROSS = seen_of(JACOBIAN).cross_gramian


def slope(scalarizer: Callable[[Tensor], Tensor], values: Tensor = VALUES) -> Tensor:
    leaf = values.clone().requires_grad_()
    scalarizer(leaf).backward()
    assert leaf.grad is not None
    return leaf.grad


def by_torchjd() -> dict[str, tuple[dict[str, Any], Callable[[], Tensor]]]:
    """Name -> our options, and torchjd's own combined gradient or weights for the same step."""
    reference = torch.tensor([0.1, 0.0, 0.0, 0.5, 0.0], dtype=torch.float64)
    given = {"intent": 0.1, "mood": 0.5}
    numbers = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0], dtype=torch.float64)
    return {
        "aligned_mtl": ({}, lambda: agg.AlignedMTLWeighting(PREFERENCE)(GRAMIAN)),
        "cagrad": ({"c": 0.6}, lambda: agg.CAGradWeighting(c=0.6)(GRAMIAN)),
        "constant": ({}, lambda: slope(sca.Constant(numbers))),
        "cosmos": ({"lambda_": 0.7}, lambda: slope(sca.COSMOS(0.7, PREFERENCE))),
        "cr_mogm": ({"weighting": "mgda"}, lambda: liked(agg.MGDAWeighting(1e-5, 1000))),
        "dualproj": ({}, lambda: agg.DualProjWeighting(PREFERENCE, NnlsProjector())(GRAMIAN)),
        "dwa": ({}, lambda: slope(sca.DWA())),
        "excess_mtl": ({"robust_step_size": 0.5}, lambda: agg.ExcessMTLWeighting(0.5)(JACOBIAN)),
        "fairgrad": ({"alpha": 0.7}, lambda: agg.FairGradWeighting(0.7)(GRAMIAN)),
        "famo": ({"min_losses": given}, lambda: slope(sca.FAMO(COUNT, min_losses=reference).double())),
        "geometric_mean": ({}, lambda: slope(sca.GeometricMean())),
        "imtl_g": ({}, lambda: agg.IMTLGWeighting()(GRAMIAN)),
        "imtl_l": ({}, lambda: slope(sca.IMTLL(COUNT))),
        "krum": ({"n_byzantine": 1, "n_selected": 2}, lambda: agg.KrumWeighting(1, 2)(GRAMIAN)),
        "mean": ({}, lambda: slope(sca.Mean())),
        "mgda": ({"epsilon": 1e-3, "max_iters": 100}, lambda: agg.MGDAWeighting()(GRAMIAN)),
        "modo": ({"gamma": 0.3}, lambda: agg.MoDoWeighting(gamma=0.3)(CROSS)),
        "pbi": ({"reference": given}, lambda: PREFERENCE.norm() * slope(sca.PBI(5.0, PREFERENCE, reference))),
        "pcd": ({"primary": "intent", "tau": 0.1}, lambda: agg.PCDWeighting(tau=0.1)(GRAMIAN)),
        "sdmgrad": ({"n_iter": 3}, lambda: agg.SDMGradWeighting(n_iter=3, pref_vector=PREFERENCE)(CROSS)),
        "stch": ({"mu": 0.5, "reference": given}, lambda: COUNT * slope(sca.STCH(0.5, PREFERENCE, reference))),
        "sum": ({}, lambda: slope(sca.Sum())),
        "upgrad": ({}, lambda: agg.UPGradWeighting(PREFERENCE, NnlsProjector())(GRAMIAN)),
        "uw": ({}, lambda: slope(sca.UW(COUNT))),
    }


def liked(weighting: Any) -> Tensor:
    """Weigh gradients that are multiplied by T times their preference, for weights of those that are not."""
    factor = COUNT * PREFERENCE
    weights: Tensor = factor * weighting(factor[:, None] * GRAMIAN * factor)
    return weights


CASES = by_torchjd()
DRAWN = {"gradvac", "pcgrad", "random"}
COMBINED = {"config", "graddrop", "trimmed_mean"}


def seen(step: int = 0) -> Any:
    return seen_of(JACOBIAN, LOSSES, preference=LIKING, step=step)


# --- the table ------------------------------------------------------------------------------------------------------


def test_every_method_of_torchjd_has_a_row_or_a_reason() -> None:
    def methods(module: Any, *bases: type) -> set[str]:
        classes = {name: getattr(module, name) for name in module.__all__}
        return {name for name, each in classes.items() if issubclass(each, bases) and not inspect.isabstract(each)}

    aggregations = {name.removesuffix("Weighting") for name in methods(agg, agg.Weighting, agg.Aggregator)}
    aggregations -= {"WeightedAggregator", "GramianWeightedAggregator"}
    both = {row.torchjd for row in SCALARIZATIONS.values()}
    described = {row.torchjd.removesuffix("Weighting") for row in AGGREGATIONS.values()}
    assert described == aggregations - set(LEFT_OUT) - both
    assert set(LEFT_OUT) <= aggregations
    assert both == methods(sca, sca.Scalarizer)


def test_a_method_is_called_as_torchjds_file() -> None:
    for family, rows in (("aggregation", AGGREGATIONS), ("scalarization", SCALARIZATIONS)):
        module = getattr(torchjd, family)
        files = {path.stem[1:] for path in Path(module.__file__).parent.glob("_*.py")}
        assert set(rows) <= files
        for name, row in rows.items():
            assert getattr(module, row.torchjd).__module__ == f"torchjd.{family}._{name}"


def test_every_option_is_one_of_torchjds_unless_it_is_ours() -> None:
    ours = {"learning_rate", "leak", "primary", "seed", "warmup_steps", "weighting", "weights", "window"}
    for name, row in ROWS.items():
        module = agg if name in AGGREGATIONS else sca
        theirs = set(inspect.signature(getattr(module, row.torchjd).__init__).parameters)
        assert set(row.options) - theirs <= ours, name
        left = theirs - set(row.options) - {"self", "pref_vector", "projector", "weights", "shape", "norm_eps"}
        assert left <= {"f", "initial_weights"}, name


def test_every_own_bridge_has_a_row() -> None:
    assert set(OWN_BRIDGES) <= set(ROWS)


def test_what_is_handed_over_is_what_torchjd_keeps() -> None:
    for each, names in [
        (agg.GradVacWeighting(), {"_phi_t", "_state_key"}),
        (agg.PCDWeighting(), {"_sq_norm_ema", "_n_steps", "_state_key", "_update_scales"}),
        (agg.CRMOGMWeighting(agg.MGDAWeighting()), {"_lambda"}),
        (agg.MoDoWeighting(), {"_lambda", "_state_key"}),
        (agg.SDMGradWeighting(), {"_w", "_state_key"}),
        (agg.ExcessMTLWeighting(), {"_state_key", "_sq_grad_sum", "_warmup_w_sum", "_weights", "_n_steps"}),
        (agg.ExcessMTLWeighting(), {"_initial_w"}),
        (sca.DWA(), {"_previous_averages", "_loss_sum", "_n_batches"}),
        (sca.FAMO(2), {"_w", "_optimizer"}),
    ]:
        assert not {name for name in names if not hasattr(each, name)}, each


def test_every_bridged_method_is_held_against_torchjd() -> None:
    assert set(CASES) | DRAWN | COMBINED == set(ROWS)


# --- the same as torchjd --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_weights_are_those_of_torchjd(name: str) -> None:
    options, ask = CASES[name]
    assert options.keys() <= BALANCES.options(name).keys()
    wanted = ask()
    close = {"fairgrad": 1e-4, "cagrad": 1e-4}.get(name, 1e-6)
    found = made(name, TASKS, **options).weigh(seen())
    assert found.tolist() == pytest.approx(wanted.tolist(), rel=close, abs=close)


@pytest.mark.parametrize(
    ("name", "ask"),
    [
        ("pcgrad", lambda: agg.PCGradWeighting()(GRAMIAN)),
        ("gradvac", lambda: agg.GradVacWeighting()(GRAMIAN / GRAMIAN.diagonal().mean())),
        ("random", lambda: slope(sca.Random())),
    ],
)
def test_drawn_weights_are_those_of_torchjd_for_the_same_draws(name: str, ask: Callable[[], Tensor]) -> None:
    balance = made(name, TASKS, seed=3)
    found = balance.weigh(seen(step=11))
    with balance.drawing(seen(step=11)):  # type: ignore[attr-defined]
        wanted = ask()
    assert torch.allclose(found, wanted)


def test_config_steps_as_torchjd_does_on_the_gradients() -> None:
    wanted = agg.ConFIG(PREFERENCE)(JACOBIAN)
    assert torch.allclose(JACOBIAN.T @ made("config", TASKS).weigh(seen()), wanted, rtol=1e-8)


def test_graddrop_combines_as_torchjd_for_the_same_draws() -> None:
    balance = made("graddrop", TASKS, leak=0.3)
    found = balance.combine(seen(step=4))
    with balance.drawing(seen(step=4)):  # type: ignore[attr-defined]
        wanted = agg.GradDrop(leak=torch.full((COUNT,), 0.3, dtype=torch.float64))(JACOBIAN)
    assert found is not None
    assert torch.equal(found, wanted)


def test_trimmed_mean_combines_as_torchjd() -> None:
    for number in (0, 1, 2):
        found = made("trimmed_mean", TASKS, trim_number=number).combine(seen())
        assert found is not None
        assert torch.equal(found, agg.TrimmedMean(number)(JACOBIAN))


@pytest.mark.parametrize("name", ["graddrop", "trimmed_mean"])
def test_recorded_weights_come_nearest_to_the_combined_gradient(name: str) -> None:
    balance = made(name, TASKS)
    combined, weights = balance.combine(seen()), balance.weigh(seen())
    assert combined is not None
    rest = combined - JACOBIAN.T @ weights
    assert torch.allclose(JACOBIAN @ rest, torch.zeros(COUNT, dtype=torch.float64), atol=1e-10)


def test_the_mean_of_the_gradients_is_recorded_as_equal_weights() -> None:
    weights = made("trimmed_mean", TASKS, trim_number=0).weigh(seen())
    assert weights.tolist() == pytest.approx([1 / COUNT] * COUNT)


# --- over several steps ---------------------------------------------------------------------------------------------


def steps() -> list[Any]:
    return [
        seen_of(gradients(COUNT, seed=seed, spread=4.0), [loss + 0.2 * seed for loss in LOSSES], step=seed)
        for seed in range(5)
    ]


@pytest.mark.parametrize(
    ("name", "weighting", "statistic", "options"),
    [
        ("modo", lambda: agg.MoDoWeighting(gamma=0.2), "cross_gramian", {"gamma": 0.2}),
        ("excess_mtl", lambda: agg.ExcessMTLWeighting(0.3, 2), "jacobian",
         {"robust_step_size": 0.3, "n_warmup_steps": 2}),
        ("excess_mtl", lambda: agg.ExcessMTLWeighting(0.3), "jacobian", {"robust_step_size": 0.3}),
        ("pcd", lambda: agg.PCDWeighting(beta=0.5), "gramian", {"beta": 0.5}),
    ],
)  # fmt: skip
def test_what_is_kept_moves_as_in_torchjd(name: str, weighting: Any, statistic: str, options: dict[str, Any]) -> None:
    balance, theirs = made(name, TASKS, **options), weighting()
    for each in steps():
        assert torch.allclose(balance.weigh(each), theirs(getattr(each, statistic)), rtol=1e-6)


def test_sdmgrad_moves_as_in_torchjd_where_its_epsilon_does_not_count() -> None:
    balance, theirs = made("sdmgrad", TASKS, lr=0.5), agg.SDMGradWeighting(lr=0.5)
    for each in steps():
        assert torch.allclose(balance.weigh(each), theirs(each.cross_gramian), rtol=1e-5)


def test_gradvac_keeps_its_cosines_as_torchjd() -> None:
    balance, theirs = made("gradvac", TASKS), agg.GradVacWeighting()
    for each in steps():
        found = balance.weigh(each)
        with balance.drawing(each):  # type: ignore[attr-defined]
            assert torch.allclose(found, theirs(each.gramian / each.gramian.diagonal().mean()))


def test_cr_mogm_smooths_as_torchjd() -> None:
    balance = made("cr_mogm", TASKS, weighting="upgrad", alpha=0.6)
    theirs = agg.CRMOGMWeighting(agg.UPGradWeighting(projector=NnlsProjector()), alpha=0.6)
    for each in steps():
        assert torch.allclose(balance.weigh(each), theirs(each.gramian))
    plain = made("cr_mogm", TASKS, weighting="imtl_g", alpha=0.0)
    assert torch.allclose(plain.weigh(seen()), liked(agg.IMTLGWeighting()))


@pytest.mark.parametrize("name", ["uw", "imtl_l"])
def test_learned_numbers_move_as_with_torchs_adam(name: str) -> None:
    scalarizer: Any = {"uw": sca.UW, "imtl_l": sca.IMTLL}[name](COUNT)
    with torch.no_grad():
        parameter = next(scalarizer.parameters())
        parameter.data = parameter.data.double()
    adam = torch.optim.Adam(scalarizer.parameters(), lr=0.1)
    balance = made(name, TASKS, learning_rate=0.1)
    for each in steps():
        adam.zero_grad()
        assert torch.allclose(balance.weigh(each), slope(scalarizer, each.losses))
        adam.step()


def test_famo_learns_from_the_next_batch_as_torchjd_from_the_same_one() -> None:
    balance, theirs = made("famo", TASKS, lr=0.1), sca.FAMO(COUNT, lr=0.1).double()
    for number, each in enumerate(steps()):
        if number:
            theirs.update(each.losses)
        assert torch.allclose(balance.weigh(each), slope(theirs, each.losses))


def test_dwa_rolls_its_windows_as_torchjds_epochs() -> None:
    balance, theirs = made("dwa", TASKS, window=2, temperature=0.5), sca.DWA(0.5)
    for number, each in enumerate(steps()):
        if number and number % 2 == 0:
            theirs.step()
        assert torch.allclose(balance.weigh(each), slope(theirs, each.losses))
    assert not torch.allclose(balance.weigh(steps()[0]), torch.ones(COUNT, dtype=torch.float64))


# --- absent tasks ---------------------------------------------------------------------------------------------------


def test_a_task_that_comes_late_is_counted_by_its_own_steps() -> None:
    some, whole = [0, 2, 3, 4], steps()
    balance = made("pcd", TASKS, primary="intent", beta=0.9)
    for each in whole[:3]:
        part = seen_of(each.jacobian[some], tasks=[TASKS[place] for place in some])
        balance.weigh(part)
    balance.weigh(whole[3])
    means = balance.state()["means"]
    assert (means["slots"][1], means["intent"][1]) == (1, 4)
    length = float(whole[3].gramian[1, 1])
    assert means["slots"][0] / (1 - 0.9) == pytest.approx(length)


def test_pcd_weighs_equally_without_its_primary() -> None:
    part = seen_of(JACOBIAN[1:], tasks=TASKS[1:])
    assert made("pcd", TASKS, primary="intent").weigh(part).tolist() == [0.25] * 4


def test_pcd_takes_any_task_for_primary() -> None:
    order = [3, 0, 1, 2, 4]
    wanted = agg.PCDWeighting()(GRAMIAN[order][:, order])
    found = made("pcd", TASKS, primary="mood").weigh(seen())
    assert torch.allclose(found[order], wanted)


def test_krum_and_trimmed_mean_manage_with_few_tasks() -> None:
    part = seen_of(JACOBIAN[:2], tasks=TASKS[:2])
    assert made("krum", TASKS, n_byzantine=1).weigh(part).tolist() == [0.5, 0.5]
    found = made("trimmed_mean", TASKS, trim_number=2).combine(part)
    assert found is not None
    assert torch.allclose(found, JACOBIAN[:2].mean(0))


def test_excess_mtl_gives_a_late_task_its_own_beginning() -> None:
    some = [0, 1]
    balance = made("excess_mtl", TASKS[:3])
    for each in steps()[:2]:
        balance.weigh(seen_of(each.jacobian[some], tasks=TASKS[:2]))
    balance.weigh(seen_of(steps()[2].jacobian[:3], tasks=TASKS[:3]))
    row = steps()[2].jacobian[2]
    first = float((row**2 / (row**2 + 1e-7).sqrt()).sum())
    assert balance.state()["first"]["urgency"] == pytest.approx(first)


def test_excess_mtl_comes_back_in_the_type_of_its_gradients() -> None:
    single = JACOBIAN.float()
    balance, again = made("excess_mtl", TASKS), made("excess_mtl", TASKS)
    balance.weigh(seen_of(single))
    again.restore(balance.state())
    assert torch.equal(balance.weigh(seen_of(single)), again.weigh(seen_of(single)))


@pytest.mark.parametrize("name", ["modo", "sdmgrad", "excess_mtl", "pike", "group_dro"])
def test_shares_add_up_to_one_whoever_was_present(name: str) -> None:
    balance = made(name, TASKS)
    for number, each in enumerate(steps()):
        some = [[0, 1, 2, 3, 4], [0, 2], [1, 3, 4], [4], [2, 3]][number]
        before = dict(balance.state()["shares"])
        picked = [TASKS[place] for place in some]
        balance.weigh(seen_of(each.jacobian[some], [LOSSES[place] for place in some], tasks=picked))
        after = balance.state()["shares"]
        assert sum(after.values()) == pytest.approx(1.0)
        assert sum(after[task] for task in picked) == pytest.approx(sum(before[task] for task in picked))


def test_cr_mogm_saves_what_the_other_method_keeps() -> None:
    balance, again = (made("cr_mogm", TASKS, weighting="gradvac") for _ in range(2))
    for each in steps()[:3]:
        balance.weigh(each)
    again.restore(json.loads(json.dumps(balance.state())))
    assert torch.equal(balance.weigh(steps()[4]), again.weigh(steps()[4]))


@pytest.mark.parametrize("name", ["graddrop", "trimmed_mean", "excess_mtl"])
def test_gradients_in_single_precision_give_weights_in_double(name: str) -> None:
    single = seen_of(JACOBIAN.float(), LOSSES)
    weights, combined = made(name, TASKS).weigh(single), made(name, TASKS).combine(single)
    assert weights.dtype == torch.float64
    assert combined is None or combined.dtype == torch.float32
    if name != "graddrop":  # draws other random numbers in another precision
        assert torch.allclose(weights, made(name, TASKS).weigh(seen_of(JACOBIAN, LOSSES)), atol=1e-3)


def test_imtl_g_is_turned_around_where_it_would_climb() -> None:
    found = None
    for seed in range(300):  # lengths that differ much make the sum of its weights negative now and then
        jacobian = gradients(6, seed=seed, spread=1000.0)
        gramian = jacobian @ jacobian.T
        theirs = agg.IMTLGWeighting()(gramian)
        ours = made("imtl_g", NAMES[:6]).weigh(seen_of(jacobian))
        assert (gramian @ ours).min() > 0
        if (gramian @ theirs).max() < 0:
            found = torch.allclose(ours, -theirs, rtol=1e-6)
    assert found, "no draw had torchjd's weights climb"


def test_mgda_is_near_its_minimum_for_many_tasks() -> None:
    for seed in range(10):
        jacobian = gradients(8, seed=seed, spread=100.0)
        combined = jacobian.T @ made("mgda", NAMES).weigh(seen_of(jacobian))
        # Every gradient's part along the shortest vector of the hull is at least as long as that vector.
        assert (jacobian @ combined).min() > 0.9 * (combined @ combined)


def test_stch_begins_with_equal_weights() -> None:
    balance = made("stch", TASKS, warmup_steps=3)
    assert balance.weigh(seen(step=2)).tolist() == pytest.approx([0.2] * 5)
    assert balance.weigh(seen(step=3)).max() > 0.5


@pytest.mark.parametrize("name", ["upgrad", "dualproj", "aligned_mtl"])
def test_a_preferred_task_gets_what_it_is_due_whoever_is_present(name: str) -> None:
    apart = torch.eye(COUNT, 12, dtype=torch.float64)
    whole = made(name, TASKS).weigh(seen_of(apart, preference=LIKING))
    assert whole.tolist() == pytest.approx(LIKING)
    some = [1, 2, 4]
    part = seen_of(apart[some], tasks=[TASKS[place] for place in some], preference=[LIKING[place] for place in some])
    found = made(name, TASKS).weigh(part) * len(some) / COUNT
    assert found.tolist() == pytest.approx([LIKING[place] for place in some])


def test_preference_moves_only_what_takes_it() -> None:
    for name in BALANCES.names():
        plain = made(name, TASKS).weigh(seen_of(JACOBIAN, LOSSES))
        liking = made(name, TASKS).weigh(seen())
        moved = not torch.allclose(plain, liking)
        assert moved == BALANCES.load(name).takes_preference, name
