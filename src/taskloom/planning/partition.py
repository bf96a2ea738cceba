"""The best way to part tasks into groups that train together, from what pairs of them do for each other."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LIMIT_EXACT = 14
"""Up to so many tasks every way to part them is weighed; beyond, groups are merged and mended step by step."""

Groups = tuple[tuple[int, ...], ...]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Partition:
    """Tasks parted into groups.

    Attributes:
        groups: numbers of tasks, each once.
        gains: [task] what training in its group does for each.
        value: weighted mean of the gains.
    """

    groups: Groups
    gains: Floats
    value: float


def gains_of(groups: Groups, effect: Floats) -> Floats:
    """Foretell what training in groups does for each task: the effects of the others in its group, over the root of n.

    Formula: ``gain_j(S) = sum_{i in S, i != j} effect_ij / sqrt(|S| - 1)``, and 0 for a task alone; what is not known
    counts as 0. Effects neither add up, since companions teach and ask for partly the same, nor are they as good as one
    companion's; of the sum, the mean and this, this foretold best what groups measured (`benchmarks/plans.py`).

    Args:
        groups: each task once.
        effect: [source, target].

    Returns:
        [task].

    Differs: from the paper, which takes the mean.

    Paper: Standley et al., Which Tasks Should Be Learned Together in Multi-task Learning?, 2020, arXiv:1905.07553.
    """
    known, gains = np.nan_to_num(effect), np.zeros(len(effect))
    for group in groups:
        for target in group:
            others = [source for source in group if source != target]
            gains[target] = known[others, target].sum() / np.sqrt(max(len(others), 1))
    return gains


def value_of(groups: Groups, effect: Floats, weights: Floats) -> float:
    """Give the weighted mean of the tasks' gains."""
    return float(weights @ gains_of(groups, effect) / weights.sum())


def best_partitions(effect: Floats, weights: Floats) -> list[Partition]:
    """Find the best way to part tasks into K groups, for every K.

    Args:
        effect: [source, target].
        weights: [task] how much each counts.

    Returns:
        [K - 1] for K = 1 to T: exact for `LIMIT_EXACT` tasks or fewer, beyond as good as merging groups and moving
        single tasks gets.
    """
    tasks = len(effect)
    held = _exact(effect, weights) if tasks <= LIMIT_EXACT else _merged(effect, weights)
    return [Partition(groups, gains_of(groups, effect), value_of(groups, effect, weights)) for groups in held]


def _exact(effect: Floats, weights: Floats) -> list[Groups]:
    """Weigh every way: best[k, set] is the best way to part a set into k groups, one of which holds its first task."""
    tasks = len(effect)
    own = _values_of_sets(effect, weights)
    best = np.full((tasks + 1, 1 << tasks), -np.inf)
    taken = np.zeros((tasks + 1, 1 << tasks), dtype=np.int64)
    best[0, 0] = 0.0
    for whole in range(1, 1 << tasks):
        first = whole & -whole
        inner = np.zeros(1, dtype=np.int64)
        rest = whole ^ first
        while rest:
            bit = rest & -rest
            inner = np.concatenate([inner, inner | bit])
            rest ^= bit
        groups = inner | first
        reached = best[:-1, whole ^ groups] + own[groups]  # [k, group]
        chosen = reached.argmax(axis=1)
        best[1:, whole] = reached[np.arange(tasks), chosen]
        taken[1:, whole] = groups[chosen]
    found = []
    for count in range(1, tasks + 1):
        remaining, parts = (1 << tasks) - 1, []
        for left in range(count, 0, -1):
            group = int(taken[left, remaining])
            parts.append(tuple(task for task in range(tasks) if group >> task & 1))
            remaining ^= group
        found.append(tuple(sorted(parts)))
    return found


def _values_of_sets(effect: Floats, weights: Floats) -> Floats:
    """Give the weighted sum of gains of every set of tasks trained together: [set]."""
    tasks = len(effect)
    within = (np.arange(1 << tasks)[:, None] >> np.arange(tasks)) & 1  # [set, task]
    known = np.nan_to_num(effect)
    np.fill_diagonal(known, 0.0)
    companions = np.maximum(within.sum(axis=1) - 1, 1)
    found: Floats = (within * (within @ known) * weights).sum(axis=1) / np.sqrt(companions)
    return found


def _merged(effect: Floats, weights: Floats) -> list[Groups]:
    """Merge the two groups that gain most, down to one, and mend each number of groups by moves of single tasks."""
    groups: Groups = tuple((task,) for task in range(len(effect)))
    found = [groups]
    while len(groups) > 1:
        options = (_joined(groups, one, other) for one, other in itertools.combinations(range(len(groups)), 2))
        groups = max(options, key=lambda each: value_of(each, effect, weights))
        groups = _moved(groups, effect, weights)
        found.append(groups)
    return [tuple(sorted(each)) for each in reversed(found)]


def _joined(groups: Groups, one: int, other: int) -> Groups:
    kept = [group for place, group in enumerate(groups) if place not in {one, other}]
    return (*kept, tuple(sorted(groups[one] + groups[other])))


def _moved(groups: Groups, effect: Floats, weights: Floats) -> Groups:
    """Move single tasks to other groups, and swap pairs, while that gains anything; no group is emptied."""
    value = value_of(groups, effect, weights)
    while True:
        better = max(_neighbours(groups), key=lambda each: value_of(each, effect, weights), default=groups)
        reached = value_of(better, effect, weights)
        if reached <= value + 1e-12:
            return groups
        groups, value = better, reached


def _neighbours(groups: Groups) -> list[Groups]:
    """Give every way that is one move or one swap away."""
    found = []
    for one, other in itertools.permutations(range(len(groups)), 2):
        for task in groups[one]:
            if len(groups[one]) > 1:
                found.append(_changed(groups, one, other, {task}, set()))
            if one < other:
                found += [_changed(groups, one, other, {task}, {back}) for back in groups[other]]
    return found


def _changed(groups: Groups, one: int, other: int, out: set[int], back: set[int]) -> Groups:
    held = list(groups)
    held[one] = tuple(sorted(set(groups[one]) - out | back))
    held[other] = tuple(sorted(set(groups[other]) - back | out))
    return tuple(held)


def drawn_effects(effect: Floats, low: Floats, high: Floats, draws: int, seed: int = 0) -> Floats:
    """Draw effects as their intervals say they could be: [draw, source, target], each a normal of its own.

    Args:
        effect: [source, target].
        low: lower ends of 95 % intervals; NaN draws the effect itself.
        high: upper ends.
        draws: how many.
        seed: of the draws.
    """
    deviation = np.nan_to_num(high - low) / (2 * 1.96)
    noise = np.random.default_rng(seed).normal(size=(draws, *effect.shape))
    found: Floats = np.nan_to_num(effect) + noise * deviation
    return found


def optimism(effects: Floats, effect: Floats, weights: Floats) -> Floats:
    """Say by how much the best of many groupings looks better than it is, since it was chosen by its noise too.

    Args:
        effects: [draw, source, target] as effects could be.
        effect: [source, target] as they were found, which the draws were made around.
        weights: [task].

    Returns:
        [K - 1] mean over draws of what the best grouping of a draw has there more than by the effects as found.

    Paper: Efron, Estimating the Error Rate of a Prediction Rule, 1983, doi:10.1080/01621459.1983.10477973.
    """
    leads = [
        [each.value - value_of(each.groups, effect, weights) for each in best_partitions(drawn, weights)]
        for drawn in effects
    ]
    found: Floats = np.array(leads).mean(axis=0)
    return found


def simplest_within_noise(values: Floats, samples: Floats) -> int:
    """Choose the plan of the fewest groups that is not told from the best one.

    Args:
        values: [plan] by number of groups.
        samples: [draw, plan] what they could be.

    Returns:
        the place of the chosen one.
    """
    best = int(np.argmax(values))
    for place in range(best):
        lead = samples[:, best] - samples[:, place]
        if np.quantile(lead, 0.025) <= 0 and lead.std() > 0:
            return place
    return best
