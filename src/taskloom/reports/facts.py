"""What a report says of one run, read from its folder and put into the page's terms."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskloom.errors import TaskloomError
from taskloom.record import Record, State, read_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from taskloom.types import Score

COMPOSITE = "composite"
LIMIT_WRONG = 5
LIMIT_RIGHT = 3
LIMIT_LETTERS = 600
"""How much of one text a page shows; a whole document per example would bury the next."""

LIMIT_WORDS = 80
"""How many tagged words are laid out one by one; longer ones are shown as plain lists."""

SPLITS = ("test", "validation", "train")
"""The splits in the order in which they are believed: the first one that has scores is the page's."""

STATUS_NOTES = {
    "running": "This run is not finished. The last step it recorded is {step}.",
    "interrupted": "This run was interrupted at step {step}. Start the same command again to finish it.",
    "failed": "This run failed after step {step}. What it wrote until then is shown.",
    "finished": "",
}


@dataclass(frozen=True)
class ScoreLine:
    """One score in the page's terms.

    Attributes:
        score: the score itself.
        greater: whether more is better.
        low: left end of the bar's axis.
        high: right end of the bar's axis.
    """

    score: Score
    greater: bool
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """Say how it stands against the baseline: "beats", "unclear", "worse", or "" where it can't be said."""
        score = self.score
        known = (score.value, score.low, score.high, score.baseline)
        if score.baseline is None or any(number is None or math.isnan(number) for number in known):
            return ""
        if score.low <= score.baseline <= score.high:
            return "unclear"
        return "beats" if (score.value > score.baseline) == self.greater else "worse"

    def place(self, value: float | None) -> float | None:
        """Give where a value lies on the bar, in percent of its width; None where there is nothing to place."""
        if value is None or math.isnan(value) or self.high <= self.low:
            return None
        return round(100 * min(max((value - self.low) / (self.high - self.low), 0.0), 1.0), 2)


@dataclass(frozen=True)
class Example:
    """A prediction in the page's terms.

    Attributes:
        right: whether it is right; None where that can't be said (texts, numbers).
        row: the example's row in its split.
        place: the file and line that it came from.
        inputs: pairs of a column and its text, without the words that `pairs` shows.
        prediction: what the model said.
        reference: what is right.
        pairs: for sequences of tags of equal length, (word, said, right) by place; else empty.
    """

    right: bool | None
    row: int | None
    place: str
    inputs: list[tuple[str, str]]
    prediction: str
    reference: str
    pairs: list[tuple[str, str, str]]


@dataclass(frozen=True)
class DataLine:
    """Rows of one task and split: how many were read and kept, and why the others were not."""

    split: str
    read: int
    kept: int
    skipped: list[tuple[str, int]]


@dataclass(frozen=True)
class DataFacts:
    """The data of one task.

    Attributes:
        type: the task's type.
        lines: one a split.
        made: the splits that Taskloom made itself, as sentences.
        leaks: texts that stand in two splits, as sentences.
    """

    type: str
    lines: list[DataLine]
    made: list[str]
    leaks: list[str]


@dataclass(frozen=True)
class RunFacts:
    """All that the page says of one run.

    Attributes:
        name: what the page calls it.
        folder: where it lies.
        tasks: all its tasks, in the order of their scores.
        state: how the run stands.
        split: the split that the page's scores are of; "" where there are none.
        scores: task -> its scores on that split, its own metric first.
        composite: the run's one number.
        other_scores: scores of other splits and of groups of examples.
        unknown_metrics: metrics of which the page had to assume that more is better.
        steps: lines of training steps.
        evaluations: lines of evaluations during training.
        decisions: lines of what a curriculum or policies decided.
        data: task -> its data.
        examples: task -> predictions worth a look.
        environment: versions and device.
        run_yaml: the run file.
    """

    name: str
    folder: Path
    tasks: list[str]
    state: State
    split: str
    scores: dict[str, list[ScoreLine]]
    composite: ScoreLine | None
    other_scores: list[ScoreLine]
    unknown_metrics: list[str]
    steps: list[dict[str, Any]]
    evaluations: list[dict[str, Any]]
    decisions: list[dict[str, Any]]
    data: dict[str, DataFacts]
    examples: dict[str, list[Example]]
    environment: list[tuple[str, str]]
    run_yaml: str

    @property
    def note(self) -> str:
        """Say what a reader must know of a run that is not finished."""
        return STATUS_NOTES[self.state.status].format(step=self.state.step)

    @property
    def own(self) -> dict[str, ScoreLine]:
        """Give each task's own score: its first metric."""
        return {task: lines[0] for task, lines in self.scores.items()}

    def count(self, verdict: str) -> int:
        """Count the tasks whose own score stands so against its baseline."""
        return sum(line.verdict == verdict for line in self.own.values())


def read_run(folder: Path, name: str) -> RunFacts:
    """Read what the page says of a run; what the run did not write yet is empty.

    Raises:
        RunFolderError: the folder is no run folder, or of another version.
    """
    record = Record.open(folder)
    scores = record.scores()
    present = {score.split for score in scores}
    split = next((split for split in (*SPLITS, *sorted(present)) if split in present), "")
    greater = {score.metric: score.greater_is_better for score in scores}
    greater |= {metric: greater_is_better(metric) for metric, known in greater.items() if known is None}
    lines = [_score_line(score, greater[score.metric] is not False) for score in scores]
    shown = [line for line in lines if line.score.split == split and line.score.group is None]
    by_task: dict[str, list[ScoreLine]] = {}
    for line in shown:
        by_task.setdefault(line.score.task, []).append(line)
    composite = by_task.pop(COMPOSITE, [None])[0]
    rows = record.steps()
    data = {task: _data_facts(facts) for task, facts in record.data().items()}
    steps = [row for row in rows if "tasks" in row]
    trained = [task for row in steps[:1] + steps[-1:] for task in row["tasks"]]
    tasks = list(dict.fromkeys([*by_task, *data, *trained]))
    return RunFacts(
        name=name,
        folder=Path(folder),
        tasks=tasks,
        state=record.state,
        split=split,
        scores=by_task,
        composite=composite,
        other_scores=[line for line in lines if line not in shown],
        unknown_metrics=[metric for metric, known in greater.items() if known is None],
        steps=steps,
        evaluations=[row for row in rows if "evaluation" in row],
        decisions=record.decisions(),
        data=data,
        examples={task: found for task in tasks if (found := _examples(record.predictions(task, "test")))},
        environment=[(key, _shown(value)) for key, value in record.environment().items() if key != "version"],
        run_yaml=record.run_yaml.read_text(encoding="utf-8") if record.run_yaml.is_file() else "",
    )


def greater_is_better(metric: str) -> bool | None:
    """Tell whether more of a metric is better; None where the metric is not known here."""
    if metric == COMPOSITE:
        return True
    # A metric named in full is a module to import. A run folder may come from anyone, so a page imports none for it.
    if ":" in metric and metric.partition(":")[0] not in sys.modules:
        return None
    from taskloom.metrics import METRICS  # numpy is needed only where there are scores

    try:
        return METRICS.load(metric).greater_is_better
    except TaskloomError:
        return None


def _score_line(score: Score, greater: bool) -> ScoreLine:
    """Give a score the axis of its bar: 0 to 1 or -1 to 1 where its numbers fit, else its own range."""
    numbers = [score.value, score.low, score.high, score.baseline]
    known = [number for number in numbers if number is not None and not math.isnan(number)]
    low, high = min(known, default=0.0), max(known, default=1.0)
    if high <= 1 and low >= -1:
        return ScoreLine(score, greater, 0.0 if low >= 0 else -1.0, 1.0)
    return ScoreLine(score, greater, min(0.0, low), 1.1 * high if high > 0 else 0.0)


def _data_facts(facts: dict[str, Any]) -> DataFacts:
    lines = [
        DataLine(split, counts.get("read", 0), counts.get("kept", 0), list((counts.get("skipped") or {}).items()))
        for split, counts in (facts.get("splits") or {}).items()
    ]
    made = [_made(item) for item in facts.get("made") or []]
    return DataFacts(str(facts.get("type", "")), lines, made, list(_leaks(facts.get("leaks") or {})))


def _made(item: Any) -> str:
    """Say a split that was made, be it recorded as a sentence or as named facts."""
    return (
        ", ".join(f"{key} {_shown(value)}" for key, value in item.items()) if isinstance(item, dict) else _shown(item)
    )


def _leaks(leaks: dict[str, Any], before: str = "") -> Iterator[str]:
    """Say each leak that is one: counts of zero and empty lists are none."""
    for key, value in leaks.items():
        where = f"{before} / {key}" if before else str(key)
        if isinstance(value, dict):
            yield from _leaks(value, where)
        elif value:
            yield f"{where}: {_shown(value)}"


def _examples(path: Path) -> list[Example]:
    """Give up to five wrong predictions and three right ones, in the order of the file.

    Where right and wrong can't be told (texts, numbers), the first ones are shown as they are.
    """
    limits = {False: LIMIT_WRONG, True: LIMIT_RIGHT, None: LIMIT_WRONG}
    found: dict[bool | None, list[Example]] = {False: [], True: [], None: []}
    for row in read_lines(path):
        right = row.get("right") if isinstance(row.get("right"), bool) else None
        if len(found[right]) < limits[right]:
            found[right].append(_example(row, right))
        elif all(len(found[key]) == limits[key] for key in (False, True)):
            break
    return [*found[False], *found[True], *found[None]]


def _example(row: dict[str, Any], right: bool | None) -> Example:
    inputs = row.get("input") or {}
    said, reference = row.get("prediction"), row.get("reference")
    tagged = _tagged(said, reference, inputs)
    return Example(
        right=right,
        row=row.get("row"),
        place=str(row.get("place") or ""),
        inputs=[(column, _shown(value)) for column, value in inputs.items() if column != tagged],
        prediction=_shown(said),
        reference=_shown(reference),
        pairs=_pairs(_words(inputs[tagged]), said, reference) if tagged is not None else [],
    )


def _tagged(said: Any, reference: Any, inputs: Mapping[str, Any]) -> str | None:
    """Find the column that two sequences of tags speak of: the one with as many words as there are tags."""
    if not isinstance(said, list) or not isinstance(reference, list):
        return None
    if not 1 <= len(said) == len(reference) <= LIMIT_WORDS:
        return None
    return next((column for column, value in inputs.items() if len(_words(value)) == len(said)), None)


def _pairs(words: Sequence[Any], said: Any, reference: Any) -> list[tuple[str, str, str]]:
    return [(_shown(word), _shown(a), _shown(b)) for word, a, b in zip(words, said, reference, strict=True)]


def _words(value: Any) -> list[Any]:
    return value.split() if isinstance(value, str) else value if isinstance(value, list) else []


def _shown(value: Any) -> str:
    """Write any value as text: texts and names as they are, the rest as JSON, cut where a page could not hold it."""
    text = "—" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LIMIT_LETTERS else f"{text[:LIMIT_LETTERS]} … ({len(text):,} characters)"
