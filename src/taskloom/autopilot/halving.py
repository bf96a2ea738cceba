"""How remedies are screened: all of them for a few steps, the better ones for more, and the best to the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

QUARTER = 0.25
"""Share of the steps at the last rung of a screening."""

FACTOR = 4
"""How many times fewer steps the first rung has than the last; so many times fewer arms reach that one."""

KEPT = 2
"""How many arms are left at the end of a screening."""

MANY = 4
"""With fewer arms than this a further rung costs as much as it saves."""

LEAST_STEPS = 20
"""With fewer steps than this a rung would tell noise alone."""


@dataclass(frozen=True)
class Rung:
    """One round of a screening.

    Attributes:
        share: of a whole run's steps; every arm begins anew, since its schedule belongs to its length.
        kept: how many arms go on.
    """

    share: float
    kept: int


def rungs(arms: int, steps: int) -> list[Rung]:
    """Plan a screening by successive halving, whose last rung has a quarter of the steps.

    There is a rung before it only where it saves anything: where `MANY` arms begin, and it has `LEAST_STEPS` at least.

    Args:
        arms: remedies that are to be screened.
        steps: of a whole run.

    Paper: Jamieson, Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter Optimization, 2016,
        arXiv:1502.07943.
    """
    last, first = Rung(QUARTER, min(KEPT, arms)), QUARTER / FACTOR
    if arms < MANY or first * steps < LEAST_STEPS:
        return [last]
    return [Rung(first, max(KEPT, -(-arms // FACTOR))), last]


def cost_of_rungs(planned: Sequence[Rung], arms: int) -> float:
    """Give what a screening costs at most, in units: the joint run takes part in each rung, to be compared with.

    Args:
        planned: its rungs.
        arms: that begin; each costs one unit for a whole run.
    """
    total, left = 0.0, arms
    for rung in planned:
        total += rung.share * (left + 1)
        left = rung.kept
    return total


def survivors(reached: Mapping[str, float], reference: str, kept: int) -> list[str]:
    """Give the arms that beat the reference at a rung, the best first.

    Args:
        reached: arm -> composite score, the reference's too; all with the same seed, so that draws are common.
        reference: the joint run.
        kept: how many go on at most.
    """
    better = [name for name in reached if name != reference and reached[name] > reached[reference]]
    return sorted(better, key=lambda name: -reached[name])[:kept]


def finalists(costs: Sequence[float], others: float, left: float) -> int:
    """Give how many arms are trained to the end: all, or only the best where that pays for one more paired seed.

    Args:
        costs: [arm] of a whole run, in units, the best arm first.
        others: what a further seed of each task alone and of the joint run costs.
        left: units of the budget.
    """

    def pays(count: int) -> bool:
        return 2 * sum(costs[:count]) + others <= left + 1e-9

    if len(costs) > 1 and not pays(len(costs)) and pays(1):
        return 1
    return len(costs)
