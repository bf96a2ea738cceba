"""Pydantic's errors, rewritten as faults in the user's terms."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from taskloom.config.document import Document, KeyPath
from taskloom.errors import Fault, listed, nearest

WORDS = {
    "int_type": "be a whole number",
    "int_parsing": "be a whole number",
    "int_from_float": "be a whole number",
    "float_type": "be a number",
    "float_parsing": "be a number",
    "finite_number": "be a finite number",
    "string_type": "be text",
    "bool_type": "be true or false",
    "bool_parsing": "be true or false",
    "list_type": "be a list",
    "tuple_type": "be a list",
    "dict_type": "be a mapping",
    "model_type": "be a mapping",
    "model_attributes_type": "be a mapping",
    "mapping_type": "be a mapping",
    "string_too_short": "not be empty",
    "too_short": "have one entry at least",
}
"""Pydantic's error types whose requirement depends on nothing else."""


def validated(
    model: type[BaseModel], values: Any, document: Document, prefix: KeyPath, faults: list[Fault]
) -> BaseModel | None:
    """Check a section by its model; what is wrong with it is added to `faults`, and then there is none."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        faults += to_faults(error, model, values, document, prefix)
    return None


def to_faults(
    error: ValidationError, model: type[BaseModel], values: Any, document: Document, prefix: KeyPath = ()
) -> list[Fault]:
    """Rewrite every error of one validation; the branches of one union become one fault."""
    faults: dict[str, Fault] = {}
    for detail in error.errors(include_url=False):
        fault = _fault(detail, model, values, document, prefix)
        known = faults.get(fault.where)
        if known and fault.requirement not in known.requirement:
            either = f"{known.requirement} or {fault.requirement.removeprefix('be ')}"
            fault = replace(known, requirement=either)
        faults[fault.where] = known if known and fault.requirement in known.requirement else fault
    # Where a branch of a union was right so far and failed deeper, the other branches are not what was meant.
    return [fault for where, fault in faults.items() if not any(other.startswith(f"{where}.") for other in faults)]


def unknown_key(path: KeyPath, known: Iterable[str], document: Document) -> Fault:
    """Give the fault of a key that nobody reads, with the nearest one that somebody does."""
    where = ".".join(map(str, path))
    return Fault(
        where, "be a key that Taskloom knows", f"`{path[-1]}`", nearest(str(path[-1]), known), document.source(path)
    )


def _fault(detail: ErrorDetails, model: type[BaseModel], values: Any, document: Document, prefix: KeyPath) -> Fault:
    kind = detail["type"]
    location = _keys(detail["loc"], values, absent=kind == "missing")
    path = (*prefix, *location)
    if kind == "extra_forbidden":
        return unknown_key(path, _keys_beside(model, location), document)
    where = ".".join(map(str, path)) or document.name
    source = document.source(path)
    if kind == "missing":
        return Fault(where, "be given", "nothing", f"Add `{path[-1]}:`", source)
    return Fault(where, _requirement(detail), _found(detail), _fix(detail), source)


def _keys(location: KeyPath, values: Any, *, absent: bool) -> KeyPath:
    """Tell keys from the names that pydantic gives to the branches of a union ("str", "list[str]")."""
    kept: list[str | int] = []
    for place, part in enumerate(location):
        if isinstance(values, Mapping) and part in values:
            kept.append(part)
            values = values[part]
        elif isinstance(part, int):
            kept.append(part)
            values = values[part] if isinstance(values, list) else None
        elif absent and place == len(location) - 1:
            kept.append(part)
    return tuple(kept)


def _requirement(detail: ErrorDetails) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind in WORDS:
        return WORDS[kind]
    limits = {
        "greater_than": ("gt", "more than"),
        "greater_than_equal": ("ge", "at least"),
        "less_than": ("lt", "less than"),
        "less_than_equal": ("le", "at most"),
    }
    if kind in limits:
        key, words = limits[kind]
        return f"be {words} {context[key]:g}"
    if kind in {"literal_error", "enum"}:
        return f"be one of {listed(_options(detail))}"
    if kind == "value_error":
        return str(context["error"])
    return detail["msg"][:1].lower() + detail["msg"][1:]


def _found(detail: ErrorDetails) -> str:
    value: Any = detail.get("input")
    if value is None or value == "":
        return "nothing"
    shown = str(value).lower() if isinstance(value, bool) else str(value)
    shown = f"`{shown[:80]}…`" if len(shown) > 80 else f"`{shown}`"
    return f"the text {shown}" if isinstance(value, str) and detail["type"] in WORDS else shown


def _fix(detail: ErrorDetails) -> str:
    value = detail.get("input")
    answer = nearest(value, _options(detail)) if isinstance(value, str) else ""
    return answer if answer.startswith("Did") else ""


def _options(detail: ErrorDetails) -> list[str]:
    """List what may be chosen, out of pydantic's words for it: "'mean' or 'first'"."""
    return re.findall(r"'([^']*)'", str(detail.get("ctx", {}).get("expected", "")))


def _keys_beside(model: type[BaseModel], location: KeyPath) -> list[str]:
    """List the keys that are known where an unknown one stands, by walking down the models."""
    current: Any = model
    for part in location[:-1]:
        field = current.model_fields.get(part) if isinstance(part, str) else None
        nested = field.annotation if field else None
        options = [nested, *getattr(nested, "__args__", ())]
        current = next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), None)
        if current is None:
            return []
    return [field.alias or name for name, field in current.model_fields.items()]
