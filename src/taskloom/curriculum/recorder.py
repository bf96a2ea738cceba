"""A curriculum's decisions, written into the run folder as they take effect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from taskloom.curriculum.beginning import POLICY
from taskloom.policy import Decision
from taskloom.record import Record


class CurriculumRecorder(TrainerCallback):
    """Writes each decision once its step is reached, so that the log stays in order and tells only what happened.

    Args:
        record: the run folder, its decisions after the last checkpoint dropped.
        decisions: what `begin_curriculum` gave.
    """

    def __init__(self, record: Record, decisions: Sequence[Decision]) -> None:
        self.record = record
        self.decisions = decisions

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Write what holds from the start, which a run that is resumed has written already."""
        if not any(row.get("policy") == POLICY for row in self.record.decisions()):
            self._write(0, state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Write what holds from the next step on."""
        self._write(state.global_step, state.global_step)

    def _write(self, first: int, last: int) -> None:
        for decision in self.decisions:
            if first <= decision.step <= last:
                self.record.append_decision(decision.as_row())
