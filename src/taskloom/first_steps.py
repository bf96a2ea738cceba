"""The first micro-batches of a plan, as the backbone is given them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from taskloom.types import Item, Step

if TYPE_CHECKING:
    from taskloom.batches.steps import Steps
    from taskloom.preparation import Prepared

SHOWN_STEPS = 2
"""How many micro-batches are shown."""


@dataclass(frozen=True)
class FirstRows:
    """The rows of one task in a micro-batch.

    Attributes:
        task: the task's name.
        rows: how many of its items there are.
        tokens: their useful tokens.
        rectangles: (sequences, tokens) of each rectangle that holds some of them, with other tasks' sequences.
        place: where the first of them stands in the data.
        sequences: the tokens of that one, special ones included, each sequence as a list.
        trained: what is trained on in it, as pairs of name and value in the user's terms.
    """

    task: str
    rows: int
    tokens: int
    rectangles: list[tuple[int, int]]
    place: str
    sequences: list[list[str]]
    trained: list[tuple[str, str]]


@dataclass(frozen=True)
class FirstStep:
    """One micro-batch.

    Attributes:
        index: its number in the plan, from 0.
        rectangles: (sequences, tokens) of each of its rectangles, padding included.
        tasks: the rows of each task that it has some of.
    """

    index: int
    rectangles: list[tuple[int, int]]
    tasks: list[FirstRows]


def first_steps(prepared: Prepared, plan: Steps, count: int = SHOWN_STEPS) -> list[FirstStep]:
    """Build the plan's first micro-batches, and say what stands in them.

    Args:
        prepared: the run's data.
        plan: its micro-batches.
        count: how many to build.
    """
    found = []
    for index in range(min(count, len(plan))):
        step = plan[index]
        present = [name for name in prepared.tasks if step.examples.get(name)]
        tasks = [_rows_of(prepared, name, step) for name in present]
        found.append(FirstStep(index, [_shape(chunk.inputs["input_ids"].shape) for chunk in step.chunks], tasks))
    return found


def _rows_of(prepared: Prepared, name: str, step: Step) -> FirstRows:
    chunks = [chunk for chunk in step.chunks if name in chunk.parts]
    item: Item = chunks[0].parts[name].items[0]
    row = int(item["row"])
    tokens = [prepared.tokenizer.convert_ids_to_tokens(ids) for ids in item["input_ids"]]
    trained = prepared.tasks[name].describe(prepared.corpora[name].splits["train"][row], item)
    shapes = [_shape(chunk.inputs["input_ids"].shape) for chunk in chunks]
    place = prepared.place(name, row)
    return FirstRows(name, step.examples[name], step.tokens[name], shapes, place, tokens, trained)


def _shape(shape: Sequence[int]) -> tuple[int, int]:
    sequences, tokens = shape
    return int(sequences), int(tokens)
