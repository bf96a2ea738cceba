"""Texts and pairs of texts: what makes one faulty, and how it becomes the backbone's input."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from taskloom.types import Item, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def text_fault(row: Row, *columns: str, optional: Sequence[str] = ()) -> str | None:
    """Say which of the columns holds no text, or None; optional ones may be absent or null."""
    for column in (*columns, *(name for name in optional if row.get(name) is not None)):
        value = row.get(column)
        if not isinstance(value, str):
            return f"have text in `{column}`, not {_kind(value)}"
        if not value.strip():
            return f"have text in `{column}`, which is empty"
    return None


def number_fault(value: Any, column: str) -> str | None:
    """Say why a value is no finite number, or None."""
    number = as_number(value)
    if number is None:
        return f"have a number in `{column}`, not {_kind(value)}"
    return None if math.isfinite(number) else f"have a finite number in `{column}`, not `{value}`"


def as_number(value: Any) -> float | None:
    """Read a number, also one that a CSV file gives as text; None where there is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def encode_texts(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], pairs: Sequence[str | None], max_length: int
) -> list[dict[str, list[int]]]:
    """Tokenise texts, each with its pair where it has one, cut to `max_length` tokens.

    Returns:
        [text] ``input_ids`` and, where the tokenizer gives them, ``token_type_ids``: [token] each.
    """
    inputs = [text if pair is None else (text, pair) for text, pair in zip(texts, pairs, strict=True)]
    single = [i for i, pair in enumerate(pairs) if pair is None]
    double = [i for i, pair in enumerate(pairs) if pair is not None]
    encoded: list[dict[str, list[int]]] = [{}] * len(inputs)
    for indices in (single, double):
        if indices:
            batch = tokenizer([inputs[i] for i in indices], truncation=True, max_length=max_length)
            for place, index in enumerate(indices):
                encoded[index] = sequence_of(batch, place)
    return encoded


def sequence_of(batch: Any, index: int) -> dict[str, list[int]]:
    """Take one sequence out of a tokenised batch, without its mask."""
    return {key: list(batch[key][index]) for key in ("input_ids", "token_type_ids") if key in batch}


def item_of(sequences: Iterable[dict[str, list[int]]], **extra: Any) -> Item:
    """Make an item of its sequences and of what the task adds."""
    sequences = list(sequences)
    return {key: [sequence[key] for sequence in sequences] for key in sequences[0]} | extra


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"{type(value).__name__} `{value}`"[:80]
