"""What trackers are told of each task, under one set of names: `GROUP/TASK`, and `validation/TASK/METRIC`."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from transformers import TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback

from taskloom.gradients.conflict import mean_cosine
from taskloom.room import shown


class LogBook:
    """Sums up the steps since the last log.

    A log has for each task ``loss/TASK`` (mean of its examples), ``share/TASK`` (of all examples), ``weight/TASK`` and
    ``learning_rate/TASK`` (of the last step in which it had any), and ``tokens_per_second``; where conflict was
    recorded also ``conflict/mean_cosine`` over pairs of tasks and recorded steps.
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._loss: dict[str, float] = defaultdict(float)
        self._examples: dict[str, int] = defaultdict(int)
        self._last: dict[str, float] = {}
        self._cosines: list[float] = []
        self._tokens, self._seconds = 0, 0.0

    def add(self, step: Mapping[str, Any]) -> None:
        """Take up a step, as it is recorded."""
        for name, task in step["tasks"].items():
            self._tokens += task["tokens"]
            self._examples[name] += task["examples"]
            if task["examples"]:
                self._loss[name] += task["loss"] * task["examples"]
                self._last |= {f"{key}/{name}": task[key] for key in ("weight", "learning_rate")}
        self._seconds += step["seconds"]
        if "conflict" in step:
            self._cosines.append(mean_cosine(step["conflict"]["gramian"]))

    def close(self) -> dict[str, float]:
        """Give what there is to say, and begin anew; nothing where there was no step."""
        if not self._seconds:
            return {}
        total = sum(self._examples.values())
        told = {f"loss/{name}": self._loss[name] / count for name, count in self._examples.items() if count}
        told |= {f"share/{name}": count / total for name, count in self._examples.items() if total}
        told |= dict(sorted(self._last.items()))
        known = [each for each in self._cosines if math.isfinite(each)]
        if known:
            told["conflict/mean_cosine"] = sum(known) / len(known)
        told["tokens_per_second"] = self._tokens / self._seconds
        self._begin()
        return told


class NamedTensorBoard(TensorBoardCallback):
    """transformers' TensorBoard callback with scalars in groups: what a task has is not all under ``train/``."""

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any
    ) -> None:
        """Write the numbers of a log."""
        if not state.is_world_process_zero:
            return
        if self.tb_writer is None:
            self._init_summary_writer(args)
        for key, value in (logs or {}).items():
            if isinstance(value, int | float):
                self.tb_writer.add_scalar(scalar_name(key), value, state.global_step)
        self.tb_writer.flush()


def scalar_name(key: str) -> str:
    """Give a log's key its place in TensorBoard: ``validation/…`` of an evaluation, its own group, or ``train/…``."""
    if key.startswith("eval_"):
        return shown(f"validation/{key.removeprefix('eval_')}")
    return key if "/" in key else f"train/{key}"
