"""Constrained decoding: automata over token ids that keep what is written in a form that can be read back.

A constraint is a function of what one answer holds so far. It knows the fewest tokens that end the answer from each of
its places, so an answer is whole also where tokens run out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers import LogitsProcessor

from taskloom.generation.forms import NOTHING, Word, is_writable

if TYPE_CHECKING:
    from torch import Tensor

    from taskloom.generation.spelling import Spelling

Place = Hashable
"""A place in an automaton."""

Edge = tuple[int, Place, int]
"""A token, the place after it, and the fewest tokens from there that end the answer, its end sign among them."""

END: Place = "end"
ENDLESS = 1_000_000_000
"""More tokens than any answer has: the price of a path that has no end."""

LIMIT_FOLLOWED = 4096
"""How many beginnings of answers a constraint keeps the places of, so that each token costs one step."""

Steps = dict[int, tuple[frozenset[Place], int]]
"""Token -> the places after it, and the fewest tokens from there that end the answer."""

Span = tuple[int, int, int]
"""The number of a label, a value's first word, and the word after its last."""


class Constraint(ABC):
    """What an answer may be, token by token.

    Subclasses give an automaton that may be in several places at once; this class follows it.

    Args:
        eos: the token that ends an answer.
        opening: the tokens that every answer begins with, before what is chosen; those of BART's targets, for example.
    """

    def __init__(self, eos: int, opening: Sequence[int] = ()) -> None:
        self.eos = eos
        self.opening = tuple(opening)
        self._steps: dict[frozenset[Place], Steps] = {}
        self._followed: dict[tuple[int, ...], Steps] = {}

    @abstractmethod
    def starts(self) -> Iterable[Place]:
        """Give the places before the first token."""

    @abstractmethod
    def edges(self, place: Place) -> Iterable[Edge]:
        """Give what may follow at a place; every place that is led to has a path to the end."""

    def allowed(self, generated: Sequence[int], left: int | None = None) -> list[int]:
        """Say which tokens may come next.

        Args:
            generated: the answer so far. What follows its end, or strays from the form, can only be ended.
            left: how many tokens may be written yet, this one and the end sign among them; None for any number.

        Returns:
            One token or more: those from which the answer can still be ended, or, where none is left for that, those
            that come nearest to it.
        """
        steps = self._after(generated)
        if not steps:
            return [self.eos]
        fewest = min(rest for _, rest in steps.values())
        limit = ENDLESS if left is None else max(fewest, left - 1)
        return [token for token, (_, rest) in steps.items() if rest <= limit]

    def accepts(self, generated: Sequence[int]) -> bool:
        """Say whether an answer is whole, its end sign not among its tokens."""
        return self.eos not in generated and self.eos in self._after(generated)

    def fewest(self) -> int:
        """Count the tokens of the shortest answer, its end sign among them."""
        return 1 + min(rest for _, rest in self._after(()).values())

    def _after(self, generated: Sequence[int]) -> Steps:
        begun = tuple(generated)
        if begun in self._followed:
            return self._followed[begun]
        if len(begun) <= len(self.opening):
            steps = self._opened(begun)
        else:
            before = self._followed.get(begun[:-1])
            steps = self._followed_by(self._replayed(begun[:-1]) if before is None else before, begun[-1])
        if len(self._followed) >= LIMIT_FOLLOWED:
            self._followed.clear()
        self._followed[begun] = steps
        return steps

    def _opened(self, begun: tuple[int, ...]) -> Steps:
        steps = self._step(frozenset(self.starts()))
        left = self.opening[len(begun) :]
        if begun + left != self.opening:
            return {}
        return {left[0]: (frozenset(), len(left) + min(rest for _, rest in steps.values()))} if left else steps

    def _replayed(self, begun: tuple[int, ...]) -> Steps:
        steps = self._opened(begun[: len(self.opening)])
        for token in begun[len(self.opening) :]:
            steps = self._followed_by(steps, token)
        return steps

    def _followed_by(self, steps: Steps, token: int) -> Steps:
        return self._step(steps[token][0]) if token in steps and token != self.eos else {}

    def _step(self, places: frozenset[Place]) -> Steps:
        known = self._steps.get(places)
        if known is None:
            reached: dict[int, tuple[set[Place], int]] = {}
            for place in places:
                for token, after, rest in self.edges(place):
                    held, fewest = reached.get(token, (set(), ENDLESS))
                    held.add(after)
                    reached[token] = (held, min(fewest, rest))
            known = {token: (frozenset(held), rest) for token, (held, rest) in reached.items()}
            self._steps[places] = known
        return known


class Choices(Constraint):
    """One of some answers.

    Args:
        sequences: the answers' tokens, without the end.
        eos: the token that ends an answer.
        opening: the tokens that every answer begins with.
    """

    def __init__(self, sequences: Iterable[Sequence[int]], eos: int, opening: Sequence[int] = ()) -> None:
        super().__init__(eos, opening)
        self.sequences = [tuple(sequence) for sequence in sequences]
        if not self.sequences:
            raise ValueError("there should be one answer or more to choose from")

    def starts(self) -> Iterable[Place]:
        """Give the beginning of every answer."""
        return [(number, 0) for number in range(len(self.sequences))]

    def edges(self, place: Any) -> Iterator[Edge]:
        """Go on along an answer, or end it."""
        number, offset = place
        sequence = self.sequences[number]
        if offset == len(sequence):
            yield self.eos, END, 0
        else:
            yield sequence[offset], (number, offset + 1), len(sequence) - offset


class Extraction(Constraint):
    """Labelled values out of a text: ``label: value; label: value``, or ``none``.

    A value is a run of the text's words, spelled as they stand there, and a label one of a list. Pairs come in the
    order of their values' first words, and those of one first word in the order of the labels, so that no pair comes
    twice and every answer ends; values may overlap. Words that hold a semicolon, or signs that the tokenizer does not
    know, cannot be part of a value.

    The labels, the values and what stands between them are spelled apart and joined, in training (`tokens_of`) as here.

    Args:
        labels: without colons and semicolons; sorted by the constraint.
        words: of the text.
        spelling: how the tokenizer writes words.
        eos: the token that ends an answer.
        opening: the tokens that every answer begins with.
    """

    overlapping = True

    def __init__(
        self, labels: Iterable[str], words: Sequence[Word], spelling: Spelling, eos: int, opening: Sequence[int] = ()
    ) -> None:
        super().__init__(eos, opening)
        self.labels = sorted(labels)
        self.none = spelling.after_blank(NOTHING)
        self.separator = spelling.glued(";")
        self.names = [spelling.after_blank(f"{label}:") for label in self.labels]
        # A word is spelled in one way where a value begins with it, and may be in another where it goes on.
        self.firsts = [spelling.after_blank(word.text) if is_writable(word.text) else () for word in words]
        self.nexts = [
            spelling.glued(word.text) if word.glued and first else first
            for word, first in zip(words, self.firsts, strict=True)
        ]
        # The fewest tokens of a value that begins at a word or behind it.
        self.shortest = [ENDLESS] * (len(words) + 1)
        for place in reversed(range(len(words))):
            self.shortest[place] = min(self.shortest[place + 1], len(self.firsts[place]) or ENDLESS)

    def starts(self) -> Iterable[Place]:
        """Give the beginnings of "none" and of every label."""
        return [("none", 0), *(("label", 0, -1, number, 0) for number in self._open(0, -1))]

    def edges(self, place: Any) -> Iterator[Edge]:
        """Go on inside "none", a label, a value or the sign between two pairs."""
        kind, *rest = place
        paths: dict[str, Callable[..., Iterator[Edge]]] = {
            "none": self._none,
            "label": self._label,
            "value": self._value,
            "next": self._next,
        }
        return paths[kind](*rest)

    def tokens_of(self, spans: Iterable[Span]) -> list[int]:
        """Spell an answer, without its end; spans that no answer can hold are left out.

        Args:
            spans: in any order.
        """
        tokens: list[int] = []
        context = (0, -1)
        for first, number, end in sorted((first, number, end) for number, first, end in spans):
            value = self._spelled(first, end)
            if value and self.names[number] and first >= self._bound(*context, number):
                tokens += [*(self.separator if tokens else ()), *self.names[number], *value]
                context = self._context(first, number, end)
        return tokens or list(self.none)

    def _spelled(self, first: int, end: int) -> list[int]:
        pieces = [self.firsts[first], *self.nexts[first + 1 : end]]
        return [token for piece in pieces for token in piece] if all(pieces) else []

    def _context(self, first: int, number: int, end: int) -> tuple[int, int]:
        """Say what the pair after a value depends on: a word, and a label; later labels alone begin at that word."""
        return (first, number) if self.overlapping else (end, -1)

    def _bound(self, place: int, last: int, number: int) -> int:
        """Say where the values of a label may begin."""
        return min(place + (number <= last), len(self.firsts))

    def _open(self, place: int, last: int) -> list[int]:
        """List the labels of which a value can come yet."""
        numbers = range(len(self.labels))
        return [n for n in numbers if self.names[n] and self.shortest[self._bound(place, last, n)] < ENDLESS]

    def _fewest(self, place: int, last: int, number: int) -> int:
        """Count the tokens of a label's shortest pair, and the end sign."""
        return len(self.names[number]) + self.shortest[self._bound(place, last, number)] + 1

    def _none(self, offset: int) -> Iterator[Edge]:
        if offset == len(self.none):
            yield self.eos, END, 0
        else:
            yield self.none[offset], ("none", offset + 1), len(self.none) - offset

    def _label(self, place: int, last: int, number: int, offset: int) -> Iterator[Edge]:
        name = self.names[number]
        if offset < len(name):
            after = ("label", place, last, number, offset + 1)
            yield name[offset], after, self._fewest(place, last, number) - offset - 1
            return
        for first in range(self._bound(place, last, number), len(self.firsts)):
            if self.firsts[first]:
                owner = (first, number) if self.overlapping else None
                yield self.firsts[first][0], ("value", owner, first, True, 1), len(self.firsts[first])

    def _value(self, owner: tuple[int, int] | None, word: int, is_first: bool, offset: int) -> Iterator[Edge]:
        spelled = (self.firsts if is_first else self.nexts)[word]
        if offset < len(spelled):
            yield spelled[offset], ("value", owner, word, is_first, offset + 1), len(spelled) - offset
            return
        yield self.eos, END, 0
        if word + 1 < len(self.nexts) and self.nexts[word + 1]:
            yield self.nexts[word + 1][0], ("value", owner, word + 1, False, 1), len(self.nexts[word + 1])
        context = (word + 1, -1) if owner is None else owner
        if self._open(*context):
            yield from self._next(*context, 0)

    def _next(self, place: int, last: int, offset: int) -> Iterator[Edge]:
        labels = self._open(place, last)
        if offset < len(self.separator):
            rest = len(self.separator) - offset - 1 + min(self._fewest(place, last, number) for number in labels)
            yield self.separator[offset], ("next", place, last, offset + 1), rest
            return
        for number in labels:
            yield from self._label(place, last, number, 0)


class Tags(Extraction):
    """The spans of a tagged sentence, in the form of `Extraction`: a tag for every word would be many times as long.

    Words are those that are tagged. Spans come in the sentence's order and do not overlap, so an answer is read back
    from left to right, each value at its first place behind the value before it.
    """

    overlapping = False


class ConstraintProcessor(LogitsProcessor):
    """Give every token but the allowed ones no probability, in `generate` of transformers.

    Args:
        constraints: one for each prompt of the batch; None for any answer.
        prompt_tokens: how many leading tokens of a row are none of the answer: a decoder's prompt with its padding, or
            the one token with which an encoder-decoder starts to write.
        max_new_tokens: tokens of an answer at most, its end sign among them; None for any number.
        num_beams: rows of each prompt, which lie side by side.
    """

    def __init__(
        self,
        constraints: Sequence[Constraint | None],
        prompt_tokens: int,
        max_new_tokens: int | None = None,
        num_beams: int = 1,
    ) -> None:
        self.num_beams = num_beams
        self.constraints = list(constraints)
        self.prompt_tokens = prompt_tokens
        self.max_new_tokens = max_new_tokens

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Keep the scores of allowed tokens: [row, vocabulary]."""
        if len(scores) != len(self.constraints) * self.num_beams:
            raise ValueError(f"{len(scores)} rows are not {self.num_beams} for each of {len(self.constraints)} prompts")
        answers = input_ids[:, self.prompt_tokens :].tolist()
        left = None if self.max_new_tokens is None else self.max_new_tokens - len(answers[0])
        rows: list[int] = []
        tokens: list[int] = []
        free: list[int] = []
        for row, answer in enumerate(answers):
            constraint = self.constraints[row // self.num_beams]
            if constraint is None:
                free.append(row)
                continue
            allowed = constraint.allowed(answer, left)
            rows += [row] * len(allowed)
            tokens += allowed
        kept = torch.full_like(scores, -torch.inf)
        places = torch.tensor([rows, tokens], dtype=torch.long, device=scores.device)
        kept[places[0], places[1]] = scores[places[0], places[1]]
        if free:
            kept[free] = scores[free]
        return kept
