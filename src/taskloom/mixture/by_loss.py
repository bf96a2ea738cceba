"""Draw tasks more often whose loss is still high."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from taskloom.mixture import Mixture, Seen
from taskloom.mixture._signals import explored, filled, move, numbers, softmax

LEAST = 1e-12
"""A first loss that is smaller counts as this, so that it can be divided by."""


class ByLoss(Mixture):
    """Draw tasks more often whose training loss has fallen least.

    Prefer it where all tasks can be learned and some lag behind. Do not where labels of a task are noisy: its loss
    stays high, and it takes the draws of the others; take `learning_progress`.

    Formula: ``q_t = (1 - exploration) softmax_t(l_t / temperature) + exploration / T`` with T tasks and l_t the running
    mean of the task's training losses over the windows, divided by the task's first where ``relative``.
    Uniform before the first window.

    Options:
        temperature: at least 0.01 (1.0: a task whose loss stays where it began is drawn up to e = 2.7 times as often as
            one whose loss is gone); lower follows the losses more.
        smoothing: share of the past windows in the running mean (0.5).
        relative: divide by the first window's loss (True: tasks differ in the size of their losses); False compares the
            losses themselves, where all are of one kind.
        exploration: share of the draws that is spread evenly, above 0 (0.1).

    State: each task's first loss and its running mean. A task without a loss yet counts as the mean of the others.

    >>> mixture = ByLoss(exploration=0.5)
    >>> for losses in ({"a": 2.0, "b": 1.0}, {"a": 2.0, "b": 0.0}):
    ...     mixture.observe(Seen(step=20, losses=losses, rows={"a": 64, "b": 64}))
    >>> {task: round(share, 4) for task, share in mixture.probabilities({"a": 9, "b": 9}).items()}
    {'a': 0.5612, 'b': 0.4388}
    """

    pace = "window"

    def __init__(
        self,
        *,
        temperature: Annotated[float, Field(ge=0.01)] = 1.0,
        smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.5,
        relative: bool = True,
        exploration: Annotated[float, Field(gt=0, le=1)] = 0.1,
    ) -> None:
        self.temperature = temperature
        self.smoothing = smoothing
        self.relative = relative
        self.exploration = exploration
        self.first: dict[str, float] = {}
        self.means: dict[str, float] = {}

    def probabilities(self, sizes: Mapping[str, int], step: int = 0, steps: int = 1, rows: int = 1) -> dict[str, float]:
        """Give each task a share by its loss; see the class."""
        levels = {
            task: mean / max(abs(self.first[task]), LEAST) if self.relative else mean
            for task, mean in self.means.items()
        }
        logits = {task: level / self.temperature for task, level in filled(levels, sizes).items()}
        return explored(softmax(logits), self.exploration)

    def observe(self, seen: Seen) -> None:
        """Move the running means of the tasks that a window drew."""
        losses = numbers(seen.losses)
        self.first = losses | self.first
        move(self.means, losses, self.smoothing)

    def state(self) -> dict[str, Any]:
        """Give the first losses and the running means by task."""
        return {"first": dict(self.first), "means": dict(self.means)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take both back."""
        self.first, self.means = dict(state["first"]), dict(state["means"])
