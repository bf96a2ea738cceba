"""Explanations in a run folder: one JSON line each; reading them needs no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskloom.record import VERSION, Record, read_lines, write_text

if TYPE_CHECKING:
    from taskloom.attribution.explaining import Explanation

FOLDER = "explanations"


def explanations_path(record: Record, task: str) -> Path:
    """Say where a task's explanations lie."""
    return record.folder / FOLDER / record.predictions(task, "test").name


def line_of(explanation: Explanation, source: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Give one line: what was asked and answered, and what each word adds.

    Args:
        explanation: itself.
        source: where the row came from.
        asked: the row without what is right, as lines of predictions have it in ``input``.
    """
    held = asdict(explanation)
    words = [{**word, "weight": _number(word["weight"])} for word in held.pop("words")]
    answer = held.pop("answer")
    sanity = {part: _number(value) for part, value in held.pop("sanity").items()}
    plain = {key: _number(value) if isinstance(value, float) else value for key, value in held.items()}
    line = {"version": VERSION, **plain, "words": words, "source": source, "input": dict(asked), "prediction": answer}
    return line | ({"sanity": sanity} if sanity else {})


def _number(value: float) -> float | None:
    """Keep six significant digits; JSON has no infinity and no NaN."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def write_explanations(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write lines, whole or not at all."""
    write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def read_explanations(record: Record, task: str) -> Sequence[dict[str, Any]]:
    """Give the lines of a task's explanations; none where nothing was explained."""
    return list(read_lines(explanations_path(record, task)))
