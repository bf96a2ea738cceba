"""What the laws of task types are held against: rows of every type, a tokenizer for every family, and tasks ready."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from functools import cache
from typing import Any

from family_tokenizers import tokenizer_of
from taskloom import helpdesk
from taskloom.tasks import TASKS, Task
from taskloom.tasks._unlabelled import share_heads
from taskloom.tasks.tagging_as_text import spans_of
from taskloom.types import Family

Rows = list[dict[str, Any]]

NAMES = TASKS.names()
CASES: list[tuple[str, Family]] = [(name, family) for name in NAMES for family in sorted(TASKS.load(name).families)]
"""Every task type in every family that it can be trained in."""

CORPUS = helpdesk.generate(seed=3, train=12, validation=2, test=4)
HELP_DESK = {kind: name for name, kind in helpdesk.TASKS.items()}
WRITTEN = {"classification_as_text": "classification", "tagging_as_text": "token_classification"}
"""Types that write the answer which another type, of the same columns, reads from a head."""

OPTIONS: dict[str, dict[str, Any]] = {
    # A threshold that any text reaches: what a head is not sure of has no loss, and so no laws of losses.
    "consistency": {"threshold": 1e-6},
    "pseudo_labels": {"threshold": 1e-6},
    # Another form would need what a model said before training.
    "preference": {"loss": "orpo"},
}


def _spoken(row: dict[str, Any]) -> dict[str, Any]:
    turns = (
        ("user", row["text"]),
        ("assistant", "a parcel?"),
        ("user", "Yes."),
        ("assistant", f"Then {row['label']}."),
    )
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def _extracted(row: dict[str, Any]) -> dict[str, Any]:
    tokens = row["tokens"]
    slots = [{"label": label, "value": " ".join(tokens[a:b])} for label, a, b in spans_of(row["tags"])]
    return {"text": " ".join(tokens), "slots": slots}


MADE: dict[str, tuple[str, Callable[[dict[str, Any]], dict[str, Any]]]] = {
    "text_to_text": ("intent", lambda row: {"source": row["text"], "target": f"about {row['label']}"}),
    "completion": ("intent", lambda row: {"prompt": row["text"], "completion": f" It is {row['label']}."}),
    "chat": ("intent", _spoken),
    "preference": (
        "intent",
        lambda row: {"prompt": row["text"], "chosen": f"{row['label']}, I think.", "rejected": "No idea."},
    ),
    "extraction": ("slots", _extracted),
    **dict.fromkeys(
        ("causal_language_modelling", "masked_language_modelling", "span_corruption", "consistency", "pseudo_labels"),
        ("intent", lambda row: {"text": row["text"]}),
    ),
}
"""Type -> the task of the help desk whose rows become its own, and how."""


def golden(name: str) -> dict[str, Any]:
    """Read the row that the docstring gives as its golden example."""
    found = re.search(r"Golden example: rows (\{.*?\})\.\s*$", inspect.getdoc(TASKS.load(name)) or "", re.S | re.M)
    assert found, f"the docstring of `{name}` should end one paragraph with `Golden example: rows {{...}}.`"
    row: dict[str, Any] = ast.literal_eval(found[1])
    return row


def rows_of(name: str, split: str = "train") -> Rows:
    """Give rows of a task type: the help desk's, rows made of them, or the golden example four times."""
    kind = WRITTEN.get(name, name)
    if kind in HELP_DESK:
        return CORPUS[HELP_DESK[kind]][split]
    if name in MADE:
        source, make = MADE[name]
        return [make(row) for row in CORPUS[source][split]]
    return [golden(name)] * 4


def made(name: str, family: Family, **options: Any) -> Task:
    """Make a task that has met its backbone's tokenizer, and the task whose head it shares where it has none."""
    task = TASKS.load(name)(**(OPTIONS.get(name, {}) | options))
    share_heads({"other": _labelled(), "own": task})
    task.meet(family, tokenizer_of(family))
    return task


def fitted(name: str, family: Family, **options: Any) -> Task:
    """Make a task that has learned from its training rows."""
    task = made(name, family, **options)
    task.fit(rows_of(name))
    return task


def encoded(task: Task, rows: Rows) -> list[Rows]:
    """Give the items of each row."""
    return list(task.encode(rows, tokenizer_of(task.family)))


def items_of(task: Task, rows: Rows) -> Rows:
    """Give the items of all rows."""
    return [item for own in encoded(task, rows) for item in own]


@cache
def _labelled() -> Task:
    task = TASKS.load("classification")()
    task.fit(rows_of("classification"))
    return task
