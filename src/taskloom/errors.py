"""What can go wrong, said in one sentence each.

The exception tree::

    TaskloomError             everything Taskloom raises on purpose; exit code 2, no traceback
    ├── ConfigError           the run file: keys, types, names, values
    ├── DataError             files, columns, rows, labels, splits
    ├── ModelError            the backbone, its tokenizer, its adapter, a saved model
    ├── RunFolderError        a run folder that is missing, of another run or of another version
    ├── MissingExtraError     an optional library is needed and absent
    ├── NonFiniteLossError    a loss became NaN or infinite; the step was not applied
    ├── NonFiniteGradientError  gradients were not finite more often than the run allows; no such step was applied
    ├── StudyError            runs of a study failed; the others are trained, and calling again trains what is missing
    └── InterruptedRunError   the user stopped a run; its checkpoint is saved; exit code 130

An error carries one or more `Fault`s. A fault is one sentence:
``where`` should REQUIREMENT. Found VALUE. FIX.
"""

from __future__ import annotations

import difflib
import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

LIMIT_FAULTS_SHOWN = 20
"""How many faults one message lists before it counts the rest."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong, in the user's terms.

    Attributes:
        where: the key, file or row, as the user wrote it.
        requirement: what it should be, as the words after "should".
        found: what is there instead; empty when nothing is.
        fix: what to write instead; one sentence, or empty.
        source: the file it stands in, with its line where known ("run.yaml:7").
    """

    where: str
    requirement: str
    found: str = ""
    fix: str = ""
    source: str = ""

    def __str__(self) -> str:
        parts = [f"`{self.where}` should {self.requirement}."]
        parts += [_ended(words) for words in (self.found and f"Found {self.found}", self.fix) if words]
        text = " ".join(parts)
        return f"{self.source}: {text}" if self.source else text


class TaskloomError(Exception):
    """Base of every error that Taskloom raises on purpose.

    Attributes:
        faults: what is wrong, all of it, in the order in which it was met.
        exit_code: what the command line ends with.
    """

    exit_code = 2

    def __init__(self, *faults: Fault) -> None:
        self.faults = faults
        super().__init__(str(self))

    def __str__(self) -> str:
        lines = [str(fault) for fault in self.faults[:LIMIT_FAULTS_SHOWN]]
        hidden = len(self.faults) - len(lines)
        if hidden:
            lines.append(f"... and {hidden} more.")
        return "\n".join(lines)


class ConfigError(TaskloomError):
    """The run file asks for something that cannot be."""


class DataError(TaskloomError):
    """Data is missing, or is not what its task needs."""


class ModelError(TaskloomError):
    """The backbone, its tokenizer or its adapter cannot serve the run."""


class RunFolderError(TaskloomError):
    """A run folder is missing, belongs to another run, or is of another version."""


class MissingExtraError(TaskloomError):
    """An optional library is needed and not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            Fault(package, f"be installed to {purpose}", "no such package", f"Run `pip install 'taskloom[{extra}]'`")
        )


class NonFiniteLossError(TaskloomError):
    """A loss became NaN or infinite; the optimizer step was not applied."""


class NonFiniteGradientError(TaskloomError):
    """Gradients became NaN or infinite in more steps than the run allows; none of these steps was applied."""


class StudyError(TaskloomError):
    """Runs of a study failed; the others are trained, and calling again trains what is missing."""


class InterruptedRunError(TaskloomError):
    """The user stopped a run; the checkpoint is saved and the same command goes on from it."""

    exit_code = 130


def said(error: BaseException, limit: int = 240) -> str:
    """Give the first sentence of what another library says, without its full stop."""
    sentence = re.split(r"(?<=[.!?]) (?=[A-Z])", " ".join(str(error).split()))[0]
    return textwrap.shorten(sentence, limit, placeholder=" …").rstrip(" .")


def nearest(name: str, options: Iterable[str]) -> str:
    """Say which of `options` the user may have meant by `name`.

    Returns:
        "Did you mean `x`?" where one is near, else the list of all options, else "".
    """
    known = sorted(set(options))
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"Did you mean `{close[0]}`?"
    return f"Choose one of {listed(known)}" if known else ""


def listed(names: Sequence[str], limit: int = 30) -> str:
    """Write names as a short list, cut after `limit`."""
    shown = ", ".join(f"`{name}`" for name in names[:limit])
    return f"{shown}, … ({len(names)} in all)" if len(names) > limit else shown


def _ended(words: str) -> str:
    return words if words.endswith((".", "?", "!")) else f"{words}."
