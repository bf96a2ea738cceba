"""The written form of labelled values, ``label: value; label: value`` or ``none``, and how it is read back.

What a tokenizer gives back may lack the case, the accents and the blanks of what it was given, so labels and values
are found again by what it cannot lose.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

NOTHING = "none"
"""The answer that there is nothing to extract."""

WITHOUT_BLANKS = ("CJK UNIFIED", "CJK COMPATIBILITY", "HIRAGANA", "KATAKANA")
"""How the names of characters begin that are words of their own, since their scripts put no blanks between words."""


class Word(NamedTuple):
    """A word or a sign of a text.

    Attributes:
        text: as it stands there.
        glued: whether no blank stands before it.
        start: its first character's place in the text.
        end: the place behind its last.
    """

    text: str
    glued: bool = False
    start: int = 0
    end: int = 0


def words_of(text: str) -> list[Word]:
    """Cut a text into runs of letters and digits, and single signs.

    >>> [word.text for word in words_of("In New York, 3.5 km")]
    ['In', 'New', 'York', ',', '3', '.', '5', 'km']
    """
    bounds: list[tuple[int, int]] = []
    before = ""
    for place, sign in enumerate(text):
        kind = _kind(sign)
        # Accents and the like go with what they stand on.
        if bounds and bounds[-1][1] == place and (kind == "mark" or kind == before == "letter"):
            bounds[-1] = (bounds[-1][0], place + 1)
        elif kind != "blank":
            bounds.append((place, place + 1))
            before = kind
        else:
            before = kind
    ends = [0, *(end for _, end in bounds)]
    return [
        Word(text[start:end], start > 0 and start == last, start, end)
        for (start, end), last in zip(bounds, ends, strict=False)
    ]


def text_of(words: Sequence[Word]) -> str:
    """Write a run of words, with one blank wherever some stood.

    >>> text_of(words_of("3.5   km"))
    '3.5 km'
    """
    return "".join(word.text if word.glued or not place else f" {word.text}" for place, word in enumerate(words))


@lru_cache(maxsize=65_536)
def bare(text: str) -> str:
    """Take case, accents, blanks and unseen signs away, which tokenizers may lose.

    >>> bare("Zürich  HB")
    'zurichhb'
    """
    kept = (sign for sign in unicodedata.normalize("NFKD", text) if unicodedata.category(sign) not in _LOST)
    return "".join("".join(kept).split()).casefold()


def is_writable(text: str) -> bool:
    """Say whether a word can be part of a value: not if it holds a semicolon, or nothing that is kept."""
    return bool(bare(text)) and ";" not in bare(text)


def runs_of(words: Sequence[Word], value: str) -> list[tuple[int, int]]:
    """Find where a value stands in a text.

    Returns:
        The first word and the word after the last of each place, those first where it stands letter by letter.
    """
    wanted = bare(value)
    found = [] if not wanted else list(_runs([bare(word.text) for word in words], wanted))
    exact = " ".join(value.split())
    return sorted(found, key=lambda run: text_of(words[run[0] : run[1]]) != exact)


def write_pairs(pairs: Iterable[tuple[str, str]]) -> str:
    """Write pairs of a label and its value.

    >>> write_pairs([("city", "New York"), ("day", "today")])
    'city: New York; day: today'
    """
    return "; ".join(f"{label}: {' '.join(value.split())}" for label, value in pairs) or NOTHING


def read_pairs(text: str, labels: Iterable[str]) -> list[tuple[str, str]] | None:
    """Read pairs of a label and its value back; None where a text is not of the form.

    >>> read_pairs("city : new york ; day : today", ["city", "day"])
    [('city', 'new york'), ('day', 'today')]
    """
    if bare(text) == NOTHING:
        return []
    held = list(labels)
    pairs = []
    for part in text.split(";"):
        label, _, value = part.partition(":")
        name = name_of(label, held)
        if name is None or not bare(value):
            return None
        pairs.append((name, value.strip()))
    return pairs


def name_of(text: str, names: Sequence[str]) -> str | None:
    """Say which of some names is written: the one that is written so, else one that differs in what may be lost.

    >>> name_of("play _ music", ["PlayMusic", "play_music"])
    'play_music'
    """
    if text.strip() in names:
        return text.strip()
    return next((name for name in names if bare(name) == bare(text)), None)


def _runs(words: Sequence[str], wanted: str) -> Iterator[tuple[int, int]]:
    for first in range(len(words)):
        rest, last = wanted, first
        while last < len(words) and words[last] and rest.startswith(words[last]):
            rest = rest[len(words[last]) :]
            last += 1
            if not rest:
                yield first, last
                break


_LOST = {"Mn", "Cc", "Cf", "Cs", "Co", "Cn"}


def _kind(sign: str) -> str:
    if sign.isspace() or unicodedata.category(sign) == "Cc":
        return "blank"
    if unicodedata.category(sign)[0] == "M":
        return "mark"
    if unicodedata.name(sign, "").startswith(WITHOUT_BLANKS):
        return "alone"
    return "letter" if sign.isalnum() or sign == "_" else "sign"
