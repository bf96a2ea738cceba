"""Draw all groups alike."""

from __future__ import annotations

from taskloom.mitigation import Groups, Mitigation


class BalancedSampling(Mitigation):
    """Draw the rows of all groups, or of all groups and labels, alike often within what the task is drawn.

    Prefer it where a group is rare: with labels it reached what costlier methods do on the worst group in the study
    below. Do not where a group has a handful of rows, which are then repeated until they are learned by heart; the
    task's `max_epochs` counts all its rows and does not keep a group from that.

    Formula: of the task's draws 0, 1, 2, ..., each k in a row hold every one of the k strata once, in an order drawn
    anew; within a stratum rows are drawn without replacement, again and again.

    Options:
        by_label: whether strata are groups and labels (true), so that labels are alike often in each group, or groups
            alone. Tasks whose rows have no single label have groups alone.

    Paper: Idrissi et al., Simple data balancing achieves competitive worst-group-accuracy, CLeaR 2022,
    arXiv:2110.14503.

    >>> method = BalancedSampling()
    >>> method.begin(Groups(["a", "a", "b"], ["yes", "no", "no"]))
    >>> method.strata()
    ['a, yes', 'a, no', 'b, no']
    """

    draws = True

    def __init__(self, *, by_label: bool = True) -> None:
        self.by_label = by_label

    def begin(self, groups: Groups) -> None:
        """Note the strata of the rows."""
        self._strata = groups.strata(self.by_label)

    def strata(self) -> list[str]:
        """Give the stratum of each training row: [example]."""
        return self._strata
