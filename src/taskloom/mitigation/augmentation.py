"""Train on swapped copies of rows too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from taskloom.data.swaps import Swaps, read_swaps
from taskloom.errors import ConfigError, Fault
from taskloom.mitigation import ANSWERED, KINDS, Groups, Mitigation
from taskloom.types import Row

if TYPE_CHECKING:
    from taskloom.tasks import Task


class Augmentation(Mitigation):
    """Append to the training rows a copy of each in which words of groups are swapped, with the same answer.

    Prefer it where what should not matter stands in the text as words (pronouns, names, words for a group): it needs no
    column of groups, and lowers the share of answers that flip when such a word is swapped. Do not where the words bear
    on the answer ("the bride" in a task about weddings), nor where swapped texts say nonsense.

    Formula: to rows (x, y) are added ``(swap_k(x), y)`` for k = 1 ... K - 1 where that differs from x, K the words of
    the largest set. Texts of all the task's columns but its answers are swapped.

    Options:
        swaps: a YAML file with sets of words (``- [he, she]``), or the sets themselves; run.yaml keeps the sets.

    Errors: `DataError` where the file has faults; `ConfigError` for a task that answers with a text, or with a place in
    one, which swapping moves.

    Paper: Zhao et al., Gender Bias in Coreference Resolution: Evaluation and Debiasing Methods, NAACL 2018,
    arXiv:1804.06876 (as counterfactual data augmentation: Lu et al., 2018, arXiv:1807.11714).

    >>> from taskloom.tasks.classification import Classification
    >>> rows = [{"text": "he laughs", "label": "joy"}, {"text": "it rains", "label": "none"}]
    >>> Augmentation(swaps=[["he", "she"]]).appended(rows, Classification())
    [(0, {'text': 'she laughs', 'label': 'joy'})]
    """

    needs_group = False

    def __init__(self, *, swaps: str | list[list[str]]) -> None:
        self.swaps = read_swaps(swaps) if isinstance(swaps, str) else Swaps(swaps)

    def kept(self) -> dict[str, Any]:
        """Give the sets of words, so that a run goes on without the file."""
        return {"swaps": self.swaps.sets}

    def begin(self, groups: Groups) -> None:
        """Learn nothing: all is done by then."""

    def appended(self, rows: Sequence[Row], task: Task) -> list[tuple[int, Row]]:
        """Give the swapped copies that differ from their rows; see the class."""
        columns = swapped_columns(task)
        made = []
        for turn in range(1, self.swaps.turns + 1):
            for place, row in enumerate(rows):
                copy = self.swaps.row(row, columns, turn)
                if copy != row:
                    made.append((place, copy))
        return made

    def check(self, task: Task | type[Task]) -> None:
        """Refuse a task whose answers may change with the words; see the class."""
        complaint = unswappable(task)
        if complaint:
            fix = "Use it for a task with labels, numbers or tags"
            raise ConfigError(Fault("method", "fit the task", f"`{self.name}` for a task that {complaint}", fix))


def unswappable(task: Task | type[Task]) -> str:
    """Say why the words of a task's questions cannot be swapped without its answers, or nothing."""
    return "" if task.predicts in ANSWERED else f"answers with {KINDS.get(task.predicts, task.predicts)}"


def swapped_columns(task: Task) -> list[str]:
    """List the columns of a task whose words are swapped: all that are asked with."""
    return sorted((task.columns.keys() | task.optional_columns.keys()) - task.answer_columns)
