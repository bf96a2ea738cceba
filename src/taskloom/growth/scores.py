"""Scores of a run that grew: those of old tasks as they were, those of the new one beside them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from typing import Any

from taskloom.bootstrap import Interval, composite, interval
from taskloom.composite import build_composite
from taskloom.config import Config
from taskloom.evaluation import COMPOSITE, build_metric
from taskloom.metrics import Metric
from taskloom.record import Record
from taskloom.types import Score


def joined_scores(old: Record, new: Record, config: Config, own: Sequence[Score]) -> list[Score]:
    """Put old scores, as they stand, before those of the new task, and form the composite over all.

    The predictions of old tasks are copied, since the composite is formed of them; where some are gone, there is none.

    Args:
        old: the run that was added to.
        new: the grown run, with the new task's predictions.
        config: of all tasks.
        own: scores of the new task.
    """
    kept = [score for score in old.scores() if score.task != COMPOSITE]
    found: list[Score] = []
    for split in dict.fromkeys(score.split for score in [*kept, *own]):
        found += [score for score in kept if score.split == split]
        found += [score for score in own if score.split == split and score.task != COMPOSITE]
        for name in config.tasks:
            source, target = old.predictions(name, split), new.predictions(name, split)
            if source.is_file() and not target.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
        found += _composite(new, config, split)
    return found


def _composite(record: Record, config: Config, split: str) -> list[Score]:
    settings = config.evaluation
    parts: dict[str, tuple[float, Metric, Interval]] = {}
    for place, (name, section) in enumerate(config.tasks.items()):
        path = record.predictions(name, split)
        if not path.is_file():
            return []
        lines: list[dict[str, Any]] = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        if not section.importance:
            continue
        metric = build_metric(section.metrics[0])
        scored = interval(
            metric,
            [line["prediction"] for line in lines],
            [line["reference"] for line in lines],
            resamples=settings.resamples,
            confidence=settings.confidence,
            seed=config.training["seed"] + 1000 * place,
        )
        parts[name] = (section.importance, metric, scored)
    if not parts:
        return []
    whole = composite(parts, build_composite(settings.composite), confidence=settings.confidence)
    return [Score(COMPOSITE, split, COMPOSITE, whole.value, whole.low, whole.high, whole.n)]
