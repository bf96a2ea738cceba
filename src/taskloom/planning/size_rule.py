"""A rule of thumb for pairs by their sizes; a hypothesis until a run confirms it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

Way = Literal["together", "one after the other"]

RATIO = 3.0
"""Sizes within this factor of each other are alike, and the rule says nothing of them."""


def size_rule(target: int, source: int) -> Way | None:
    """Say how a pair is trained for its target's sake, by how many training rows both have.

    Where the target is the smaller one, train them together; where it is the larger one, train the source first and
    then the target. The paper found that to hold in more than nine of ten cases on GLUE, in one encoder with full
    fine-tuning; elsewhere it is a hypothesis. That sizes within a factor of 3 say nothing is this project's caution.

    Args:
        target: rows of the task that is wanted.
        source: rows of the task that is to help it.

    Returns:
        None where the sizes are too much alike.

    Paper: Weller, Seppi and Gardner, When to Use Multi-Task Learning vs Intermediate Fine-Tuning for Pre-Trained
    Encoder Transfer Learning, 2022, arXiv:2205.08124.
    """
    if source >= RATIO * target:
        return "together"
    if target >= RATIO * source:
        return "one after the other"
    return None


def size_lines(rows: Mapping[str, int]) -> Iterator[str]:
    """Say what the rule says of the largest task and each smaller one."""
    if len(rows) < 2:
        return
    largest = max(rows, key=lambda name: rows[name])
    smaller = [name for name in rows if size_rule(rows[name], rows[largest]) == "together"]
    if smaller:
        yield (
            f"By size alone (a hypothesis): {', '.join(smaller)} should gain beside {largest}, which has "
            f"{RATIO:g} times as many rows or more; {largest} itself would rather be trained after them."
        )
