"""Swaps words in the rows of a task, and sees which answers flip."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from taskloom.bootstrap import draws, percentiles
from taskloom.data.swaps import Swaps
from taskloom.errors import ConfigError, DataError, Fault, listed
from taskloom.fairness.answers import finished, lines_of
from taskloom.fairness.comparing import Value
from taskloom.fairness.note import note_entry
from taskloom.mitigation.augmentation import swapped_columns, unswappable
from taskloom.run import Run
from taskloom.types import Prediction, Row

LIMIT_EXAMPLES = 20
"""How many rows that flipped are kept."""


@dataclass(frozen=True)
class Flip:
    """A row whose answer changed.

    Attributes:
        row: its number in the split.
        place: where it stands in the data.
        input: what was asked.
        swapped: what was asked with words swapped.
        before: the answer.
        after: the answer to the swapped row.
        reference: what is right for the row.
    """

    row: int
    place: str
    input: Row
    swapped: Row
    before: Any
    after: Any
    reference: Any


@dataclass(frozen=True)
class Swapped:
    """What swapping words does to a task's answers.

    Attributes:
        task: its name.
        split: whose rows were swapped.
        sets: the words.
        rows: rows of the split.
        touched: rows with a word in them.
        flipped: share of these whose answer changes; None for answers that are numbers.
        words: share of the words of these whose tag changes; None but for tagging.
        change: mean size of the change in the answer's probability, or in the number that is the answer; None where
            there is neither.
        moves: how often an answer became another: (before, after) -> rows, the most frequent first.
        examples: rows that flipped.
    """

    task: str
    split: str
    sets: list[list[str]]
    rows: int
    touched: int
    flipped: Value | None
    words: Value | None
    change: Value | None
    moves: list[tuple[str, str, int]]
    examples: list[Flip]

    def as_json(self) -> dict[str, Any]:
        """Give it ready for JSON."""
        parts = {name: getattr(self, name) for name in ("flipped", "words", "change")}
        return {
            "split": self.split,
            "sets": self.sets,
            "rows": self.rows,
            "touched": self.touched,
            **{name: None if value is None else value.as_json() for name, value in parts.items()},
            "moves": [{"before": before, "after": after, "rows": rows} for before, after, rows in self.moves],
            "examples": [asdict(flip) for flip in self.examples],
        }


@dataclass(frozen=True)
class _Pair:
    """A row's answer before and after a swap, by its place among the lines."""

    line: int
    swapped: Row
    before: Prediction
    after: Prediction


def swap(folder: str | Path, task: str, swaps: Swaps, *, split: str = "test") -> Swapped:
    """Ask a finished run the rows of a split again with words swapped.

    Args:
        folder: of the run.
        task: the task; one that answers with labels, tags, numbers or choices.
        swaps: the words.
        split: whose rows.

    Raises:
        RunFolderError: the folder holds no finished run, or no predictions of the split.
        ConfigError: answers of the task may rightly change with the words.
        DataError: there is no such task, or no row has such a word.

    Papers: Kusner et al., Counterfactual Fairness, 2017, arXiv:1703.06856; Garg et al., Counterfactual Fairness in Text
    Classification through Robustness, 2019, arXiv:1809.10610.
    """
    record, config = finished(folder, task)
    run = Run(folder)
    asked = run.loaded()[1][task]
    complaint = unswappable(asked)
    if complaint:
        requirement, fix = "have answers that stay when words are swapped", "Name a task with labels, numbers or tags"
        raise ConfigError(Fault("--task", requirement, f"one that {complaint}", fix))
    lines = lines_of(record, task, split)
    pairs = _answered(run, task, lines, swaps, swapped_columns(asked))
    if not pairs:
        words = listed([word for words in swaps.sets for word in words], 10)
        raise DataError(Fault("--swaps", f"have words that stand in rows of {split}", f"none of {words}"))
    settings: dict[str, Any] = {"resamples": config.evaluation.resamples, "confidence": config.evaluation.confidence}
    settings["seed"] = config.training["seed"]
    told = asked.predicts == "number" or "probabilities" in pairs[0].before.detail
    kind, changed = asked.predicts, [pair for pair in pairs if pair.before.value != pair.after.value]
    moves = Counter((str(pair.before.value), str(pair.after.value)) for pair in changed if kind == "label")
    made = Swapped(
        task,
        split,
        swaps.sets,
        len(lines),
        len({pair.line for pair in pairs}),
        None if kind == "number" else _flipped(pairs, settings["confidence"]),
        _mean(pairs, _tags, **settings) if kind == "tags" else None,
        _mean(pairs, CHANGES[kind], **settings) if told and kind in CHANGES else None,
        [(before, after, rows) for (before, after), rows in moves.most_common(LIMIT_EXAMPLES)],
        [_flip(lines[pair.line], pair) for pair in changed[:LIMIT_EXAMPLES] if kind != "number"],
    )
    note_entry(record, task, "swaps", made.as_json())
    return made


def _flip(line: dict[str, Any], pair: _Pair) -> Flip:
    place, before, after = str(line["place"]), pair.before.value, pair.after.value
    return Flip(line["row"], place, line["input"], pair.swapped, before, after, line["reference"])


def _answered(
    run: Run, task: str, lines: Sequence[dict[str, Any]], swaps: Swaps, columns: Sequence[str]
) -> list[_Pair]:
    """Answer each row that has a word in it as it is and swapped, all at once."""
    asked = [
        (place, swapped)
        for turn in range(1, swaps.turns + 1)
        for place, line in enumerate(lines)
        if (swapped := swaps.row(line["input"], columns, turn)) != line["input"]
    ]
    if not asked:
        return []
    touched = sorted({place for place, _ in asked})
    answers = run.predict(task, [lines[place]["input"] for place in touched] + [swapped for _, swapped in asked])
    before = dict(zip(touched, answers, strict=False))
    after = answers[len(touched) :]
    return [_Pair(place, swapped, before[place], said) for (place, swapped), said in zip(asked, after, strict=True)]


def _flipped(pairs: Sequence[_Pair], confidence: float) -> Value:
    """Give the share of rows whose answer changes in one of their swaps, with Wilson's interval."""
    changed: dict[int, bool] = {}
    for pair in pairs:
        changed[pair.line] = changed.get(pair.line, False) or pair.before.value != pair.after.value
    count = sum(changed.values())
    ends = binomtest(count, len(changed)).proportion_ci(confidence, method="wilson")
    return Value(count / len(changed), float(ends.low), float(ends.high), len(changed))


def _mean(
    pairs: Sequence[_Pair], part: Callable[[_Pair], tuple[float, int]], *, resamples: int, confidence: float, seed: int
) -> Value:
    """Give the ratio of two sums over rows, bootstrapped over rows; `part` gives what a pair adds to either."""
    places = {line: number for number, line in enumerate(sorted({pair.line for pair in pairs}))}
    held = np.zeros((len(places), 2))
    for pair in pairs:
        held[places[pair.line]] += part(pair)
    sums = np.concatenate([counts @ held for counts in draws(len(places), resamples, seed)])
    whole = held.sum(axis=0)
    return Value(float(whole[0] / whole[1]), *percentiles(sums[:, 0] / sums[:, 1], confidence), len(places))


def _tags(pair: _Pair) -> tuple[float, int]:
    """Count a row's words whose tag changes, and its words."""
    before, after = pair.before.value, pair.after.value
    return sum(one != other for one, other in zip(before, after, strict=True)), len(before)


def _of_label(pair: _Pair) -> tuple[float, int]:
    """Give the change in the probability of the label that was answered."""
    name = str(pair.before.value)
    return abs(pair.before.detail["probabilities"][name] - pair.after.detail["probabilities"][name]), 1


def _of_labels(pair: _Pair) -> tuple[float, int]:
    """Give the changes in the probabilities of all labels."""
    before, after = pair.before.detail["probabilities"], pair.after.detail["probabilities"]
    return sum(abs(before[name] - after[name]) for name in before), len(before)


def _of_choice(pair: _Pair) -> tuple[float, int]:
    """Give the change in the probability of the choice that was answered."""
    before, after = pair.before.detail["probabilities"], pair.after.detail["probabilities"]
    return abs(before[pair.before.value] - after[pair.before.value]), 1


def _of_number(pair: _Pair) -> tuple[float, int]:
    """Give the change of the number."""
    return abs(pair.before.value - pair.after.value), 1


CHANGES: dict[str, Callable[[_Pair], tuple[float, int]]] = {
    "label": _of_label,
    "labels": _of_labels,
    "choice": _of_choice,
    "number": _of_number,
}
"""Kind of answer -> how far one moved: the sum of its changes, and of how many numbers it is."""
