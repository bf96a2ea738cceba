"""Each estimator against its formula, written out another way."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize

from made_probes import drawn_probes, made_probe
from taskloom.affinity.estimators.adam import Adam
from taskloom.affinity.estimators.cosine import Cosine
from taskloom.affinity.estimators.linearised import Linearised
from taskloom.affinity.estimators.lookahead import Lookahead
from taskloom.affinity.estimators.mean_gradient import MeanGradient
from taskloom.affinity.estimators.pair_progress import PairProgress

PAIRS = [(source, target) for source in range(3) for target in range(3) if source != target]


def test_adam_is_the_mean_first_order_change_of_the_loss() -> None:
    probes = drawn_probes(3, 5)
    found = Adam().effect(probes)
    for i, j in PAIRS:
        each = [p.rate * float(p.scaled[0, i] @ p.scaled[1, j]) / float(p.losses[1, j]) for p in probes]
        assert found[i, j] == pytest.approx(np.mean(each), rel=1e-5)


def test_cosine_is_the_mean_cosine() -> None:
    probes = drawn_probes(3, 4)
    found = Cosine().effect(probes)
    for i, j in PAIRS:
        each = [
            float(p.plain[0, i] @ p.plain[1, j]) / np.linalg.norm(p.plain[0, i]) / np.linalg.norm(p.plain[1, j])
            for p in probes
        ]
        assert found[i, j] == pytest.approx(np.mean(each), rel=1e-5)


def test_mean_gradients_tell_what_single_probes_cannot() -> None:
    shared = np.zeros(400)
    shared[0] = 1.0
    generator = np.random.default_rng(0)
    probes = []
    for step in range(200):
        noise = generator.normal(size=(2, 3, 400))
        gradients = noise + np.stack([shared, shared, -shared])
        probes.append(made_probe(gradients[0], gradients[1], step=step))
    found, single = MeanGradient().effect(probes), Cosine().effect(probes)
    assert found[0, 1] > 0.1 > single[0, 1]
    assert found[0, 2] < -0.1 < single[0, 2]


def test_a_pair_of_equal_tasks_makes_root_two_faster_progress_where_noise_is_independent() -> None:
    generator = np.random.default_rng(1)
    centre = np.zeros(300)
    centre[0] = 2.0
    probes = []
    for step in range(400):
        noise = generator.normal(size=(2, 2, 300))
        probes.append(made_probe(noise[0] + centre, noise[1] + centre, step=step))
    assert PairProgress().effect(probes)[0, 1] == pytest.approx(2**0.5 - 1, abs=0.08)


def test_a_loud_source_without_direction_drowns_a_quiet_target() -> None:
    generator = np.random.default_rng(2)
    centre = np.zeros(300)
    centre[0] = 3.0
    probes = []
    for step in range(100):
        quiet = centre + 0.1 * generator.normal(size=(2, 300))
        loud = 30 * generator.normal(size=(2, 300))
        probes.append(made_probe([quiet[0], loud[0]], [quiet[1], loud[1]], step=step))
    found = PairProgress().effect(probes)
    assert found[1, 0] < -0.9
    assert abs(Cosine().effect(probes)[1, 0]) < 0.05


def test_lookahead_is_the_mean_of_what_was_seen() -> None:
    probes = drawn_probes(3, 4)
    found = Lookahead().effect(probes)
    for i, j in PAIRS:
        assert found[i, j] == pytest.approx(np.mean([p.lookahead[i, j] for p in probes if p.lookahead is not None]))
    assert not Lookahead().reads(drawn_probes(3, 2, ahead=False))


def test_the_linearised_model_moves_where_a_solver_moves_it() -> None:
    probes = drawn_probes(3, 4, width=6)
    train = np.stack([p.scaled[0] for p in probes]).astype(float)
    held_out = np.stack([p.scaled[1] for p in probes]).astype(float).mean(axis=0)
    losses = np.stack([p.losses[1] for p in probes]).astype(float).mean(axis=0)
    fisher = np.einsum("psk,psl->skl", train, train) / len(probes)
    damping = float(np.trace(fisher.sum(axis=0))) / (3 * len(probes))

    def change(kept: list[int]) -> np.ndarray:
        def joint(delta: np.ndarray) -> float:
            linear = sum(float(train[:, t].mean(axis=0) @ delta) for t in kept)
            curved = sum(float(delta @ fisher[t] @ delta) for t in kept) + damping * float(delta @ delta)
            return linear + curved / 2

        delta = optimize.minimize(joint, np.zeros(6), tol=1e-12).x
        return held_out @ delta + np.einsum("k,tkl,l->t", delta, fisher, delta) / 2

    found = Linearised().effect(probes)
    for i, j in PAIRS:
        wanted = (change([t for t in range(3) if t != i])[j] - change([0, 1, 2])[j]) / losses[j]
        assert found[i, j] == pytest.approx(wanted, abs=1e-4)


def test_strong_damping_brings_the_linearised_model_to_first_order() -> None:
    probes = drawn_probes(3, 4)
    found = Linearised(damping=1e6).effect(probes)
    train = np.stack([p.scaled[0] for p in probes]).astype(float).mean(axis=0)
    held_out = np.stack([p.scaled[1] for p in probes]).astype(float).mean(axis=0)
    losses = np.stack([p.losses[1] for p in probes]).astype(float).mean(axis=0)
    first = train @ held_out.T / losses
    ratios = [found[pair] / first[pair] for pair in PAIRS]
    assert np.std(ratios) / abs(np.mean(ratios)) < 1e-3
