"""How a method of torchjd is described; the rows are in `_aggregations` and `_scalarizations`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

Seed = Annotated[int, Field(ge=0)]
Above = Annotated[float, Field(gt=0)]
NotBelow = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class Option:
    """One keyword option of a method.

    Attributes:
        hint: its type with limits, as pydantic reads it.
        default: its default; ``...`` where it has to be given.
        words: what it is, with why it has its default.
    """

    hint: Any
    default: Any
    words: str


SEED = Option(Seed, 0, "of the draws, beside the step (0)")


@dataclass(frozen=True)
class Row:
    """One method of torchjd, described; the class attributes are those of `Balance`.

    Attributes:
        torchjd: the name of its class in ``torchjd.aggregation`` or ``torchjd.scalarization``.
        summary: what it does, in one sentence.
        prefer: when to prefer it and when not.
        formula: the rule with every symbol.
        paper: author, title, year, identifier.
        options: name -> option.
        differs: from the paper or from torchjd, beside what all bridged methods do.
    """

    torchjd: str
    summary: str
    prefer: str
    formula: str
    paper: str
    needs: Literal["nothing", "losses", "gramian", "cross_gramian", "jacobian"] = "gramian"
    total: Literal["mean", "sum"] = "mean"
    options: Mapping[str, Option] = field(default_factory=dict)
    takes_preference: bool = False
    minimum_tasks: int = 2
    draws: bool = False
    conflict_free: bool = False
    scales: bool = True
    differs: str = ""

    def document(self) -> str:
        """Write the docstring of the bridged class, in the order of every method's."""
        parts = [self.summary, self.prefer, f"Formula: {self.formula}"]
        if self.options:
            lines = [f"    {name}: {option.words}." for name, option in self.options.items()]
            parts.append("\n".join(["Options:", *lines]))
        parts += [f"Cost: {COSTS[self.needs]}", f"Differs: {self.differs or 'no difference from torchjd.'}"]
        return "\n\n".join([*parts, f"Paper: {self.paper}"])


COSTS = {
    "nothing": "none.",
    "losses": "none beyond the losses.",
    "gramian": "the Gramian [task, task], and a problem of that size on the processor.",
    "cross_gramian": "the Gramian between the halves of the step's rows.",
    "jacobian": "the tasks' gradients [task, param], held in memory.",
}
