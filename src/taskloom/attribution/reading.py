"""Which words of a row the tokens of an item are."""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import singledispatch
from typing import TYPE_CHECKING, Any

from taskloom.errors import DataError, Fault
from taskloom.tasks import Task
from taskloom.tasks._chat_templates import ANSWERS, rendered
from taskloom.tasks._prompts import PromptedTask
from taskloom.tasks._rendered import RenderedTask
from taskloom.tasks.chat import Chat
from taskloom.tasks.extractive_qa import ExtractiveQa
from taskloom.tasks.multiple_choice import MultipleChoice
from taskloom.tasks.similarity import Similarity
from taskloom.tasks.token_classification import TokenClassification
from taskloom.types import Item, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Span = tuple[int, int]
JOINS = frozenset("'-_.,:@/&+\u2019\u2010")
"""Marks that belong to a word where letters stand on both sides of them: don't, e-mail, 3.5, 10:30."""


@dataclass(frozen=True)
class Reading:
    """An item as people read it.

    Attributes:
        text: the row's own texts, a line each.
        words: where its words begin and end.
        places: [sequence][token] where each token begins and ends; None for what is no word of the row's.
    """

    text: str
    words: Sequence[Span]
    places: Sequence[Sequence[Span | None]]

    def word_of(self) -> list[list[int | None]]:
        """Give the number of the word that each token begins in: [sequence][token]."""
        ends = [end for _, end in self.words]
        return [[self._owner(span, ends) for span in spans] for spans in self.places]

    def _owner(self, span: Span | None, ends: Sequence[int]) -> int | None:
        """Find the word that a piece begins in, or behind a blank; a blank alone is of the word after it."""
        if span is None or not ends:
            return None
        return min(bisect_right(ends, span[0]), len(ends) - 1)


def words_in(text: str) -> list[Span]:
    """Cut a text into words, marks, and ideographs one by one, whatever pieces a tokenizer makes.

    >>> [text[a:b] for text in ["Don't pay 3.50 €!"] for a, b in words_in(text)]
    ["Don't", 'pay', '3.50', '€', '!']
    """
    kinds = [_kind(character) for character in text]
    for place, character in enumerate(text[1:-1], start=1):
        if character in JOINS and kinds[place - 1] == "letter" and _kind(text[place + 1]) == "letter":
            kinds[place] = "letter"
    return list(_runs(kinds))


def _kind(character: str) -> str:
    if character.isspace():
        return "blank"
    name, category = unicodedata.name(character, ""), unicodedata.category(character)
    if name.startswith(("CJK", "HIRAGANA", "KATAKANA")):
        return "ideograph"
    return "mark" if category[0] in "PS" else "letter"


def _runs(kinds: Sequence[str]) -> Iterator[Span]:
    start = 0
    for place in range(1, len(kinds) + 1):
        if place == len(kinds) or kinds[place] != kinds[start] or kinds[start] != "letter":
            if kinds[start] != "blank":
                yield start, place
            start = place


def aligned(tokenizer: PreTrainedTokenizerFast, ids: Sequence[int], *texts: str, special: bool = True) -> list[Any]:
    """Find where tokens of a sequence lie in the texts that it was made of, whole or cut.

    Args:
        tokenizer: of the backbone.
        ids: [token].
        texts: one, or a pair.
        special: whether the sequence has the tokenizer's special tokens.

    Returns:
        [token] number of the text, beginning and end; None for special tokens and what is in no text.
    """
    whole: Any = tokenizer(*texts, add_special_tokens=special, return_offsets_mapping=True)
    owners, offsets, held = whole.sequence_ids(0), whole["offset_mapping"], specials(tokenizer)
    found: list[Any] = [None] * len(ids)
    for block in SequenceMatcher(None, list(whole["input_ids"]), list(ids), autojunk=False).get_matching_blocks():
        for step in range(block.size):
            owner, (begin, end) = owners[block.a + step], offsets[block.a + step]
            if owner is not None and ids[block.b + step] not in held:
                found[block.b + step] = (owner, begin, end)
    return found


def joined(*texts: str) -> tuple[str, list[int]]:
    """Put texts on a line each: the whole, and where each begins."""
    starts = [0]
    for text in texts:
        starts.append(starts[-1] + len(text) + 1)
    return "\n".join(texts), starts[:-1]


def shifted(found: Sequence[Any], starts: Sequence[int]) -> list[Span | None]:
    """Bring places in single texts to places in the whole."""
    return [None if each is None else (starts[each[0]] + each[1], starts[each[0]] + each[2]) for each in found]


@singledispatch
def read(task: Task, row: Row, item: Item, tokenizer: PreTrainedTokenizerFast) -> Reading:
    """Find the words behind an item's tokens.

    Register a function for a task type of your own, if its rows have no `text`.

    Args:
        task: of the row.
        row: the example.
        item: one of its items.
        tokenizer: of the backbone.

    Raises:
        DataError: nothing is known of how the type reads its rows.
    """
    if "text" not in task.columns:
        found = f"the type `{type(task).__name__}`"
        raise DataError(Fault(type(task).__name__, "be a task whose words can be told from its tokens", found))
    texts = [row[name] for name in ("text", "text_pair") if row.get(name) is not None]
    whole, starts = joined(*texts)
    return Reading(whole, words_in(whole), [shifted(aligned(tokenizer, item["input_ids"][0], *texts), starts)])


@read.register(Similarity)
def _(task: Similarity, row: Row, item: Item, tokenizer: PreTrainedTokenizerFast) -> Reading:
    whole, starts = joined(row["text"], row["text_pair"])
    texts = (row["text"], row["text_pair"])
    places = [
        shifted(aligned(tokenizer, ids, text), [start])
        for ids, text, start in zip(item["input_ids"], texts, starts, strict=True)
    ]
    return Reading(whole, words_in(whole), places)


@read.register(MultipleChoice)
def _(task: MultipleChoice, row: Row, item: Item, tokenizer: PreTrainedTokenizerFast) -> Reading:
    """Read context, question and choices; of an item of one choice alone (``choice``), that one's sequence."""
    context, question = row.get("context"), row.get("question")
    before = [text for text in (context, question) if text]
    whole, starts = joined(*before, *row["choices"])
    chosen = [item["choice"]] if "choice" in item else range(len(row["choices"]))
    places: list[list[Span | None]] = []
    for ids, number in zip(item["input_ids"], chosen, strict=True):
        choice, start = row["choices"][number], starts[len(before) + number]
        beside = f"{question} {choice}" if context and question else choice
        spans: list[Span | None] = []
        for found in aligned(tokenizer, ids, before[0], beside):
            if found is None:
                spans.append(None)
            elif found[0] == 0:
                spans.append((found[1], found[2]))
            elif found[1] < len(beside) - len(choice) and found[2] <= len(beside) - len(choice):
                spans.append((starts[1] + found[1], starts[1] + found[2]))
            else:
                shift = start - (len(beside) - len(choice))
                spans.append((max(found[1] + shift, start), found[2] + shift))
        places.append(spans)
    return Reading(whole, words_in(whole), places)


@read.register(TokenClassification)
def _(task: TokenClassification, row: Row, item: Item, tokenizer: PreTrainedTokenizerFast) -> Reading:
    whole, starts = joined(*row["tokens"])
    spans = [(start, start + len(word)) for start, word in zip(starts, row["tokens"], strict=True)]
    first = dict(zip(item["positions"], item["words"], strict=True))
    special, places, word = specials(tokenizer), [], None
    for place, number in enumerate(item["input_ids"][0]):
        word = first.get(place, None if number in special else word)
        places.append(None if word is None else spans[word])
    return Reading(whole.replace("\n", " "), [span for span in spans if span[1] > span[0]], [places])


@read.register(ExtractiveQa)
def _(task: ExtractiveQa, row: Row, item: Item, tokenizer: PreTrainedTokenizerFast) -> Reading:
    whole, starts = joined(row["question"], row["context"])
    special, ids = specials(tokenizer), item["input_ids"][0]
    asked = [p for p, begin in enumerate(item["begins"]) if begin < 0 and ids[p] not in special]
    places: list[Span | None] = [
        (starts[1] + begin, starts[1] + end) if begin >= 0 else None
        for begin, end in zip(item["begins"], item["ends"], strict=True)
    ]
    question = aligned(tokenizer, [ids[p] for p in asked], row["question"], special=False)
    for place, found in zip(asked, question, strict=True):
        places[place] = None if found is None else (found[1], found[2])
    return Reading(whole, words_in(whole), [places])


def _of_prompt(text: str, item: Item, tokenizer: PreTrainedTokenizerFast, *, special: bool = True) -> Reading:
    ids = item["input_ids"][0]
    found = aligned(tokenizer, ids[: item["prompt_tokens"]], text, special=special)
    rest: list[Any] = [None] * (len(ids) - len(found))
    return Reading(text, words_in(text), [shifted(found + rest, [0])])


@read.register(PromptedTask)
def _(task: PromptedTask, row: Row, item: Item, tokenizer: PreTrainedTokenizerFast) -> Reading:
    return _of_prompt(task.prompt(row)[0], item, tokenizer)


@read.register(RenderedTask)
def _(task: RenderedTask, row: Row, item: Item, tokenizer: PreTrainedTokenizerFast) -> Reading:
    return _of_prompt(task.prompt(row)[0], item, tokenizer)


@read.register(Chat)
def _(task: Chat, row: Row, item: Item, tokenizer: PreTrainedTokenizerFast) -> Reading:
    messages = row["messages"]
    asked = messages[:-1] if messages[-1]["role"] == ANSWERS else messages
    text = rendered(tokenizer, task._template(tokenizer), asked, ask=True)
    return _of_prompt(text, item, tokenizer, special=False)


def specials(tokenizer: PreTrainedTokenizerFast) -> frozenset[int]:
    """Give the ids of special tokens; the one for unknown words is a word's."""
    return frozenset(set(tokenizer.all_special_ids) - {tokenizer.unk_token_id})
