"""The nouns that travel between the rooms, and the legend of axes.

Axes, as used in every docstring: ``task``, ``example`` (one row of the user's data), ``sequence`` (one row of the
backbone's input; an example has one or several), ``token``, ``width``, ``label``, ``param``, ``resample``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self

if TYPE_CHECKING:
    from torch import Tensor

Family = Literal["encoder", "decoder", "encoder_decoder"]
"""What a backbone is: it reads both ways, reads forwards, or reads both ways and then writes forwards."""

IGNORED = -100
"""The label of a place that nothing is learned at."""

Row = dict[str, Any]
"""One example as the user wrote it, its columns under the names that its task knows."""

Item = dict[str, Any]
"""One example, or one window of it, as the backbone reads it.

``input_ids``: [sequence, token] as nested lists; ``token_type_ids``: the same where the tokenizer gives them; ``row``:
the example's place in its split; further keys are what its task needs to form the loss and to decode. Items of tasks
that read words have ``labels`` [sequence, label token], `IGNORED` where nothing is learned: beside ``input_ids`` for
encoders and decoders, what is to be written for encoder-decoders; and ``prompt_tokens``, how many tokens ask.
"""


@dataclass(frozen=True)
class Prediction:
    """What the model says of one example, in the user's terms.

    Attributes:
        value: the answer: a label, a list of labels or tags, a number, a text.
        detail: what else can be told (probabilities, runners-up, places), ready for JSON.
    """

    value: Any
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Score:
    """One metric of one task on one split, with its bootstrap interval.

    Attributes:
        task: the task's name, or "composite" for the run's one number.
        split: "train", "validation" or "test".
        metric: the metric's name in its room.
        value: the metric of all examples.
        low: lower end of the interval.
        high: upper end of the interval.
        n: how many examples were scored.
        baseline: what the best constant answer gets on the same examples; None where there is none.
        group: the group of examples, None for all.
        greater_is_better: whether more is better, where the metric is the user's own; None where its room says it.
    """

    task: str
    split: str
    metric: str
    value: float
    low: float
    high: float
    n: int
    baseline: float | None = None
    group: str | None = None
    greater_is_better: bool | None = None

    def as_row(self) -> dict[str, Any]:
        """Give the line of scores.jsonl, in its fixed order of keys."""
        row = asdict(self)
        order = ("task", "split", "group", "metric", "value", "low", "high", "n", "baseline", "greater_is_better")
        known = order if self.greater_is_better is not None else order[:-1]
        return {key: row[key] for key in known}


@dataclass
class Part:
    """The sequences of one task inside a chunk.

    Attributes:
        sequences: which sequences of the chunk are this task's: [sequence] int64, in the order of its items; they are
            its rows, unless several are packed into one.
        sizes: how many sequences each item has: one number per item.
        targets: what the task's loss needs beside the head's output.
        items: the items themselves, in order.
    """

    sequences: Tensor
    sizes: Sequence[int]
    targets: dict[str, Tensor]
    items: Sequence[Item]


@dataclass
class Packing:
    """Where the sequences of a chunk lie whose rows hold several.

    Attributes:
        rows: the row of each sequence: [sequence] int64.
        places: [sequence, token] int64, for each token its place in the rows laid end to end; behind a sequence's end
            its own last token's.
        mask: [sequence, token] int64, 1 where a token is real.
        halves: for each row, which half of its task's items it holds; 0 where halves are not kept apart.
    """

    rows: Tensor
    places: Tensor
    mask: Tensor
    halves: Sequence[int]


@dataclass
class Chunk:
    """A rectangle of sequences of like length, of one or several tasks, for one forward pass.

    Attributes:
        inputs: the backbone's arguments: ``input_ids`` and ``attention_mask`` [sequence, token] int64, and
            ``token_type_ids`` where the tokenizer gives them. Packed rows have the same [row, token], and
            ``position_ids``, which begin at 0 with each sequence. Where tasks read words, ``labels`` [sequence, label
            token], -100 where nothing is learned, and for encoder-decoders ``decoder_input_ids`` of the same shape.
        parts: task name -> its share of the sequences.
        packing: where the sequences lie if rows hold several; None where each row is one.
    """

    inputs: dict[str, Tensor]
    parts: dict[str, Part]
    packing: Packing | None = None

    @property
    def mask(self) -> Tensor:
        """Which tokens of each sequence are real: [sequence, token]."""
        return self.inputs["attention_mask"] if self.packing is None else self.packing.mask

    def to(self, device: Any, non_blocking: bool = False) -> Self:
        """Move every tensor to a device, in place."""
        self.inputs = {key: value.to(device, non_blocking=non_blocking) for key, value in self.inputs.items()}
        if self.packing is not None:
            for name in ("rows", "places", "mask"):
                setattr(self.packing, name, getattr(self.packing, name).to(device, non_blocking=non_blocking))
        for part in self.parts.values():
            part.sequences = part.sequences.to(device, non_blocking=non_blocking)
            part.targets = {key: value.to(device, non_blocking=non_blocking) for key, value in part.targets.items()}
        return self


@dataclass
class Step:
    """What one item of the training loader holds: the chunks of one micro-batch.

    Attributes:
        chunks: rectangles, cut by length; the step's meaning does not depend on the cut.
        tokens: task name -> useful tokens (without padding) in the step.
        examples: task name -> items drawn in the step.
        expected: task name -> rows that its share amounts to, for tasks that are trained now; empty where unknown.
        factors: task name -> what its weight is multiplied with now; 1 where it is left out.
    """

    chunks: list[Chunk]
    tokens: dict[str, int]
    examples: dict[str, int]
    expected: dict[str, float] = field(default_factory=dict)
    factors: dict[str, float] = field(default_factory=dict)

    def to(self, device: Any, non_blocking: bool = False) -> Self:
        """Move every tensor to a device, in place."""
        for chunk in self.chunks:
            chunk.to(device, non_blocking=non_blocking)
        return self
