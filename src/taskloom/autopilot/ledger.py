"""What was tried and what it cost, in units of training every task alone once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Entry:
    """One thing that was tried.

    Attributes:
        step: of the procedure: "alone", "joint", "screen", "train" or "confirm".
        arm: its name.
        seed: of its runs.
        cost: in units.
        result: what came of it, in words.
    """

    step: str
    arm: str
    seed: int
    cost: float
    result: str = ""


@dataclass
class Ledger:
    """A budget and what is left of it.

    Attributes:
        units: that may be spent.
        entries: what was tried, in order.
    """

    units: float
    entries: list[Entry] = field(default_factory=list)

    @property
    def spent(self) -> float:
        """Units that are gone."""
        return sum(each.cost for each in self.entries)

    def affords(self, cost: float) -> bool:
        """Say whether so much is left."""
        return self.spent + cost <= self.units + 1e-9

    def note(self, step: str, arm: str, seed: int, cost: float, result: str = "") -> None:
        """Spend, and say on what."""
        self.entries.append(Entry(step, arm, seed, cost, result))

    def annotate(self, result: str) -> None:
        """Say what came of what was tried last."""
        self.entries[-1] = replace(self.entries[-1], result=result)

    def as_rows(self) -> list[dict[str, Any]]:
        """Give the entries ready for JSON."""
        return [asdict(each) for each in self.entries]


def cost_of(groups: Sequence[Sequence[str]], rows: Mapping[str, float], share: float, known: set[str]) -> float:
    """Give what an arm costs, in units: rows of its tasks by those of all tasks, less what is trained already.

    Args:
        groups: the arm's.
        rows: task -> rows of a whole run.
        share: of the steps.
        known: tasks whose single runs are there at this seed and share.
    """
    drawn = sum(rows[name] for group in groups for name in group if not (len(group) == 1 and name in known))
    return share * drawn / sum(rows.values())
