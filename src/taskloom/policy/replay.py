"""Decide what another run decided, at the same steps."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator

from taskloom.errors import ConfigError, Fault, RunFolderError, listed, nearest
from taskloom.policy import LIMIT_FACTOR, Decision, Policy, Watched
from taskloom.record import read_lines


def _whole(path: str) -> str:
    return str(Path(path).expanduser().resolve())


class Replay(Policy):
    """Apply the decisions of another run's decisions.jsonl at the same steps.

    Prefer it to repeat a run's decisions with another seed, model or method, and to see what they were worth: the same
    decisions without what led to them. Do not beside other policies: the factors of the file are those of all policies
    of its run together, and would be multiplied with theirs.

    Formula: at an evaluation, every task takes the factor of its last line in the file with a step no later than the
    steps done. Where this run evaluates at other steps, a decision waits for the next evaluation.

    Options:
        file: a decisions.jsonl, or the run folder that holds one; run files keep the whole path.

    State: the factors set so far, and a digest of the file's decisions.

    Errors: the file is missing or is no log of decisions, or it names a task that the run does not have; at resuming,
    the file holds other decisions than at the start.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from taskloom.record import append_line
    >>> log = Path(tempfile.mkdtemp()) / "decisions.jsonl"
    >>> row = Decision(10, "rest_converged", "a", 0.25, "`a` rests.").as_row()
    >>> append_line(log, {"version": 1, **row})
    >>> policy = Replay(file=str(log))
    >>> seen = Watched(10, 100, {}, {}, {}, {"a": 1.0}, rest=0.25, conflicts=[])
    >>> [(each.task, each.factor) for each in policy.decide(seen)]
    [('a', 0.25)]
    """

    def __init__(self, *, file: Annotated[str, AfterValidator(_whole)]) -> None:
        self.file = file
        self._factors: dict[str, float] = {}

    def begin(self, tasks: Sequence[str]) -> None:
        """Read the file, and refuse it where it names tasks which the run does not have."""
        strangers = list(dict.fromkeys(each.task for each in self._log if each.task not in tasks))
        if strangers:
            requirement, found = "hold decisions for the run's tasks alone", f"{listed(strangers)} in `{self.file}`"
            raise ConfigError(Fault("file", requirement, found, nearest(strangers[0], tasks)))

    def decide(self, watched: Watched) -> list[Decision]:
        """Give the file's decisions that are due; see the class."""
        self.begin(list(watched.factors))
        due = {each.task: each for each in self._log if each.step <= watched.step}
        decisions = []
        for task in watched.factors:
            if task in due and due[task].factor != self._factors.get(task, 1.0):
                self._factors[task] = due[task].factor
                reason = f"As in step {due[task].step} of `{self.file}`: {due[task].reason}"
                decisions.append(Decision(watched.step, self.name, task, due[task].factor, reason))
        return decisions

    @functools.cached_property
    def _log(self) -> list[Decision]:
        return _log_of(Path(_whole(self.file)))

    @property
    def _digest(self) -> str:
        rows = json.dumps([[each.step, each.task, each.factor] for each in self._log])
        return hashlib.sha256(rows.encode()).hexdigest()

    def state(self) -> dict[str, Any]:
        """Give the factors set so far, and the digest of the decisions."""
        return {"factors": dict(self._factors), "digest": self._digest}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take the factors back; refuse a file of other decisions."""
        if state["digest"] != self._digest:
            fix = "Restore the file, or train anew in another folder"
            requirement = "hold the decisions that it held when the run began"
            raise ConfigError(Fault("file", requirement, f"others in `{self.file}`", fix))
        self._factors = dict(state["factors"])


def _log_of(path: Path) -> list[Decision]:
    """Read a log but for a curriculum's lines, which the same section gives again; what is none is one fault."""
    place = path / "decisions.jsonl" if path.is_dir() else path
    requirement = "be a log of decisions, or a run folder that holds one"
    if not place.is_file():
        fix = "A run with `policies` writes one as decisions.jsonl into its folder"
        raise ConfigError(Fault("file", requirement, f"no file `{place}`", fix))
    try:
        return [_decision(row) for row in read_lines(place) if row.get("policy") != "curriculum"]
    except RunFolderError as error:
        found = str(error.faults[0].found)
        raise ConfigError(Fault("file", requirement, f"`{error.faults[0].where}`: {found} in `{place}`")) from error
    except (KeyError, TypeError, ValueError) as error:
        found = f"a line without a sound step, task, factor and reason in `{place}`"
        raise ConfigError(Fault("file", requirement, found)) from error


def _decision(row: Mapping[str, Any]) -> Decision:
    step, task, factor, reason = row["step"], row["task"], float(row["factor"]), row["reason"]
    if not (isinstance(step, int) and isinstance(task, str) and isinstance(reason, str)):
        raise TypeError("a decision is of other types")
    if not (math.isfinite(factor) and 0 <= factor <= LIMIT_FACTOR):
        raise ValueError(f"no factor: {factor}")
    return Decision(step, str(row["policy"]), task, factor, reason)
