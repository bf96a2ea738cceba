"""Weigh rows so that label and group are independent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from taskloom.mitigation import Groups, Mitigation, Numbers


class Reweighing(Mitigation):
    """Weigh each row's loss so that label and group are independent in the weighted training rows.

    Prefer it first where labels are unevenly spread over the groups: it has no setting, costs nothing, and leaves each
    group and each label the weight that it had. Do not where a cell of group and label is nearly empty, whose few rows
    then get large weights and are learned by heart; nor where groups have the same labels alike and the model still
    serves one of them worse (`balanced_sampling`, `group_dro`).

    Formula: row i with group g and label y has the weight ``n_g n_y / (n n_gy)``, of the counts of rows with the group,
    with the label, with both, and of all. Weights are 1 on average over the rows, where each group has each label.

    Errors: `ConfigError` for a task whose rows have no single label.

    Paper: Kamiran and Calders, Data preprocessing techniques for classification without discrimination, 2012,
    doi:10.1007/s10115-011-0463-8.

    >>> method = Reweighing()
    >>> method.begin(Groups(["a", "a", "a", "b"], ["yes", "yes", "no", "no"]))
    >>> method.factors([0, 1, 2, 3]).tolist()
    [0.75, 0.75, 1.5, 0.5]
    """

    needs_label = True

    def begin(self, groups: Groups) -> None:
        """Count groups, labels and both, and weigh the rows."""
        labels = groups.label or []
        pairs = list(zip(groups.group, labels, strict=True))
        by_group, by_label, both = Counter(groups.group), Counter(labels), Counter(pairs)
        self.weights = np.array([by_group[g] * by_label[y] / (len(pairs) * both[g, y]) for g, y in pairs])

    def factors(self, rows: Sequence[int]) -> Numbers:
        """Give the weights of some rows: [row]."""
        weights: Numbers = self.weights[list(rows)]
        return weights
