"""Draw tasks more often whose loss is moving."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from taskloom.errors import ConfigError, Fault
from taskloom.mixture import Mixture, Seen
from taskloom.mixture._signals import explored, filled, move, numbers, proportional

LEAST = 1e-12
"""A first loss that is smaller counts as this, so that it can be divided by."""

RESOLUTION = 1e-9
"""Progress below is rounding, and counts as none."""


class LearningProgress(Mixture):
    """Draw tasks more often whose training loss is moving, down or up: what is learned now, and what is forgotten.

    Prefer it where some tasks are done or cannot be learned: neither moves, and neither is drawn for it. Do not where
    windows are small: what moves most then is noise; make `update_steps` larger.

    Formula: ``q_t = (1 - exploration) p_t / sum_s p_s + exploration / T`` with T tasks and ``p_t = |f_t - s_t|``, where
    f_t and s_t are a fast and a slow running mean of the task's training losses over the windows, each divided by the
    task's loss in the first window. Uniform while nothing has moved, and so before the second window.

    Options:
        fast: share of the past windows in the fast mean (0.5).
        slow: the same of the slow mean, above `fast` (0.9: it looks back on about ten windows).
        exploration: share of the draws that is spread evenly, above 0 (0.1).

    State: each task's first loss and its two running means. A task without a loss yet counts as the mean of the others.

    Errors: `ConfigError` where `fast` is not below `slow`.

    Differs: progress is measured on training losses, where Matiisen et al. take scores of a validation set; shares are
    proportional to it, where Graves et al. draw by a bandit with rescaled rewards.

    Paper: Graves et al., Automated Curriculum Learning for Neural Networks, 2017, arXiv:1704.03003; Matiisen et al.,
    Teacher-Student Curriculum Learning, 2017, arXiv:1707.00183.

    >>> mixture = LearningProgress(exploration=0.2)
    >>> for losses in ({"a": 2.0, "b": 1.0}, {"a": 1.0, "b": 1.0}):
    ...     mixture.observe(Seen(step=20, losses=losses, rows={"a": 64, "b": 64}))
    >>> {task: round(share, 4) for task, share in mixture.probabilities({"a": 9, "b": 9}).items()}
    {'a': 0.9, 'b': 0.1}
    """

    pace = "window"

    def __init__(
        self,
        *,
        fast: Annotated[float, Field(ge=0, lt=1)] = 0.5,
        slow: Annotated[float, Field(ge=0, lt=1)] = 0.9,
        exploration: Annotated[float, Field(gt=0, le=1)] = 0.1,
    ) -> None:
        if fast >= slow:
            raise ConfigError(Fault("mixture.fast", f"be below `mixture.slow`, which is {slow}", f"`{fast}`"))
        self.fast = fast
        self.slow = slow
        self.exploration = exploration
        self.first: dict[str, float] = {}
        self.fast_means: dict[str, float] = {}
        self.slow_means: dict[str, float] = {}

    def probabilities(self, sizes: Mapping[str, int], step: int = 0, steps: int = 1, rows: int = 1) -> dict[str, float]:
        """Give each task a share by how far its means are apart; see the class."""
        apart = {
            task: abs(fast - self.slow_means[task]) / max(abs(self.first[task]), LEAST)
            for task, fast in self.fast_means.items()
        }
        progress = {task: moved if moved > RESOLUTION else 0.0 for task, moved in apart.items()}
        return explored(proportional(filled(progress, sizes)), self.exploration)

    def observe(self, seen: Seen) -> None:
        """Move both running means of the tasks that a window drew."""
        losses = numbers(seen.losses)
        self.first = losses | self.first
        move(self.fast_means, losses, self.fast)
        move(self.slow_means, losses, self.slow)

    def state(self) -> dict[str, Any]:
        """Give the first losses and the running means by task."""
        return {"first": dict(self.first), "fast": dict(self.fast_means), "slow": dict(self.slow_means)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take them back."""
        self.first = dict(state["first"])
        self.fast_means, self.slow_means = dict(state["fast"]), dict(state["slow"])
