"""Random examples of each kind of prediction, for laws that hold for every metric."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.random import Generator

LABELS = ("anger", "joy", "fear", "trust", "awe")
TAGS = ("O", "O", "B-city", "I-city", "B-day", "I-day")
WORDS = ("the", "old", "Queen's", "gambit", "1912", "in", "a", "York,", "new")

RATE_RIGHT = 0.6
"""How often a random prediction repeats its reference, so that scores lie away from 0 and 1."""


def random_label(generator: Generator) -> str:
    # Uneven on purpose: the last labels are often absent from a bootstrap sample.
    return LABELS[min(generator.geometric(0.5), len(LABELS)) - 1]


def random_labels(generator: Generator) -> list[str]:
    return [label for label in LABELS if generator.random() < 0.3]


def random_tags(generator: Generator) -> list[str]:
    return [TAGS[place] for place in generator.integers(len(TAGS), size=int(generator.integers(1, 7)))]


def random_text(generator: Generator) -> str:
    return " ".join(WORDS[place] for place in generator.integers(len(WORDS), size=int(generator.integers(0, 4))))


def random_answers(generator: Generator) -> list[str]:
    return [random_text(generator) for _ in range(generator.integers(0, 3))]


def random_number(generator: Generator) -> float:
    return float(generator.integers(0, 6)) / 2  # halves from 0 to 2.5: ties are frequent


def random_choice(generator: Generator) -> int:
    return int(generator.integers(4))


def random_extraction(generator: Generator) -> list[dict[str, str]]:
    pairs = [(random_label(generator), WORDS[generator.integers(len(WORDS))]) for _ in range(generator.integers(0, 4))]
    return [{"label": label, "value": value} for label, value in pairs]


def random_text_of_words(generator: Generator) -> str:
    return " ".join(WORDS[place] for place in generator.integers(len(WORDS), size=int(generator.integers(1, 7))))


REFERENCES: dict[str, Callable[[Generator], Any]] = {
    "label": random_label,
    "labels": random_labels,
    "tags": random_tags,
    "text": random_answers,
    "number": random_number,
    "choice": random_choice,
    "extraction": random_extraction,
    "loss": random_text_of_words,
}
"""Kind of prediction -> what a reference of it may be."""


def right_prediction(kind: str, reference: Any) -> Any:
    """Answer as the reference says."""
    if kind == "text":
        return reference[0] if reference else ""
    if kind == "loss":  # no doubt of any word
        return {"nll": 0.0, "tokens": len(reference.split())}
    return reference


def wrong_prediction(kind: str, reference: Any, generator: Generator) -> Any:
    """Answer at random, in the form that the reference asks for."""
    if kind == "text":
        return random_text(generator)
    if kind == "tags":
        return [TAGS[place] for place in generator.integers(len(TAGS), size=len(reference))]
    if kind == "loss":
        tokens = len(reference.split())
        return {"nll": float(generator.exponential(tokens)), "tokens": tokens}
    return REFERENCES[kind](generator)


def random_examples(kind: str, generator: Generator, n: int) -> tuple[list[Any], list[Any]]:
    """Make predictions and references of n examples."""
    references = [REFERENCES[kind](generator) for _ in range(n)]
    predictions = [
        right_prediction(kind, reference)
        if generator.random() < RATE_RIGHT
        else wrong_prediction(kind, reference, generator)
        for reference in references
    ]
    return predictions, references
