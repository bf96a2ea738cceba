"""The one budget of a study: how many steps the joint run takes, and how many rows it draws of each task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from taskloom.config import Config
from taskloom.errors import ConfigError, Fault
from taskloom.preparation import prepare
from taskloom.training.arguments import fetched_ahead, run_length, training_arguments

Rule = Literal["steps", "tokens", "seconds"]


@dataclass(frozen=True)
class Budget:
    """What every run of a study may use.

    Attributes:
        rule: "steps": as many optimizer steps as the run file says; "tokens": as many as its tokens come to; "seconds":
            as many as each run makes in that time on this machine, by a rehearsal of it.
        steps: of the joint run.
        rows: task -> rows that the joint run draws of it.
        batch: rows of one step of the joint run.
        seconds: of a run's steps, where the rule counts those.
    """

    rule: Rule
    steps: int
    rows: Mapping[str, float]
    batch: int
    seconds: float = 0.0

    @classmethod
    def of(cls, base: Config, rule: Rule = "steps", limit: float | None = None) -> Budget:
        """Work out the budget of a run's data and settings; nothing is trained.

        Args:
            base: the run of all tasks.
            rule: what is counted.
            limit: tokens or seconds of a run, where those are counted.

        Raises:
            ConfigError: there is no limit where there has to be one.
        """
        if rule != "steps" and not limit:
            raise ConfigError(Fault("budget.limit", f"be how many {rule} a run may use", "nothing"))
        prepared = prepare(base)
        arguments = training_arguments(base.training, Path("unused"), evaluates=False)
        length = run_length(arguments, prepared.training_items(), prepared.rows())
        drawn = prepared.plan(length, fetched_ahead(arguments)).plan.totals()
        steps = length.updates
        each = {name: count / length.updates for name, count in drawn.items()}
        if rule == "tokens":
            mean = {name: float(np.mean(prepared.items[name]["train"].tokens)) for name in each}
            steps = max(1, round((limit or 0) / sum(each[name] * mean[name] for name in each)))
        rows = {name: rate * steps for name, rate in each.items()}
        batch = prepared.rows() * arguments.gradient_accumulation_steps
        return cls(rule, steps, rows, batch, float(limit or 0) if rule == "seconds" else 0.0)

    def cut(self, rows: Mapping[str, float]) -> tuple[int, int]:
        """Give batch size and steps of a run that draws some rows in about as many steps.

        Where the rows of a step are no whole number, the steps make up for the rounding.

        Args:
            rows: task -> rows over the whole run.
        """
        whole = sum(rows.values())
        batch = max(1, round(whole / self.steps))
        return batch, max(1, round(whole / batch))

    def steps_within(self, config: Config) -> int:
        """Give how many steps a run makes in the budget's seconds, by a rehearsal of two of them."""
        from taskloom.inspection import rehearse

        return max(1, int(self.seconds / max(rehearse(config).usual_seconds, 1e-6)))
