"""What is explained of an answer: one number that an item's output gives, and the words that it may depend on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, singledispatch
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor
from torch.nn import functional

from taskloom.attribution.reading import Reading, read
from taskloom.errors import DataError, Fault
from taskloom.tasks import Floats, Task
from taskloom.tasks._words import WrittenTask
from taskloom.tasks.chat import Chat
from taskloom.tasks.classification import Classification
from taskloom.tasks.extractive_qa import ExtractiveQa
from taskloom.tasks.multi_label import MultiLabel
from taskloom.tasks.multiple_choice import MultipleChoice
from taskloom.tasks.regression import Regression
from taskloom.tasks.similarity import Similarity
from taskloom.tasks.token_classification import TokenClassification
from taskloom.types import IGNORED, Item, Prediction, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Read = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Answered:
    """A row that was answered.

    Attributes:
        task: which answered it.
        row: the example.
        items: its items.
        outputs: what the head gave for each; empty for a task that writes.
        prediction: the answer.
        tokenizer: of the backbone.
        words: numbers of the words whose tags are asked for; None for those with one.
    """

    task: Task
    row: Row
    items: Sequence[Item]
    outputs: Sequence[Floats]
    prediction: Prediction
    tokenizer: PreTrainedTokenizerFast
    words: Sequence[int] | None = None


@dataclass(frozen=True)
class Aim:
    """One number to be explained.

    Attributes:
        target: what it is about: a label, a word with its tag, an answer, a written token.
        item: what is read.
        reading: the words behind its tokens.
        read: outputs of copies of the item [copy, sequence, ...] -> [copy].
        kept: tokens from this place on are never taken away: an answer that is written.
    """

    target: str
    item: Item
    reading: Reading
    read: Read
    kept: int | None = None


def aims_of(answered: Answered) -> list[Aim]:
    """Give what is to be explained of an answer.

    The logit of a label; those of all labels given (of the likeliest, where none is); the logit of each asked word's
    tag; the sum of an answer's first and last token's logits; a choice's score; a number in the user's scale; the
    log-probability of each token that is written.

    Raises:
        DataError: the task answers nothing that could be explained, or a word is asked for that is not read.
    """
    return find_aims(answered.task, answered)


@singledispatch
def find_aims(task: Task, answered: Answered) -> list[Aim]:
    """Find the aims of a task's answer; register a function for a task type of your own."""
    requirement, found = "be a task whose answers can be explained", f"the type `{type(task).__name__}`"
    raise DataError(Fault(type(task).__name__, requirement, found))


def _first(answered: Answered, target: str, reader: Read, number: int = 0) -> Aim:
    item = answered.items[number]
    return Aim(target, item, read(answered.task, answered.row, item, answered.tokenizer), reader)


def _column(output: Tensor, *, place: int) -> Tensor:
    return output[:, 0, place]


@find_aims.register(Classification)
def _(task: Classification, answered: Answered) -> list[Aim]:
    place = int(answered.outputs[0][0].argmax())
    return [_first(answered, str(task.labels[place]), partial(_column, place=place))]


@find_aims.register(MultiLabel)
def _(task: MultiLabel, answered: Answered) -> list[Aim]:
    given = [task.ids[label] for label in answered.prediction.value] or [int(answered.outputs[0][0].argmax())]
    return [_first(answered, str(task.labels[place]), partial(_column, place=place)) for place in given]


@find_aims.register(Regression)
def _(task: Regression, answered: Answered) -> list[Aim]:
    def number(output: Tensor) -> Tensor:
        return output[:, 0, 0] * task.spread + task.mean

    return [_first(answered, f"{answered.prediction.value:g}", number)]


@find_aims.register(Similarity)
def _(task: Similarity, answered: Answered) -> list[Aim]:
    def number(output: Tensor) -> Tensor:
        cosine = functional.cosine_similarity(output[:, 0], output[:, 1])
        return cosine * (task.high - task.low) + task.low

    return [_first(answered, f"{answered.prediction.value:g}", number)]


@find_aims.register(MultipleChoice)
def _(task: MultipleChoice, answered: Answered) -> list[Aim]:
    choice, item = int(answered.prediction.value), answered.items[0]
    keys = [key for key in ("input_ids", "token_type_ids") if item.get(key)]
    alone = item | {key: [item[key][choice]] for key in keys} | {"choice": choice, "label": 0}
    reading = read(task, answered.row, alone, answered.tokenizer)
    return [Aim(answered.row["choices"][choice], alone, reading, partial(_column, place=0))]


@find_aims.register(ExtractiveQa)
def _(task: ExtractiveQa, answered: Answered) -> list[Aim]:
    best = answered.prediction.detail["n_best"][0]
    begin, end = best["start"], best["start"] + len(best["text"])
    found = []
    for number, (item, output) in enumerate(zip(answered.items, answered.outputs, strict=True)):
        first, last = (0, 0) if begin < 0 else (_at(item["begins"], begin), _at(item["ends"], end))
        if first is not None and last is not None:
            found.append((float(output[0, first, 0] + output[0, last, 1]), number, first, last))
    # An answer lies in several windows where these overlap; the surest is meant. Of none, the least sure one tells.
    _, number, first, last = min(found) if begin < 0 else max(found)

    def score(output: Tensor) -> Tensor:
        return output[:, 0, first, 0] + output[:, 0, last, 1]

    return [_first(answered, best["text"], score, number)]


def _at(places: Sequence[int], value: int) -> int | None:
    return next((place for place, each in enumerate(places) if each == value), None)


@find_aims.register(TokenClassification)
def _(task: TokenClassification, answered: Answered) -> list[Aim]:
    item, tags = answered.items[0], answered.prediction.value
    read_words = {word: place for place, word in zip(item["positions"], item["words"], strict=True)}
    words = answered.words
    if words is None:
        sure = answered.prediction.detail["probabilities"]
        least = sorted(read_words, key=lambda word: sure[word])[:1]
        words = [word for word in read_words if tags[word] != "O"] or least
    unread = [word for word in words if word not in read_words]
    if unread:
        requirement = f"number a word that is read, from 0 to {len(tags) - 1}"
        raise DataError(Fault("word", requirement, f"`{unread[0]}`", "Count the words of `tokens` from 0"))
    aims = []
    for word in words:
        place, label = read_words[word], task.ids[tags[word]]
        reader = partial(_tag, place=place, label=label)
        aims.append(_first(answered, f"{answered.row['tokens'][word]}/{tags[word]}", reader))
    return aims


def _tag(output: Tensor, *, place: int, label: int) -> Tensor:
    return output[:, 0, place, label]


@find_aims.register(WrittenTask)
def _(task: WrittenTask, answered: Answered) -> list[Aim]:
    tokenizer, row = answered.tokenizer, told(task, answered.row, answered.prediction.value)
    item = next(iter(task.encode([row], tokenizer)))[0] | {"row": 0}
    reading, labels = read(task, row, item, tokenizer), np.array(item["labels"][0])
    start = 0 if task.family == "encoder_decoder" else item["prompt_tokens"]
    kept = None if task.family == "encoder_decoder" else item["prompt_tokens"]
    aims = []
    for place in range(start, len(labels)):
        if labels[place] != IGNORED:
            said = tokenizer.decode([int(labels[place])])
            aims.append(Aim(said, item, reading, partial(_written, place=place), kept))
    return aims


def _written(output: Tensor, *, place: int) -> Tensor:
    return -output[:, 0, place]


def told(task: Task, row: Row, value: Any) -> Row:
    """Give a row the answer that was written, in place of its own."""
    if isinstance(task, Chat):
        messages = task.asked(row)["messages"]
        return {**row, "messages": [*messages, {"role": "assistant", "content": value}]}
    column = next(iter(task.columns.keys() & task.answer_columns))
    return {**row, column: value}
