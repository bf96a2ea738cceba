"""Sections of a run file that need no room to be known, apart from the model's and the tasks'."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from taskloom.config.section import Section


class TaskCurriculum(Section):
    """`curriculum.tasks:` in which order tasks enter, and when."""

    by: Literal["loss", "length", "speed", "listed"] = Field(
        description="What makes a task difficult: its zero-shot loss by the logarithm of its labels, its mean tokens, "
        "how little a short probe lowers its loss; or none of it, but the order given."
    )
    order: list[str] | None = Field(default=None, description="For `listed`: every task, in the order of entering.")
    direction: Literal["easy_first", "hard_first"] = Field(default="easy_first", description="What comes first.")
    first: int = Field(default=1, ge=1, description="How many tasks are there from the start.")
    until: float = Field(
        default=0.5, gt=0, lt=1, description="Share of the run by which the last task has entered, in even stages."
    )
    leave: bool = Field(
        default=False, description="Whether the oldest task leaves when the next enters; the newest `first` stay."
    )


class ItemCurriculum(Section):
    """`curriculum.items:` how many of a task's items are open, the easiest first."""

    by: Literal["length", "loss"] = Field(
        description="What makes an item difficult: its tokens, or its loss under the untrained model."
    )
    direction: Literal["easy_first", "hard_first"] = Field(default="easy_first", description="What comes first.")
    start: float = Field(default=0.1, gt=0, le=1, description="Share of each task's items that is open at the start.")
    until: float = Field(default=0.5, gt=0, le=1, description="Share of the run after which all items are open.")
    tasks: list[str] | None = Field(default=None, min_length=1, description="The tasks that are paced; by default all.")


class CurriculumSection(Section):
    """`curriculum:` in which order tasks and their items are learned; by default all of them from the start."""

    tasks: TaskCurriculum | None = Field(default=None, description="When tasks enter; null for all from the start.")
    items: ItemCurriculum | None = Field(default=None, description="Pacing inside tasks; null for none.")


class TransferSection(Section):
    """`transfer:` probes of what training each task does for the others, beside the training."""

    every_steps: int | None = Field(
        default=None,
        ge=0,
        description="Optimizer steps between two probes, 0 for none; by default as 3 % of rows allow.",
    )
    rows: int | None = Field(
        default=None,
        ge=1,
        description="Training and held-out rows of each task in a probe; by default 2 to 8, so that probes are many.",
    )
    sketch_size: int = Field(default=4096, ge=64, description="Numbers that are kept of each gradient.")
    lookahead: bool = Field(
        default=False, description="Also step on each task alone and see what becomes of the others: T times the price."
    )


class CrossValidationSection(Section):
    """`evaluation.cross_validation:` testing every row once, by as many runs as there are folds."""

    folds: int = Field(default=5, ge=2, le=50, description="How many parts the rows of every task are cut into.")


class EvaluationSection(Section):
    """`evaluation:` what is scored, and how sure the scores are."""

    splits: list[Literal["train", "validation", "test"]] = Field(
        default=["test"], min_length=1, description="Splits that are scored at the end, with predictions."
    )
    resamples: int = Field(default=1000, ge=100, le=100_000, description="Bootstrap samples behind each interval.")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="Of the intervals.")
    limit_rows: int | None = Field(default=None, gt=0, description="Rows of each task scored during training.")
    cross_validation: CrossValidationSection | None = Field(
        default=None, description="Test every row once, by runs on the other folds; null for the data's test split."
    )
    composite: Any = Field(
        default="weighted_mean",
        description="How tasks' scores become one: a name of `taskloom list composites`, "
        "or a mapping of its `name` and options.",
    )
    early_stopping_patience: int | None = Field(
        default=None, gt=0, description="Stop after so many evaluations without a better composite score."
    )
    early_stopping_threshold: float = Field(default=0.0, ge=0, description="By how much better it must be.")
