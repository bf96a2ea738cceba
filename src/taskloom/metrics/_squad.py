"""What metrics of short answers share: the normalisation of SQuAD's script, and the best of several answers."""

from __future__ import annotations

import re
import string
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise_answer(text: str) -> str:
    """Write in lower case, drop ASCII punctuation, then articles, then superfluous white space.

    >>> normalise_answer("The  Queen's  Gambit, a chess-opening.")
    'queens gambit chessopening'
    """
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def best_agreement(prediction: str, answers: Sequence[str], agreement: Callable[[str, str], float]) -> float:
    """Compare a prediction with each acceptable answer and keep the best.

    Args:
        prediction: what the model said.
        answers: what is acceptable; none where the question cannot be answered.
        agreement: (normalised prediction, normalised answer) -> 0 to 1. An unanswerable question's answer is "".
    """
    said = normalise_answer(prediction)
    return max(agreement(said, normalise_answer(answer)) for answer in answers or [""])
