"""The mitigations of a run, made and shown the training rows before anything is trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from taskloom.data.columns import PROTECTED
from taskloom.errors import DataError, Fault
from taskloom.mitigation import MITIGATIONS, Groups, Mitigation

if TYPE_CHECKING:
    from taskloom.config import Config
    from taskloom.config.schema import TaskSection
    from taskloom.data import Corpus
    from taskloom.tasks import Task


def columns_with_group(section: TaskSection) -> dict[str, str]:
    """Give a task's mapping of columns, that of its groups among them where its training needs them."""
    fairness = section.fairness or {}
    wanted = fairness and MITIGATIONS.load(fairness["method"]).needs_group
    return section.columns | ({PROTECTED: fairness["group"]} if wanted else {})


def begin_mitigations(
    config: Config, tasks: Mapping[str, Task], corpora: Mapping[str, Corpus]
) -> dict[str, Mitigation]:
    """Make the mitigation of each task that has one, append its rows to training, and let it learn.

    Args:
        config: the run.
        tasks: task name -> task, fitted.
        corpora: task name -> its rows; rows are appended in place.

    Raises:
        DataError: with every task in which a training row has no group, or all have the same.
    """
    found: dict[str, Mitigation] = {}
    faults: list[Fault] = []
    for name, section in config.tasks.items():
        if not section.fairness:
            continue
        method, corpus = section.fairness["method"], corpora[name]
        options: dict[str, Any] = {
            key: value for key, value in section.fairness.items() if key in MITIGATIONS.options(method)
        }
        mitigation = MITIGATIONS.load(method)(**options)
        complaints = _complaints(name, corpus, section.fairness["group"]) if mitigation.needs_group else []
        faults += complaints
        if complaints:
            continue
        rows, places = corpus.splits["train"], corpus.places["train"]
        made = mitigation.appended(rows, tasks[name])
        corpus.splits["train"] = [*rows, *(row for _, row in made)]
        corpus.places["train"] = [*places, *(f"{places[place]}, swapped" for place, _ in made)]
        mitigation.begin(_groups(tasks[name], corpus))
        found[name] = mitigation
    if faults:
        raise DataError(*faults)
    return found


def _groups(task: Task, corpus: Corpus) -> Groups:
    rows = corpus.splits["train"]
    labels = [str(task.reference(row)) for row in rows] if task.predicts == "label" else None
    return Groups([str(row.get(PROTECTED, "")) for row in rows], labels)


def _complaints(name: str, corpus: Corpus, column: str) -> list[Fault]:
    """Find training rows without a group, and a column of one group alone."""
    where = f"tasks.{name}.fairness.group"
    rows, places = corpus.splits["train"], corpus.places["train"]
    lacking = [place for row, place in zip(rows, places, strict=True) if PROTECTED not in row]
    if lacking:
        found = f"nothing in `{column}` of {len(lacking):,} of {len(rows):,} rows, the first at {lacking[0]}"
        return [Fault(where, "be filled in every training row", found, "Fill it, or leave these rows out")]
    groups = Counter(str(row[PROTECTED]) for row in rows)
    if len(groups) == 1:
        found = f"`{next(iter(groups))}` alone in the {len(rows):,} training rows"
        return [Fault(where, "have two groups or more", found, "Name another column, or leave out `fairness`")]
    return []
