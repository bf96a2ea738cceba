"""Draw tasks more often whose validation score is far from what it could be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from taskloom.mixture import Mixture, Seen
from taskloom.mixture._signals import explored, filled, numbers, proportional


class Difficulty(Mixture):
    """Draw tasks more often whose validation score lags behind a reference, such as the task's score when alone.

    Prefer it where you know what each task reaches alone and none may stay behind. Do not without references where a
    task cannot reach 1: it is drawn most for ever; nor with scores that are no shares, such as errors, unless each
    such task has a reference; nor where the validation split decides what you report, as it takes part in training.

    Formula: ``q_t = (1 - exploration) g_t / sum_s g_s + exploration / T`` with T tasks and the gap ``g_t =
    max(references_t - score_t, 0)``, where score_t is the task's newest validation score, higher is better. Uniform
    before the first evaluation, and where no task lags.

    Options:
        references: task -> score to be reached (None); a task without one has 1.
        exploration: share of the draws that is spread evenly, above 0 (0.1): a task at its reference is still drawn.

    State: each task's newest score. A task without a score yet counts as the mean of the others.

    Differs: a part of the draws is spread evenly, so that no task is forgotten.

    Paper: Gottumukkala et al., Dynamic Sampling Strategies for Multi-Task Reading Comprehension, ACL 2020,
    doi:10.18653/v1/2020.acl-main.86.

    >>> mixture = Difficulty(references={"a": 0.9}, exploration=0.2)
    >>> mixture.observe(Seen(step=20, losses={}, rows={}, scores={"a": 0.6, "b": 0.9}))
    >>> {task: round(share, 4) for task, share in mixture.probabilities({"a": 9, "b": 9}).items()}
    {'a': 0.7, 'b': 0.3}
    """

    pace = "window"

    def __init__(
        self,
        *,
        references: dict[str, float] | None = None,
        exploration: Annotated[float, Field(gt=0, le=1)] = 0.1,
    ) -> None:
        self.references = references or {}
        self.exploration = exploration
        self.scores: dict[str, float] = {}

    def probabilities(self, sizes: Mapping[str, int], step: int = 0, steps: int = 1, rows: int = 1) -> dict[str, float]:
        """Give each task a share by its gap; see the class."""
        gaps = {task: max(self.references.get(task, 1.0) - score, 0.0) for task, score in self.scores.items()}
        return explored(proportional(filled(gaps, sizes)), self.exploration)

    def observe(self, seen: Seen) -> None:
        """Take up the newest scores."""
        self.scores |= numbers(seen.scores)

    def state(self) -> dict[str, Any]:
        """Give the newest scores by task."""
        return {"scores": dict(self.scores)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take them back."""
        self.scores = dict(state["scores"])
