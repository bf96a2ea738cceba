"""How a sentence is written from a template: dice, pieces, noise, spans and tokens.

A template is one line with roles in braces: ``Please cancel order {order_number}.`` Every place of every value is
tracked while the text is joined, so tags and answer offsets are right by construction.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Generic, TypeVar

Card = TypeVar("Card")

SPLITS = ("train", "validation", "test")

Wordings = Mapping[str, tuple[str, ...]]
"""split -> its own wordings of one meaning; no wording stands in two splits."""

_ROLE = re.compile(r"\{(\w+)\}")
_EDGES = re.compile(r"^([(\"']*)(.*?)([)\"'.,!?;:]*)$")
_LIMIT_TYPO_WORD = 5


def wordings(train: str, validation: str, test: str) -> Wordings:
    """Read three blocks of text, one wording a line."""
    blocks = {"train": train, "validation": validation, "test": test}
    return {split: tuple(line.strip() for line in text.splitlines() if line.strip()) for split, text in blocks.items()}


class Dice:
    """Seeded draws that are the same on every Python and under every PYTHONHASHSEED.

    They use `Random.random` alone, the one method whose sequence Python promises to keep for a seed.
    """

    def __init__(self, *keys: object) -> None:
        self._random = Random("/".join(str(key) for key in keys))  # noqa: S311 - makes sentences, not secrets

    def below(self, limit: int) -> int:
        """Draw a whole number from 0 to `limit` - 1."""
        return int(self._random.random() * limit)

    def chance(self, probability: float) -> bool:
        """Say yes with this probability."""
        return self._random.random() < probability

    def pick(self, options: Sequence[Card]) -> Card:
        """Draw one of `options`."""
        return options[self.below(len(options))]

    def shuffle(self, options: Sequence[Card]) -> list[Card]:
        """Give `options` in a drawn order."""
        order = list(options)
        for place in range(len(order) - 1, 0, -1):
            other = self.below(place + 1)
            order[place], order[other] = order[other], order[place]
        return order

    def sample(self, options: Sequence[Card], count: int) -> list[Card]:
        """Draw `count` of `options`, none twice."""
        return self.shuffle(options)[:count]


class Deck(Generic[Card]):
    """Deals its cards in a drawn order and starts again when all were dealt: balanced at every length."""

    def __init__(self, dice: Dice, cards: Sequence[Card]) -> None:
        self._dice = dice
        self._cards = cards
        self._left: list[Card] = []

    def deal(self) -> Card:
        """Give the next card."""
        if not self._left:
            self._left = self._dice.shuffle(self._cards)
        return self._left.pop()


@dataclass(frozen=True)
class Piece:
    """A stretch of text: the value of a role, or words of a template (role None)."""

    text: str
    role: str | None = None


@dataclass(frozen=True)
class Span:
    """Where the value of a role stands in a text: characters from `start` up to `end`."""

    role: str
    start: int
    end: int


def roles_of(template: str) -> tuple[str, ...]:
    """Give the roles of a template in the order in which they stand."""
    return tuple(_ROLE.findall(template))


def fill(template: str, values: Mapping[str, str]) -> list[Piece]:
    """Write values into a template, each as a piece of its own."""
    pieces = []
    for place, part in enumerate(_ROLE.split(template)):
        if part:
            pieces.append(Piece(values[part], part) if place % 2 else Piece(part))
    return pieces


def sentences(parts: Sequence[Sequence[Piece]]) -> list[Piece]:
    """Put sentences one after another with a space between."""
    pieces: list[Piece] = []
    for part in parts:
        if pieces:
            pieces.append(Piece(" "))
        pieces.extend(part)
    return pieces


def join(pieces: Sequence[Piece]) -> tuple[str, tuple[Span, ...]]:
    """Give the text of all pieces and where the values stand in it."""
    text = ""
    spans = []
    for piece in pieces:
        if piece.role is not None:
            spans.append(Span(piece.role, len(text), len(text) + len(piece.text)))
        text += piece.text
    return text, tuple(spans)


def mapped(pieces: Sequence[Piece], change: Callable[[str], str]) -> list[Piece]:
    """Change the text of every piece, values included."""
    return [Piece(change(piece.text), piece.role) for piece in pieces]


def mistyped(pieces: Sequence[Piece], dice: Dice) -> list[Piece]:
    """Put one slip of the fingers into a long word of the template's own words; values stay as they are."""
    places = [
        (number, match)
        for number, piece in enumerate(pieces)
        if piece.role is None
        for match in re.finditer(r"[a-z]+", piece.text)
        if len(match.group()) >= _LIMIT_TYPO_WORD
    ]
    if not places:
        return list(pieces)
    number, match = dice.pick(places)
    text = pieces[number].text
    at = match.start() + 1 + dice.below(len(match.group()) - 2)
    slip = dice.pick((text[at + 1] + text[at], text[at + 1], text[at] * 2 + text[at + 1]))
    changed = list(pieces)
    changed[number] = Piece(text[:at] + slip + text[at + 2 :])
    return changed


def noisy(pieces: Sequence[Piece], dice: Dice, shouted: bool = False) -> list[Piece]:
    """Leave most messages as they are; write some with a slip, some in lower case, some without the last point."""
    changed = list(pieces)
    if dice.chance(0.10):
        changed = mistyped(changed, dice)
    if dice.chance(0.12) and not shouted:
        changed = mapped(changed, str.lower)
    if dice.chance(0.06) and changed[-1].role is None:
        changed[-1] = Piece(changed[-1].text.rstrip(".!"))
    return [piece for piece in changed if piece.text]


def tokenise(text: str) -> list[tuple[int, int]]:
    """Cut a text at white space and take punctuation off the words' edges: [start, end) of every token."""
    tokens: list[tuple[int, int]] = []
    for match in re.finditer(r"\S+", text):
        edges = _EDGES.match(match.group())
        head, body = (len(edges.group(1)), len(edges.group(2))) if edges else (0, len(match.group()))
        start, end = match.start(), match.end()
        tokens.extend((at, at + 1) for at in range(start, start + head))
        if body:
            tokens.append((start + head, start + head + body))
        tokens.extend((at, at + 1) for at in range(start + head + body, end))
    return tokens


def tagged(text: str, spans: Sequence[Span], slots: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Give the tokens of a text and their BIO tags; `slots` says which slot each role fills."""
    tokens, tags = [], []
    for start, end in tokenise(text):
        span = next((span for span in spans if span.start <= start and end <= span.end), None)
        tokens.append(text[start:end])
        if span is None:
            tags.append("O")
        else:
            tags.append(f"{'B' if start == span.start else 'I'}-{slots[span.role]}")
    return tokens, tags
