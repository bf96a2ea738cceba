"""Why a task does not do as well as it should, in the order in which causes are looked for; no training, no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from taskloom.errors import listed

Cause = Literal["starved", "unclear", "unlearnable", "over-repeated", "format", "conflict", "capacity"]

FEW_ROWS = 200
"""A task with fewer training rows is short of them where the median task has twice as many or more."""

SHORT_SHARE = 0.25
"""A task with fewer rows than this share of the median task's is short of them, however many they are."""

LEAST_EPOCHS = 1.0
"""Of a task that has not been through its rows so often, nothing is said of its labels."""

REACH = 0.2
"""Nor of one whose interval alone reaches so far above a constant answer: too few rows are there to score it on."""

BY_HEART = 0.8
"""A training loss that fell below this share of its beginning fell by more than batches differ."""

MANY_EPOCHS = 4.0
"""Fewer passes over a task's rows than this cannot be too many."""


@dataclass(frozen=True)
class Evidence:
    """What is known of one task after it was trained alone and with all others.

    Attributes:
        task: its name.
        rows: training rows.
        median_rows: of the run's tasks.
        drawn: rows that the joint run drew of it.
        alone: validation score alone, normalised.
        alone_low: lower end of its interval, normalised.
        floor: what the best constant answer gets, normalised; None where there is none.
        together: validation score in the joint run, normalised.
        low: lower end of the interval of the difference, over examples.
        high: its upper end.
        alone_high: upper end of the interval of `alone`, normalised.
        curve: validation scores during the joint run, normalised.
        loss: mean training loss alone, of the first and of the last tenth of its steps.
        entropy: of its training labels, in nats, which is the loss of knowing only how frequent each is; None where its
            loss is another.
        conflicts: tasks whose gradients point against its own beyond noise.
        same_prompts: tasks that are asked for in the same words.
    """

    task: str
    rows: int
    median_rows: float
    drawn: int
    alone: float
    alone_low: float
    floor: float | None
    together: float
    low: float
    high: float
    alone_high: float = float("nan")
    curve: Sequence[float] = field(default_factory=tuple)
    loss: tuple[float, float] = (float("nan"), float("nan"))
    entropy: float | None = None
    conflicts: Sequence[str] = field(default_factory=tuple)
    same_prompts: Sequence[str] = field(default_factory=tuple)

    @property
    def difference(self) -> float:
        """How much better it is in the joint run than alone."""
        return self.together - self.alone

    @property
    def epochs(self) -> float:
        """Passes over its rows in the joint run, and as many alone."""
        return self.drawn / max(self.rows, 1)

    @property
    def few(self) -> bool:
        """Whether it is short of rows beside the others."""
        beside = self.rows / max(self.median_rows, 1.0)
        return beside < SHORT_SHARE or (self.rows < FEW_ROWS and 2 * beside <= 1)


@dataclass(frozen=True)
class Diagnosis:
    """What ails one task.

    Attributes:
        task: its name.
        cause: the first that fits.
        reason: one sentence with the figures that told.
        loses: whether it is below its own score alone by more than the margin.
        epochs: passes over its rows in the joint run.
        poison: of a task that cannot be learned, whether the others do better without; None where that was not tried.
    """

    task: str
    cause: Cause
    reason: str
    loses: bool
    epochs: float = 0.0
    poison: bool | None = None


def diagnose(evidence: Evidence, margin: float) -> Diagnosis | None:
    """Name the first cause that fits; None for a task that neither loses nor lacks anything.

    The order is that of what is cheapest to be sure of: too few rows, labels that cannot be learned, too few passes
    over the rows, too many, prompts that collide, gradients that conflict beyond noise; what is left is capacity. A
    task that is only hard beats a constant answer alone, however little, and is told of only where it loses.

    Args:
        evidence: of one task.
        margin: a difference of scores that does not matter.
    """
    loses = evidence.difference < -margin
    if evidence.floor is not None and evidence.alone_low <= evidence.floor and not evidence.few:
        return _of_the_unlearned(evidence, evidence.floor, loses)
    if evidence.few:
        reason = (
            f"it has {evidence.rows} training rows where the median task has {evidence.median_rows:.0f}, "
            f"and was drawn {evidence.drawn} times; with all others it scores {evidence.difference:+.3f}"
        )
        return Diagnosis(evidence.task, "starved", reason, loses)
    return _of_a_loser(evidence, margin) if loses else None


def _of_the_unlearned(evidence: Evidence, floor: float, loses: bool) -> Diagnosis:
    """Tell labels that cannot be learned from a task that may only be hard: too little training, or too few rows."""
    ends = f"{evidence.alone_low:.3f} … {evidence.alone_high:.3f}"
    scored = f"alone it scores {evidence.alone:.3f} ({ends}) where a constant answer gets {floor:.3f}"
    first, last = evidence.loss
    fell = f"its training loss went from {first:.3f} to {last:.3f}"
    doubt = ""
    if evidence.epochs < LEAST_EPOCHS:
        doubt = f"it has been through {evidence.epochs:.2f} of its rows"
    elif evidence.alone_high - floor > REACH:
        doubt = f"that interval reaches up to {evidence.alone_high:.3f}"
    if doubt:
        reason = f"{scored}, but {doubt}: that is too little to tell a hard task from one with random labels"
        return Diagnosis(evidence.task, "unclear", reason, loses, evidence.epochs)
    known = f", where how frequent each label is gives {evidence.entropy:.3f}" if evidence.entropy is not None else ""
    if last < BY_HEART * first:
        told = "it learns its rows by heart, and nothing of them carries over: its labels are random or wrong"
    else:
        told = "its labels can't be learned from its texts: they are random or wrong, or too hard for this backbone"
    reason = f"{scored}, after {evidence.epochs:.1f} epochs of {evidence.rows} rows; {fell}{known}: {told}"
    return Diagnosis(evidence.task, "unlearnable", reason, loses, evidence.epochs)


def _of_a_loser(evidence: Evidence, margin: float) -> Diagnosis:
    lost = f"with all others it scores {evidence.difference:+.3f} ({evidence.low:+.3f} … {evidence.high:+.3f})"
    if evidence.high >= 0:
        lost += ", which may be chance"
    peak = max(evidence.curve, default=float("-inf"))
    before, last = ([peak, peak, *evidence.curve])[-2:]
    if evidence.epochs < LEAST_EPOCHS and (len(evidence.curve) < 2 or before + margin < last == peak):
        rose = f", and its validation score still rose, from {before:.3f} to {last:.3f}" if evidence.curve else ""
        reason = f"{lost}; it was drawn {evidence.drawn} times where it has {evidence.rows} rows{rose}"
        return Diagnosis(evidence.task, "starved", reason, loses=True, epochs=evidence.epochs)
    if evidence.epochs > MANY_EPOCHS and evidence.curve and peak - evidence.curve[-1] > margin:
        fell = f"its validation score fell from {peak:.3f} to {evidence.curve[-1]:.3f}"
        reason = f"{lost}; over {evidence.epochs:.1f} epochs {fell}"
        return Diagnosis(evidence.task, "over-repeated", reason, loses=True, epochs=evidence.epochs)
    if evidence.same_prompts:
        reason = f"{lost}; it is asked for in the same words as {listed(evidence.same_prompts)}"
        return Diagnosis(evidence.task, "format", reason, loses=True)
    if evidence.conflicts:
        reason = f"{lost}; its gradients point against those of {listed(evidence.conflicts)} beyond noise"
        return Diagnosis(evidence.task, "conflict", reason, loses=True)
    reason = f"{lost}; it lacks neither rows nor draws, and no conflict is seen beyond noise: capacity is left"
    return Diagnosis(evidence.task, "capacity", reason, loses=True)


def judge_poison(found: Diagnosis, gain: float | None, margin: float, share: float = 1.0) -> Diagnosis:
    """Say whether a task that cannot be learned does harm to the others.

    Args:
        found: of that task.
        gain: how much higher the others' composite is where they are trained without; None where that was not tried.
        margin: a difference that does not matter.
        share: of a whole run's steps, after which that was seen.
    """
    steps = "" if share == 1.0 else f" at {share:.0%} of the steps"
    if gain is None:
        told, poison = "whether the others do better without was not tried", None
    elif gain > margin:
        told, poison = f"the others score {gain:+.3f} without{steps}: it is poison", True
    else:
        told, poison = f"the others score {gain:+.3f} without{steps}: no harm to them is seen", False
    return replace(found, reason=f"{found.reason}; {told}", poison=poison)


def colliding_prompts(options: Mapping[str, Mapping[str, object]], keys: Sequence[str]) -> dict[str, list[str]]:
    """Find tasks that are asked for in the same words.

    Args:
        options: task -> options of its type, of tasks that answer in words.
        keys: options that hold the words.

    Returns:
        task -> the others with the same words; tasks that say nothing collide with no task.
    """
    said = {name: tuple(str(held.get(key) or "") for key in keys) for name, held in options.items()}
    return {
        name: [other for other, theirs in said.items() if other != name and theirs == words and any(words)]
        for name, words in said.items()
    }
