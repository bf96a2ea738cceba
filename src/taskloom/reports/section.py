"""A part of the page: what it says, and the charts it draws, each with its numbers for whoever does not see it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from taskloom.reports.writing import FILTERS, number

if TYPE_CHECKING:
    from taskloom.reports.facts import RunFacts

FOLDER = Path(__file__).parent / "sections"


@dataclass(frozen=True)
class Chart:
    """A Vega-Lite chart.

    Attributes:
        id: unique within its section.
        spec: what Vega-Lite draws, its data inside.
        label: what a screen reader calls it, and the caption.
        rows: its numbers as a table, the headings first.
    """

    id: str
    spec: dict[str, Any]
    label: str
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """What a section of the page shows of a run.

    Attributes:
        html: its words and tables, escaped.
        charts: drawn below them.
        data: mappings that the page's script reads, by name; written as JSON.
    """

    html: Markup
    charts: Sequence[Chart] = ()
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Placed:
    """A section with its heading, as the page has it."""

    name: str
    title: str
    section: Section


def sections_together(runs: Sequence[RunFacts]) -> list[Placed]:
    """Make the sections that show several runs together: those whose file says `COMPARES`."""
    modules = [(name, module) for name, module in _modules() if getattr(module, "COMPARES", False)]
    made = [(name, module, module.section(runs)) for name, module in modules]
    return [Placed(f"{name}-together", module.TITLE, each) for name, module, each in made if each is not None]


def sections_of(run: RunFacts) -> list[Placed]:
    """Make every section that has something to show of a run, in the order of their places.

    A section is a file of `sections/` with a `TITLE`, a `PLACE` on the page and a function ``section(runs)``; it is
    found by itself.
    """
    found = []
    for name, module in _modules():
        made = module.section([run])
        if made is not None:
            found.append(Placed(name, module.TITLE, made))
    return found


def table_of(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Lay mappings of the same keys out as a table, the headings first."""
    if not rows:
        return [[]]
    written = [[number(each) if isinstance(each, float) else str(each) for each in row.values()] for row in rows]
    return [list(rows[0]), *written]


def render(template: str, **values: Any) -> Markup:
    """Fill in a template of `sections/`; all values are escaped."""
    return Markup(_environment().get_template(template).render(**values))  # noqa: S704 - rendered with escaping


@cache
def _modules() -> tuple[tuple[str, ModuleType], ...]:
    names = sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))
    held = [(name, importlib.import_module(f"taskloom.reports.sections.{name}")) for name in names]
    return tuple(sorted(held, key=lambda each: each[1].PLACE))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("taskloom.reports", "sections"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    return environment
