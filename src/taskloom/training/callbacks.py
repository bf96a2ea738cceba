"""What watches a run: the step record, interruption, and progress on a terminal or in a log."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from taskloom.gradients.ranks import add_up_number
from taskloom.record import Record
from taskloom.room import shown


class StepRecorder(TrainerCallback):
    """Writes one line for every optimizer step and every evaluation into steps.jsonl.

    Args:
        record: the run folder.
        step_record: gives what the last step was.
    """

    def __init__(self, record: Record, step_record: Callable[[], dict[str, Any]]) -> None:
        self.record = record
        self.step_record = step_record

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Write the step."""
        self.record.append_step({"step": state.global_step, **self.step_record()})

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: Any = None, **_: Any
    ) -> None:
        """Write the evaluation."""
        values = {key.removeprefix("eval_"): value for key, value in (metrics or {}).items()}
        composite = values.pop("composite", None)
        values.pop("runtime", None)
        tasks: dict[str, dict[str, float]] = {}
        for key, value in values.items():
            if "/" in key:
                name, _, metric = key.partition("/")
                tasks.setdefault(name, {})[metric] = value
        evaluation = {"split": "validation", "composite": composite, "tasks": tasks}
        self.record.append_step({"step": state.global_step, "evaluation": evaluation})

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Note how far the run can be taken up again."""
        self.record.write_state("running", state.global_step)


class Interruption(TrainerCallback):
    """Turns the first Ctrl-C or SIGTERM into a checkpoint and an orderly stop; a second one stops at once.

    Attributes:
        asked: whether it was asked to stop.
    """

    def __init__(self) -> None:
        self.asked = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interruption:
        for kind in (signal.SIGINT, signal.SIGTERM):
            try:
                self._previous[kind] = signal.signal(kind, self._ask)
            except ValueError:  # not the main thread: the host program keeps its own way of stopping
                break
        return self

    def __exit__(self, *_: object) -> None:
        for kind, handler in self._previous.items():
            signal.signal(kind, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Save and stop where asked to; an evaluation that is due here still runs, or the resumed run would lack it."""
        self.asked = add_up_number(float(self.asked)) > 0  # every process stops where one was asked to
        if self.asked and state.global_step < state.max_steps:
            control.should_save = True
            control.should_training_stop = True


class ProgressView(TrainerCallback):
    """Shows a run: a live table with a row for each task on a terminal, plain lines elsewhere.

    Args:
        console: where to.
        tasks: task names, in order.
        metrics: task -> the metric that is its score.
    """

    def __init__(self, console: Console, tasks: Sequence[str], metrics: Mapping[str, str]) -> None:
        self.console = console
        self.tasks = tasks
        self.metrics = metrics
        self.losses: dict[str, float] = {}
        self.scores: dict[str, float] = {}
        self.best: float | None = None
        self.speed = 0.0
        self._live: Live | None = None
        self._started = time.monotonic()
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
        )
        self._bar_task = self._bar.add_task("training", total=None)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Begin to draw."""
        self._started = time.monotonic()
        self._first = state.global_step
        self._bar.update(self._bar_task, total=state.max_steps, completed=state.global_step)
        if self.console.is_terminal:
            self._live = Live(self._drawing(), console=self.console, refresh_per_second=4)
            self._live.start()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Move the bar."""
        self._bar.update(self._bar_task, completed=state.global_step)
        self._refresh()

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any
    ) -> None:
        """Take up each task's loss."""
        logs = logs or {}
        if "loss" not in logs:
            return
        self.losses |= {name: logs[f"loss/{name}"] for name in self.tasks if f"loss/{name}" in logs}
        self.speed = logs.get("tokens_per_second", self.speed)
        self._refresh()
        if self._live is None:
            losses = "  ".join(f"{name} {self.losses[name]:.3f}" for name in self.tasks if name in self.losses)
            done = max(state.global_step - self._first, 1)
            left = (time.monotonic() - self._started) / done * (state.max_steps - state.global_step)
            where = f"step {state.global_step}/{state.max_steps}"
            self.console.print(
                f"{where}  loss {logs['loss']:.3f}  {losses}  {self.speed:.0f} tokens/s  {left:.0f} s left",
                soft_wrap=True,
                highlight=False,
            )

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: Any = None, **_: Any
    ) -> None:
        """Take up each task's score."""
        metrics = metrics or {}
        found = {name: metrics.get(f"eval_{name}/{self.metrics[name]}") for name in self.tasks}
        self.scores |= {name: value for name, value in found.items() if value is not None}
        composite = metrics.get("eval_composite")
        if composite is not None:
            self.best = composite if self.best is None else max(self.best, composite)
        self._refresh()
        if self._live is None and composite is not None:
            scores = "  ".join(f"{name} {shown(self.metrics[name])} {value:.3f}" for name, value in self.scores.items())
            where = f"step {state.global_step}/{state.max_steps}"
            self.console.print(
                f"{where}  validation composite {composite:.3f}  {scores}", soft_wrap=True, highlight=False
            )

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Leave the last drawing on the screen."""
        self.close()

    def close(self) -> None:
        """Stop drawing, also after an error."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _refresh(self) -> None:
        if self._live is not None:
            self._live.update(self._drawing())

    def _drawing(self) -> Group:
        table = Table("task", "loss", "score", "metric", box=None, pad_edge=False)
        for name in self.tasks:
            loss = f"{self.losses[name]:.3f}" if name in self.losses else "…"
            score = f"{self.scores[name]:.3f}" if name in self.scores else "…"
            table.add_row(name, loss, score, shown(self.metrics[name]))
        best = f"   best composite {self.best:.3f}" if self.best is not None else ""
        return Group(table, self._bar, f"{self.speed:.0f} tokens/s{best}")
