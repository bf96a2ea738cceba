"""Words that stand in for each other, such as pronouns and names: a text with each of them put in another's place."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from taskloom.errors import DataError, Fault
from taskloom.types import Row


class Swaps:
    """Sets of words that take each other's places.

    Words are found whole and in one pass, so that no swap undoes another: of ``[he, she]``, "He saw she" becomes "She
    saw he". A word listed in small letters is found in any letters, and its stand-in is written in the same: as
    listed, with a capital, or in capitals. One listed with a capital, a name, is not found in small letters: "will"
    stays where ``[Will, Maya]`` is listed.

    Args:
        sets: each two words or more; a word may be several, as "my wife".

    Raises:
        DataError: with every set of fewer than two words, and every word that is no text or stands in two sets.

    >>> Swaps([["he", "she"], ["his", "her"]]).text("He and HIS sister think that she is there.")
    'She and HER sister think that he is there.'
    """

    def __init__(self, sets: Sequence[Sequence[str]]) -> None:
        faults = list(_faults(sets))
        if faults:
            raise DataError(*faults)
        self.sets = [list(words) for words in sets]
        self._place = {_plain(word): (words, place) for words in self.sets for place, word in enumerate(words)}

    @property
    def turns(self) -> int:
        """How many other forms of a text there are at most: one for pairs, two for sets of three."""
        return max(len(words) for words in self.sets) - 1

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        longest_first = sorted(self._place, key=len, reverse=True)
        words = "|".join(r"\s+".join(map(re.escape, word.split())) for word in longest_first)
        return re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE)

    def text(self, text: str, turn: int = 1) -> str:
        """Put into each listed word's place the one that stands `turn` places after it in its set, around its end.

        A pair is swapped back by swapping again; a set of k words by k turns.
        """

        def stand_in(found: re.Match[str]) -> str:
            said = found.group()
            words, place = self._place.get(_plain(said), ([said], 0))  # "ſ" is found as "s", and is no "s"
            listed = words[place]
            if listed[:1].isupper() and said[:1].islower():
                return said
            return _written_alike(words[(place + turn) % len(words)], said, listed)

        return self._pattern.sub(stand_in, text)

    def row(self, row: Row, columns: Sequence[str], turn: int = 1) -> Row:
        """Give a row with the texts of some columns swapped; a list of words or texts is swapped entry by entry."""
        changed = {key: self._value(row[key], turn) for key in columns if key in row}
        return {**row, **changed}

    def _value(self, value: Any, turn: int) -> Any:
        if isinstance(value, str):
            return self.text(value, turn)
        return [self._value(each, turn) for each in value] if isinstance(value, list) else value


def read_swaps(path: str | Path) -> Swaps:
    """Read sets of words from a YAML file: a list of lists, such as ``- [he, she]``.

    Raises:
        DataError: the file is missing, is no such list, or holds a fault of `Swaps`.
    """
    place = Path(path).expanduser()
    fix = "Write a line such as `- [he, she]` for each set of words"
    try:
        sets = YAML(typ="safe", pure=True).load(place.read_text(encoding="utf-8-sig"))
    except OSError as error:
        found = "no such file" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
        raise DataError(Fault(str(path), "be a list of sets of words", found, fix)) from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise DataError(Fault(str(path), "be YAML in UTF-8", str(error).splitlines()[0], fix)) from error
    if not isinstance(sets, list) or not sets or not all(isinstance(words, list) for words in sets):
        found = "nothing" if sets is None else f"a {type(sets).__name__}" if not isinstance(sets, list) else "others"
        raise DataError(Fault(str(path), "be a list of sets of words", found, fix))
    return Swaps(sets)


def _faults(sets: Sequence[Sequence[Any]]) -> list[Fault]:
    faults = []
    if not sets:
        faults.append(Fault("swaps", "hold one set of words at least", "none", "Write `[[he, she], [his, her]]`"))
    for number, words in enumerate(sets, start=1):
        where = f"swaps, set {number}"
        wrong = [word for word in words if not isinstance(word, str) or not word.strip()]
        if len(words) < 2:
            faults.append(Fault(where, "hold two words or more", f"`{list(words)}`"))
        elif wrong:
            fix = "Put it into quotes" if wrong[0] not in (None, "") else ""
            faults.append(Fault(where, "hold words", f"`{wrong[0]}`", fix))
    counts = Counter(_plain(word) for words in sets for word in words if isinstance(word, str))
    for word, count in counts.items():
        if count > 1 and word:
            fix = "A word has one stand-in; keep it where it is most often right"
            faults.append(Fault("swaps", "hold each word once", f"`{word}` {count} times", fix))
    return faults


def _plain(word: str) -> str:
    """Give a word in small letters, its parts one blank apart."""
    return " ".join(word.lower().split())


def _written_alike(word: str, said: str, listed: str) -> str:
    """Write a word in the letters in which another was met, beside how that one is listed."""
    if said == listed:
        return word
    if len(said) > 1 and said.isupper():
        return word.upper()
    return word[:1].upper() + word[1:] if said[:1].isupper() else word
