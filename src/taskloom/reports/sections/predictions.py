"""The browser of predictions: filtered and sorted by the reader."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from taskloom.record import Record, read_lines
from taskloom.reports.answers import TEST, Answers, answers_of, text_of
from taskloom.reports.section import Section, render

if TYPE_CHECKING:
    from taskloom.reports.facts import RunFacts

TITLE = "Browse predictions"
PLACE = 70

LIMIT_LETTERS = 400
"""How much of one text the browser shows."""

LIMIT_ALL = 1_200_000
"""Letters of all rows that a page holds; wrong answers come before right ones where that is too few."""

LIMIT_LABELS = 12

EXPLANATIONS = "explanations"
"""Where a run folder has what each word adds to an answer, a file for each task."""


def section(runs: Sequence[RunFacts]) -> Section | None:
    """Put rows into the page for its script to show; None where there are no predictions."""
    held = answers_of(runs[0])
    if not held:
        return None
    rows, whole = _chosen(held), sum(len(answers.lines) for answers in held)
    _explain(rows, held, Record(runs[0].folder))
    html = render("predictions.html.jinja", kept=len(rows), whole=whole)
    return Section(html, data={"predictions": rows})


def _chosen(held: Sequence[Answers]) -> list[dict[str, Any]]:
    """Choose as many rows as fit: of each task the same share, what is wrong first."""
    share, found = LIMIT_ALL // len(held), []
    for answers in held:
        left = share
        for number, line in sorted(enumerate(answers.lines), key=lambda each: (each[1].get("right") is True, each[0])):
            row = _row(answers, number, line)
            left -= len(json.dumps(row, ensure_ascii=False))
            if left < 0:
                break
            found.append(row)
    return found


def _explain(rows: Sequence[dict[str, Any]], held: Sequence[Answers], record: Record) -> None:
    """Put the words that make an answer beside those rows that `taskloom explain` was asked about."""
    for answers in held:
        path = record.folder / EXPLANATIONS / record.predictions(answers.task, TEST).name
        known = {json.dumps(line["input"], sort_keys=True): line for line in read_lines(path)}
        for row in rows if known else ():
            asked = answers.lines[row["number"]].get("input") if row["task"] == answers.task else None
            found = known.get(json.dumps(asked, sort_keys=True))
            if found is not None:
                words = [[each["word"], each["weight"] or 0.0] for each in found["words"]]
                row["why"] = {"target": str(found["target"]), "words": words}


def _row(answers: Answers, number: int, line: Mapping[str, Any]) -> dict[str, Any]:
    shown = [[column, _cut(value)] for column, value in (line.get("input") or {}).items()]
    shown += [["predicted", _cut(line.get("prediction"))], ["right", _cut(line.get("reference"))]]
    sure = _sure(line)
    if sure is not None:
        shown.append(["probability", f"{sure:.3f}"])
    text = text_of(line)
    search = " ".join(value for _, value in shown).lower()
    return {
        "number": number,
        "task": answers.task,
        "place": str(line.get("place") or f"row {line.get('row')}"),
        "right": line.get("right") if isinstance(line.get("right"), bool) else None,
        "labels": _labels(line.get("reference")),
        "group": None if line.get("group") is None else str(line["group"]),
        "words": len(text.split()),
        "sure": sure,
        "shown": shown,
        "search": search,
    }


def _cut(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        text = " ".join(value)
    else:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LIMIT_LETTERS else f"{text[:LIMIT_LETTERS]} …"


def _sure(line: Mapping[str, Any]) -> float | None:
    held = (line.get("detail") or {}).get("probabilities")
    if isinstance(held, Mapping) and isinstance(line.get("prediction"), str | int | bool):
        found = held.get(str(line["prediction"]))
        return None if found is None else round(float(found), 4)
    return None


def _labels(reference: Any) -> list[str]:
    """Give the labels that a row may be found by: its own, those of a set, or the kinds of its tags."""
    if isinstance(reference, bool | int):
        return [str(reference)]
    if isinstance(reference, str):
        return [reference] if len(reference.split()) == 1 else []
    if isinstance(reference, list) and all(isinstance(each, str) for each in reference):
        kinds = [each[2:] if each[:2] in {"B-", "I-"} else each for each in reference]
        return sorted({each for each in kinds if each != "O"})[:LIMIT_LABELS]
    return []
