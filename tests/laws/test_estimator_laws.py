"""Laws that hold for every estimator of transfer; a new file in `taskloom/affinity/estimators` joins by itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from made_probes import drawn_probes, made_probe
from taskloom.affinity.estimators import ESTIMATORS

NAMES = ESTIMATORS.names()


@pytest.mark.parametrize("name", NAMES)
def test_effects_are_finite_but_for_what_a_task_does_for_itself(name: str) -> None:
    found = ESTIMATORS.load(name)().effect(drawn_probes(4, 3))
    assert found.shape == (4, 4)
    assert np.isnan(np.diagonal(found)).all()
    assert np.isfinite(found[~np.eye(4, dtype=bool)]).all()


@pytest.mark.parametrize("name", NAMES)
def test_another_order_of_tasks_gives_the_same_effects(name: str) -> None:
    probes, order = drawn_probes(4, 3), np.array([2, 0, 3, 1])
    turned = [
        replace(
            each,
            losses=each.losses[:, order],
            plain=each.plain[:, order],
            scaled=each.scaled[:, order],
            lookahead=None if each.lookahead is None else each.lookahead[np.ix_(order, order)],
        )
        for each in probes
    ]
    estimator = ESTIMATORS.load(name)()
    np.testing.assert_allclose(
        estimator.effect(turned), estimator.effect(probes)[np.ix_(order, order)], rtol=1e-6, atol=1e-9
    )


@pytest.mark.parametrize("name", [each for each in NAMES if each != "lookahead"])
def test_a_source_that_turns_round_hurts_where_it_helped(name: str) -> None:
    generator = np.random.default_rng(0)
    centre = generator.normal(size=40)
    effects = []
    for sign in (1.0, -1.0):
        probes = []
        for step in range(6):
            noise = 0.1 * generator.normal(size=(2, 2, 40))
            gradients = noise + np.stack([sign * centre, centre])
            probes.append(made_probe(gradients[0], gradients[1], step=step))
        effects.append(ESTIMATORS.load(name)().effect(probes)[0, 1])
    assert effects[0] > effects[1]
    assert effects[1] < 0


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_made_of_gradients_of_nought(name: str) -> None:
    zero = np.zeros((3, 10))
    found = ESTIMATORS.load(name)().effect([made_probe(zero, zero, lookahead=np.zeros((3, 3)))])
    assert (found[~np.eye(3, dtype=bool)] == 0).all()
