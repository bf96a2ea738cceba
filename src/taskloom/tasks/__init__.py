"""Tasks: what a row means, how the backbone reads it, what is learned from it, and what is said back to the user.

A task is a class. It turns rows into items, gives a head, forms one loss per example, and decodes outputs into the
user's terms. To add one, put a file here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from taskloom.room import Room
from taskloom.types import Family, Item, Prediction, Row

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerFast

Floats = NDArray[np.float32]


class Odds(NamedTuple):
    """What the probabilities of a row's answer are made of.

    Attributes:
        logits: [choice, option].
        given: [choice] the option that is answered.
        right: [choice] the right one; -1 where it is not known.
    """

    logits: Floats
    given: NDArray[np.int64]
    right: NDArray[np.int64]


class Task(ABC):
    """One kind of question asked of the backbone.

    Subclasses take their options as keyword arguments of ``__init__``, ``max_length`` among them.

    Class attributes:
        columns: required column -> what it holds.
        optional_columns: the same for columns that may be absent.
        identity_columns: the columns that make two rows the same text, for splits without leakage.
        answer_columns: the columns that hold what is right, which rows to be answered lack.
        predicts: the kind of its predictions, which metrics must accept: "label", "labels", "tags", "text", "number",
            "choice", "extraction", "loss".
        default_metrics: names of metrics; the first is the task's own score in the composite.
        reads: what its loss is formed of: "hidden" states through a head of its own, or "words", the negative
            log-likelihoods that the backbone's language head gives its labels.
        families: the backbones that it can be trained in.
        generates: whether its answers are generated, and `decode` is given texts in the outputs' place.
        windows: whether a long text is read in several windows, so that nothing of it is cut.
        importance: weight in the composite score, where the run file says nothing.

    Attributes:
        max_length: tokens after which a sequence is cut.
        family: the family of the run's backbone, from `meet`.
        calibration: the temperature that logits are divided by where probabilities are told; no answer depends on it.
    """

    columns: ClassVar[Mapping[str, str]]
    optional_columns: ClassVar[Mapping[str, str]] = {}
    identity_columns: ClassVar[tuple[str, ...]] = ("text",)
    answer_columns: ClassVar[frozenset[str]] = frozenset({"label", "labels", "tags", "answers"})
    predicts: ClassVar[str]
    default_metrics: ClassVar[tuple[str, ...]]
    reads: ClassVar[Literal["hidden", "words"]] = "hidden"
    families: ClassVar[frozenset[Family]] = frozenset({"encoder", "decoder", "encoder_decoder"})
    generates: ClassVar[bool] = False
    windows: ClassVar[bool] = False
    importance: ClassVar[float] = 1.0
    calibration: float = 1.0

    def __init__(self, *, max_length: int = 256) -> None:
        self.max_length = max_length
        self.family: Family = "encoder"

    def meet(self, family: Family, tokenizer: PreTrainedTokenizerFast) -> None:
        """Learn what backbone the task is trained in, before anything else; `tokenizer` is its own.

        Raises:
            ConfigError: the tokenizer lacks what the task cannot do without.
        """
        self.family = family

    # --- rows -----------------------------------------------------------------------------------------------------

    @abstractmethod
    def fault(self, row: Row) -> str | None:
        """Say what is wrong with a row by itself, as the words after "should", or None."""

    def question_fault(self, row: Row) -> str | None:
        """Say what keeps a row from being answered, as `fault` does; that its answer is absent or wrong does not."""
        for column in self.columns:
            if column not in self.answer_columns and row.get(column) in (None, "", []):
                return f"have `{column}`"
        complaint = self.fault(row)
        return None if any(f"`{column}`" in (complaint or "") for column in self.answer_columns) else complaint

    def asked(self, row: Row) -> Row:
        """Give what a row asks, without what is right."""
        shown = (self.columns.keys() | self.optional_columns.keys()) - self.answer_columns
        return {key: value for key, value in row.items() if key in shown and value is not None}

    def fit(self, rows: Sequence[Row]) -> None:  # noqa: B027 - a task without anything to learn from rows is right
        """Learn from the training rows what the head needs to know: label names, the range of a number."""

    def unseen(self, row: Row) -> str | None:
        """Say what of a row training could not teach (a label that no training row has), or None."""
        return None

    def state(self) -> dict[str, Any]:
        """Give what `fit` learned, ready for JSON."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:  # noqa: B027
        """Take back what `state` gave."""

    # --- to the backbone ------------------------------------------------------------------------------------------

    @abstractmethod
    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerFast) -> Iterator[list[Item]]:
        """Turn each row into its items: one, or several windows of a long text. Rows without answers encode too."""

    @abstractmethod
    def head(self, width: int) -> nn.Module:
        """Make the head: ``(hidden [sequence, token, width], mask [sequence, token]) -> output [sequence, ...]``."""

    # --- learning -------------------------------------------------------------------------------------------------

    @abstractmethod
    def targets(self, items: Sequence[Item], tokens: int) -> dict[str, Tensor]:
        """Collate what the loss needs, padded to the chunk's width of `tokens`."""

    @abstractmethod
    def loss(self, output: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Give the loss of each item: [item], float32, not yet weighted or averaged."""

    def terms(self, targets: Mapping[str, Tensor]) -> Tensor:
        """Say of how many terms each item's loss is the mean: [item]; one, but for tasks that label every token."""
        first = next(iter(targets.values()))
        return first.new_ones(first.shape[0])

    def choices(self) -> int | None:
        """Say among how many labels the head chooses; None where it does not choose, or among others for each item."""
        return None

    # --- back to the user -----------------------------------------------------------------------------------------

    @abstractmethod
    def decode(self, row: Row, items: Sequence[Item], outputs: Sequence[Floats]) -> Prediction:
        """Turn the outputs of all of a row's items into a prediction.

        Args:
            row: the example, as the user wrote it.
            items: its items.
            outputs: for each item the head's output [sequence, ...], cut to the item's own tokens where the output
                has a token axis.
        """

    def odds(self, row: Row, items: Sequence[Item], outputs: Sequence[Floats]) -> Odds | None:
        """Give what the probabilities in a row's prediction are made of; None for a task that tells none.

        Args:
            row: the example.
            items: its items.
            outputs: as `decode` takes them.
        """
        return None

    @abstractmethod
    def reference(self, row: Row) -> Any:
        """Give what is right for a row, as the task's metrics read it."""

    @abstractmethod
    def baseline(self, train: Sequence[Row], rows: Sequence[Row]) -> list[Any]:
        """Answer every row with the best constant rule that the training rows teach: [example] values."""

    def describe(self, row: Row, item: Item) -> list[tuple[str, str]]:
        """Say, for `preview`, what is trained on in an item: pairs of a name and its value in the user's terms."""
        return [("reference", repr(self.reference(row)))]


TASKS: Room[Task] = Room("taskloom.tasks", "task type")
