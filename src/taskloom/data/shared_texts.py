"""Texts that one task is scored on and another one is trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from taskloom.data import Corpus
from taskloom.data.splits import identity_text
from taskloom.types import Row

HELD_OUT = ("validation", "test")


@dataclass(frozen=True)
class SharedTexts:
    """Rows that a task is scored on, and that stand in the training rows of another task.

    Attributes:
        task: the task that is scored.
        trained: the task that is trained on their text.
        rows: split of `task` -> how many of its rows, splits without any left out.
    """

    task: str
    trained: str
    rows: dict[str, int]

    @property
    def total(self) -> int:
        """The rows of both splits."""
        return sum(self.rows.values())


def shared_texts(corpora: Mapping[str, Corpus], identity: Mapping[str, Sequence[str]]) -> list[SharedTexts]:
    """Count, for every ordered pair of tasks, the held-out rows of the one whose text the other is trained on.

    A held-out row counts where its whole text, normalised as for splits, is the whole text of a training row of the
    other task, or one of that row's texts (a premise, a context). Only hashes of texts are kept.

    Args:
        corpora: task -> its rows.
        identity: task -> the columns whose text makes two of its rows the same.

    Returns:
        Pairs with such rows, those with most of them first.
    """
    trained = {name: _hashes(corpus.splits["train"], identity[name]) for name, corpus in corpora.items()}
    found = []
    for name, corpus in corpora.items():
        held = {
            split: [hash(text) for row in corpus.splits[split] if (text := identity_text(row, identity[name]))]
            for split in HELD_OUT
            if split in corpus.splits
        }
        for other, known in trained.items():
            counts = {split: sum(text in known for text in texts) for split, texts in held.items()}
            if other != name and any(counts.values()):
                found.append(SharedTexts(name, other, {split: count for split, count in counts.items() if count}))
    return sorted(found, key=lambda each: -each.total)


def _hashes(rows: Sequence[Row], identity: Sequence[str]) -> set[int]:
    """Hash the whole text of each row, and each text that is a part of it."""
    parts = [identity, *([column] for column in identity)] if len(identity) > 1 else [identity]
    return {hash(text) for part in parts for row in rows if (text := identity_text(row, part))}
