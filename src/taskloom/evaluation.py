"""From a model and rows to predictions and scores: task × split × metric, each with its interval."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from taskloom.batches.chunks import Padding, collate, cut
from taskloom.batches.steps import ItemSource
from taskloom.bootstrap import Interval, composite, interval
from taskloom.composite import Composite
from taskloom.metrics import METRICS, Metric
from taskloom.model import MultiTaskModel
from taskloom.tasks import Floats, Task
from taskloom.types import Item, Prediction, Row, Score
from taskloom.writing import Writer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

COMPOSITE = "composite"


@dataclass(frozen=True)
class Judged:
    """One task as it is scored: the task, its metrics, how much it counts, and what a constant answer is taught by.

    Attributes:
        task: decodes and gives references.
        metrics: names; the first is the task's score in the composite.
        importance: weight in the composite.
        train: training rows, which teach the baseline; empty for none.
    """

    task: Task
    metrics: Sequence[str]
    importance: float = 1.0
    train: Sequence[Row] = field(default=(), repr=False)


@dataclass(frozen=True)
class Predictor:
    """A model that answers rows.

    Attributes:
        model: backbone and heads.
        tasks: task name -> task.
        padding: how inputs are filled up.
        limit_tokens: tokens of one rectangle.
        tokenizer: the backbone's, with which answers are written; None where no task writes.
    """

    model: MultiTaskModel
    tasks: Mapping[str, Task]
    padding: Padding
    limit_tokens: int
    tokenizer: PreTrainedTokenizerFast | None = None

    def answer(self, name: str, rows: Sequence[Row], items: ItemSource) -> list[Prediction]:
        """Answer rows of one task.

        Args:
            name: of the task.
            rows: [example].
            items: those of the rows, each with its ``row``.

        Returns:
            [example] predictions, in the order of the rows.
        """
        task = self.tasks[name]
        return [task.decode(row, own, outputs) for row, own, outputs in self.answered(name, rows, items)]

    def answered(
        self, name: str, rows: Sequence[Row], items: ItemSource
    ) -> Iterator[tuple[Row, list[Item], list[Any]]]:
        """Give each row with its items and what the head, or the writer, gave for each; see `answer`."""
        outputs = self.written(name, rows, items) if self.tasks[name].generates else self.outputs(name, items)
        held: list[tuple[list[Item], list[Any]]] = [([], []) for _ in rows]
        for index, output in enumerate(outputs):
            item = items[index]
            own, its_outputs = held[item["row"]]
            own.append(item)
            its_outputs.append(output)
        for row, (own, its_outputs) in zip(rows, held, strict=True):
            yield row, own, its_outputs

    def written(self, name: str, rows: Sequence[Row], items: ItemSource) -> list[str]:
        """Have a task that writes answer items of rows: [item] texts."""
        if self.tokenizer is None:
            raise ValueError("A task that writes its answers needs the tokenizer.")
        task: Any = self.tasks[name]
        writer = Writer(self.model, self.tokenizer, self.limit_tokens)
        return writer.write(name, task, rows, [items[index] for index in range(len(items))])

    def outputs(self, name: str, items: ItemSource) -> list[Floats]:
        """Run one task's head over items, in rectangles of like length, in evaluation mode.

        Returns:
            [item] outputs [sequence, ...], cut to the item's own tokens where there is a token axis.
        """
        held = [items[index] for index in range(len(items))]
        lengths = np.array([max(map(len, item["input_ids"])) for item in held], dtype=np.int64)
        sizes = np.array([len(item["input_ids"]) for item in held], dtype=np.int64)
        outputs: list[Floats] = [np.empty(0, dtype=np.float32)] * len(held)
        device = next(self.model.parameters()).device
        was_training = self.model.training
        self.model.eval()
        with torch.inference_mode():
            for group in like_lengths(lengths, sizes, self.limit_tokens):
                drawn = [(name, held[index]) for index in group]
                chunk = collate(drawn, self.tasks, self.padding).to(device)
                output = self.model(chunk)[name].float().cpu().numpy()
                start = 0
                for index in group:
                    own = output[start : start + sizes[index]]
                    start += sizes[index]
                    outputs[index] = own[:, : lengths[index]].copy() if own.ndim == 3 else own.copy()
        self.model.train(was_training)
        return outputs


def like_lengths(lengths: NDArray[np.int64], sizes: NDArray[np.int64], limit_tokens: int) -> list[list[int]]:
    """Group items into rectangles of like length.

    Sorted blocks of them are cut, since the best cut of all at once is quadratic in their number.

    Args:
        lengths: [item] tokens of its longest sequence.
        sizes: [item] sequences.
        limit_tokens: of a rectangle.

    Returns:
        [rectangle][item] numbers of items.
    """
    order = np.argsort(-lengths, kind="stable")
    groups = []
    for start in range(0, len(order), 256):
        block = order[start : start + 256]
        groups += [[int(block[i]) for i in group] for group in cut(lengths[block], sizes[block], limit_tokens)]
    return groups


def quick_scores(judged: Judged, predictions: Sequence[Prediction], rows: Sequence[Row]) -> dict[str, float]:
    """Score without intervals, as during training: metric -> value."""
    values = [prediction.value for prediction in predictions]
    references = [judged.task.reference(row) for row in rows]
    return {name: build_metric(name).score(values, references) for name in judged.metrics}


def quick_composite(values: Mapping[str, Mapping[str, float]], judged: Mapping[str, Judged], how: Composite) -> float:
    """Combine the tasks' normalised first metrics; 0 where no task counts.

    Args:
        values: task -> metric -> value.
        judged: task -> how it is scored.
        how: makes one number of them.
    """
    names = [name for name in values if judged[name].importance > 0]
    firsts = [judged[name].metrics[0] for name in names]
    found = [
        build_metric(first).normalise(np.array([values[name][first]]))
        for name, first in zip(names, firsts, strict=True)
    ]
    weights = np.array([judged[name].importance for name in names])
    return float(how.combine(np.stack(found), weights, names)[0]) if names else 0.0


def score_split(
    split: str,
    predictions: Mapping[str, Sequence[Prediction]],
    rows: Mapping[str, Sequence[Row]],
    judged: Mapping[str, Judged],
    *,
    how: Composite,
    resamples: int,
    confidence: float,
    seed: int,
) -> list[Score]:
    """Score every task of a split, and the composite over them.

    Args:
        split: its name.
        predictions: task -> [example].
        rows: task -> [example].
        judged: task -> how it is scored.
        how: makes one number of all tasks' scores.
        resamples: bootstrap samples.
        confidence: of the intervals.
        seed: of the bootstrap.

    Returns:
        one score for each task and metric, and last the composite.
    """
    scores: list[Score] = []
    parts: dict[str, tuple[float, Metric, Interval]] = {}
    for place, (name, answers) in enumerate(predictions.items()):
        task = judged[name].task
        values = [answer.value for answer in answers]
        references = [task.reference(row) for row in rows[name]]
        train = judged[name].train
        constant = task.baseline(train, rows[name]) if train else None
        for order, metric_name in enumerate(judged[name].metrics):
            metric = build_metric(metric_name)
            # A seed for each task: two tasks of the same size are not to be drawn alike in the composite.
            found = interval(
                metric, values, references, resamples=resamples, confidence=confidence, seed=seed + 1000 * place
            )
            baseline = None if constant is None else metric.score(constant, references)
            greater = metric.greater_is_better if ":" in metric_name else None  # else its room says it
            scores.append(_score(name, split, metric_name, found, baseline, greater))
            if order == 0 and judged[name].importance:
                parts[name] = (judged[name].importance, metric, found)
    if parts:
        scores.append(_score(COMPOSITE, split, COMPOSITE, composite(parts, how, confidence=confidence), None))
    return scores


def _score(
    task: str, split: str, metric: str, found: Interval, baseline: float | None, greater: bool | None = None
) -> Score:
    held = (found.value, found.low, found.high, found.n)
    return Score(task, split, metric, *held, baseline=baseline, greater_is_better=greater)


def build_metric(name: str) -> Metric:
    """Make a metric by its name in the room, or by its dotted name."""
    return METRICS.load(name)()
