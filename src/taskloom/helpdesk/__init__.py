"""The help desk: a small English corpus of seven tasks, generated from a seed, for the quickstart and for tests.

One message of a customer carries an intent, slots, an urgency, topics, a likeness to another message, answers to
questions and a best reply. Templates, wordings and values of train, validation and test are disjoint, so a score on
test says what was learned and not what was remembered.

>>> corpus = generate(seed=0, train=2, validation=1, test=1)
>>> sorted(corpus)
['answer', 'intent', 'reply', 'similarity', 'slots', 'topics', 'urgency']
>>> sorted(corpus["intent"]["train"][0])
['label', 'text']
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from taskloom.errors import DataError, Fault
from taskloom.helpdesk.concerns import CONCERNS
from taskloom.helpdesk.facts import FACTS
from taskloom.helpdesk.grammar import SPLITS, Dice, Wordings
from taskloom.helpdesk.message import DOMAINS
from taskloom.helpdesk.pairs import reply_rows, similarity_rows
from taskloom.helpdesk.questions import QUESTIONS
from taskloom.helpdesk.replies import REPLIES
from taskloom.helpdesk.rows import answer_rows, intent_rows, slots_rows, topics_rows, urgency_rows
from taskloom.helpdesk.sentences import AGENT_LINES, CLOSINGS, FILLERS, OPENINGS, REPLY_QUESTIONS
from taskloom.helpdesk.urgency import CUES
from taskloom.helpdesk.words import VALUES

__all__ = ["LIMIT_ROWS", "TASKS", "generate", "inventory", "write"]

Row = dict[str, Any]

_WRITERS: dict[str, Callable[[Dice, str], Callable[[], Row]]] = {
    "answer": answer_rows,
    "intent": intent_rows,
    "reply": reply_rows,
    "similarity": similarity_rows,
    "slots": slots_rows,
    "topics": topics_rows,
    "urgency": urgency_rows,
}

TASKS = {
    "answer": "extractive_qa",
    "intent": "classification",
    "reply": "multiple_choice",
    "similarity": "similarity",
    "slots": "token_classification",
    "topics": "multi_label",
    "urgency": "regression",
}
"""task -> its type."""

LIMIT_ROWS = 5000
"""The most rows that a split of a task may have; every task can write as many without repeating one."""

_LIMIT_REPEATS = 1000


def generate(
    seed: int = 0, train: int = 600, validation: int = 120, test: int = 240
) -> dict[str, dict[str, list[Row]]]:
    """Write the corpus: task -> split -> rows.

    The same seed gives the same rows on every machine, and a smaller size gives the first rows of a larger one.

    Args:
        seed: which corpus.
        train: rows per task in train.
        validation: rows per task in validation.
        test: rows per task in test.

    Raises:
        DataError: a size is below 1 or above LIMIT_ROWS.
    """
    sizes = _checked({"train": train, "validation": validation, "test": test})
    return {task: {split: _rows(seed, task, split, sizes[split]) for split in SPLITS} for task in _WRITERS}


def write(folder: Path, seed: int = 0, train: int = 600, validation: int = 120, test: int = 240) -> None:
    """Write the corpus to ``folder/TASK/SPLIT.jsonl``, each file whole or not at all.

    Raises:
        DataError: a size is below 1 or above LIMIT_ROWS; nothing is written then.
    """
    for task, splits in generate(seed, train, validation, test).items():
        (folder / task).mkdir(parents=True, exist_ok=True)
        for split, rows in splits.items():
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            _write_whole(folder / task / f"{split}.jsonl", lines)


def inventory() -> dict[str, Wordings]:
    """Give all that the corpus is made of: kind of wording or value -> split -> its wordings."""
    kinds: dict[str, Wordings] = {
        "opening": OPENINGS,
        "filler": FILLERS,
        "closing": CLOSINGS,
        "agent_line": AGENT_LINES,
        "reply_question": REPLY_QUESTIONS,
    }
    groups: dict[str, Mapping[str, Wordings]] = {
        "cue": CUES,
        "fact": FACTS,
        "question": QUESTIONS,
        "reply": REPLIES,
        "topic": CONCERNS,
        "value": VALUES,
    }
    kinds |= {f"intent/{intent}": bank for intents in DOMAINS.values() for intent, bank in intents.items()}
    kinds |= {f"{group}/{name}": bank for group, banks in groups.items() for name, bank in banks.items()}
    return kinds


def _checked(sizes: dict[str, int]) -> dict[str, int]:
    faults = [
        Fault(split, f"be a number of rows from 1 to {LIMIT_ROWS}", f"{size}", "Ask for fewer rows" if size > 0 else "")
        for split, size in sizes.items()
        if not 1 <= size <= LIMIT_ROWS
    ]
    if faults:
        raise DataError(*faults)
    return sizes


def _rows(seed: int, task: str, split: str, size: int) -> list[Row]:
    """Write `size` rows of which no two have the same text."""
    writer = _WRITERS[task](Dice("helpdesk", seed, task, split), split)
    rows: list[Row] = []
    seen: set[str] = set()
    repeats = 0
    while len(rows) < size:
        row = writer()
        key = _key(row)
        if key in seen:
            repeats += 1
            if repeats > _LIMIT_REPEATS:
                raise DataError(
                    Fault(split, f"be at most {len(rows)} rows for `{task}`", f"{size}", "Ask for fewer rows")
                )
            continue
        repeats = 0
        seen.add(key)
        rows.append({"id": f"{split}-{len(rows):05d}", **row} if task == "answer" else row)
    return rows


def _key(row: Row) -> str:
    """What makes a row another one than its neighbours: what a model reads, whatever its case."""
    read = (row.get(name, "") for name in ("text", "text_pair", "tokens", "question", "context"))
    return json.dumps(list(read)).lower()


def _write_whole(path: Path, text: str) -> None:
    """Write a file beside its place and move it there, so that nobody ever reads half of it."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
