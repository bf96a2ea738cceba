"""Draw by a bandit that is paid in losses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from taskloom.mixture import Mixture, Seen, shares
from taskloom.mixture._signals import filled, move, numbers, softmax


class OnlineDataMixing(Mixture):
    """Draw by EXP3, a bandit that takes a task's training loss for its reward and explores less and less.

    Prefer it for many sources of one kind of loss, as in pretraining, where it was made. Do not where labels of a task
    are noisy: a loss that stays high is paid for ever; nor in runs of few windows: shares are uniform for the first
    T ln T windows.

    Formula: after w windows, with T tasks and R_t the running mean of the task's rewards::

        q_t   = (1 - T e(w + 1)) softmax_t(e(w) R_t) + e(w + 1)
        e(w)  = min(1 / T, sqrt(ln T / (T w))), and e(0) = 1 / T
        R_t <-  smoothing R_t + (1 - smoothing) loss_t / share_t, where the window drew the task

    The division by the share of the window's rows that the task had is the importance weight: a task that is drawn
    seldom is heard seldom, and so each time the louder. As e falls, shares come back to even in a long run.

    Options:
        smoothing: share of the past windows in the running mean of the rewards (0.9).

    State: each task's running mean, and the number of windows that showed a loss.

    Differs: a window of steps is one turn of the bandit; the share is that of the rows really drawn, which a floor or a
    limit of repetitions has had its say in; a running mean begins at its first reward, where the paper's begins at 0,
    and a task without one yet counts as the mean of the others, so that one that enters late is not held back.

    Paper: Albalak et al., Efficient Online Data Mixing For Language Model Pre-Training, 2023, arXiv:2312.02406.

    >>> mixture = OnlineDataMixing()
    >>> for step in range(100):
    ...     mixture.observe(Seen(step=step, losses={"a": 2.0, "b": 0.5}, rows={"a": 64, "b": 64}))
    >>> {task: round(share, 4) for task, share in mixture.probabilities({"a": 9, "b": 9}).items()}
    {'a': 0.5389, 'b': 0.4611}
    """

    pace = "window"

    def __init__(self, *, smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.9) -> None:
        self.smoothing = smoothing
        self.windows = 0
        self.rewards: dict[str, float] = {}

    def probabilities(self, sizes: Mapping[str, int], step: int = 0, steps: int = 1, rows: int = 1) -> dict[str, float]:
        """Give each task the bandit's share; see the class."""
        rate, sharpness = _rate(len(sizes), self.windows + 1), _rate(len(sizes), self.windows)
        picked = softmax({task: sharpness * reward for task, reward in filled(self.rewards, sizes).items()})
        exploited = max(0.0, 1 - len(sizes) * rate)
        return shares({task: exploited * share + rate for task, share in picked.items()})

    def observe(self, seen: Seen) -> None:
        """Pay the tasks that a window drew."""
        drawn = sum(seen.rows.values())
        rewards = {
            task: loss * drawn / seen.rows[task] for task, loss in numbers(seen.losses).items() if seen.rows.get(task)
        }
        if rewards:
            self.windows += 1
            move(self.rewards, rewards, self.smoothing)

    def state(self) -> dict[str, Any]:
        """Give the number of windows, and the running means by task."""
        return {"windows": self.windows, "rewards": dict(self.rewards)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take both back."""
        self.windows, self.rewards = state["windows"], dict(state["rewards"])


def _rate(tasks: int, window: int) -> float:
    """Give what each task is explored with in a window, from 1; uniform before."""
    even = 1 / tasks
    return min(even, math.sqrt(math.log(tasks) / (tasks * window))) if window else even
