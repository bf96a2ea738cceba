"""Lower the loss of the worst group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from taskloom.mitigation import Groups, Mitigation, Numbers


class GroupDro(Mitigation):
    """Weigh groups by their losses, step by step, so that the worst one comes to lead.

    Prefer it where the worst group decides, and neither weights nor draws that are fixed beforehand close the gap. Do
    not where labels of a group are noisy, whose loss stays high whatever is learned; nor without weight decay or early
    stopping, as the paper shows: a model that fits every row has no worst group left to see.

    Formula: ``q_g <- q_g exp(step_size (L_g + adjustment / sqrt(n_g))) / sum``, from 1/G, after each step, with L_g the
    mean loss of the group's rows in it (of a group without a row, the whole bracket is 0). In the next step the loss of
    a row of g is multiplied with ``q_g n / n_g``, n_g of n training rows being of g, so that the mean over rows drawn
    alike is ``sum_g q_g L_g`` whatever a step happens to hold.

    Options:
        step_size: above 0; 0.01 is the paper's, for thousands of steps; short runs need more (0.1).
        adjustment: C of the paper, how much more a small group's loss counts (0).
        by_label: whether groups are those of the column and the label together (true), as in the paper, or those of
            the column alone. Tasks whose rows have no single label have the column's alone.

    State: q, kept in checkpoints.

    Differs: the paper weighs a step by the q that the step itself moves; here it is the q of the steps before, so that
    a step may be cut into any chunks. The balancing method of the same name does this to whole tasks.

    Paper: Sagawa et al., Distributionally Robust Neural Networks for Group Shifts: On the Importance of Regularization
    for Worst-Case Generalization, 2019, arXiv:1911.08731.

    >>> method = GroupDro(step_size=1.0)
    >>> method.begin(Groups(["a", "a", "a", "b"]))
    >>> method.note([0, 3], [1.0, 2.0])
    >>> method.close(method.sums())
    >>> {group: round(q, 4) for group, q in method.shown().items()}
    {'a': 0.2689, 'b': 0.7311}
    >>> method.factors([0, 3]).round(4).tolist()
    [0.3586, 2.9242]
    """

    def __init__(
        self,
        *,
        step_size: Annotated[float, Field(gt=0)] = 0.01,
        adjustment: Annotated[float, Field(ge=0)] = 0.0,
        by_label: bool = True,
    ) -> None:
        self.step_size = step_size
        self.adjustment = adjustment
        self.by_label = by_label

    def begin(self, groups: Groups) -> None:
        """Count the groups, and begin with all alike."""
        strata = groups.strata(self.by_label)
        counts = Counter(strata)
        self.names = sorted(counts)
        places = {name: place for place, name in enumerate(self.names)}
        self.place = np.array([places[stratum] for stratum in strata])
        self.sizes = np.array([counts[name] for name in self.names], dtype=float)
        self.q = np.full(len(self.names), 1 / len(self.names))
        self.forget()

    def factors(self, rows: Sequence[int]) -> Numbers:
        """Give what the losses of some rows are multiplied with: [row]."""
        factors: Numbers = (self.q * self.sizes.sum() / self.sizes)[self.place[list(rows)]]
        return factors

    def note(self, rows: Sequence[int], losses: Sequence[float]) -> None:
        """Add losses to those of their groups."""
        place, size = self.place[list(rows)], len(self.names)
        self._noted += [np.bincount(place, losses, size), np.bincount(place, minlength=size)]

    def forget(self) -> None:
        """Forget the losses of the step before."""
        self._noted = np.zeros((2, len(self.names)))

    def sums(self) -> Numbers:
        """Give summed losses and numbers of rows: [2, group]."""
        return self._noted

    def close(self, sums: Numbers) -> None:
        """Move q by the mean losses of the step; see the class."""
        seen = sums[1] > 0
        bracket = np.where(seen, sums[0] / np.maximum(sums[1], 1) + self.adjustment / np.sqrt(self.sizes), 0.0)
        if np.isfinite(bracket).all():
            moved = self.q * np.exp(self.step_size * (bracket - bracket.max()))
            self.q = moved / moved.sum()

    def shown(self) -> dict[str, float]:
        """Give q by group."""
        return dict(zip(self.names, self.q.tolist(), strict=True))

    def state(self) -> dict[str, Any]:
        """Give q."""
        return {"q": self.q.tolist()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take q back."""
        self.q = np.array(state["q"])
