"""Pydantic's errors, rewritten as faults in the user's terms."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from taskloom.config.document import Document, KeyPath
from taskloom.errors import Fault, nearest

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
}
"""Pydantic's error types whose requirement depends on nothing else."""


def to_faults(error: ValidationError, model: type[BaseModel], document: Document, prefix: KeyPath = ()) -> list[Fault]:
    """Rewrite every error of one validation; errors of one union are told once, by its first branch."""
    faults: dict[str, Fault] = {}
    for detail in error.errors(include_url=False):
        fault = _fault(detail, model, document, prefix)
        faults.setdefault(fault.where, fault)
    return list(faults.values())


def unknown_key(path: KeyPath, known: Iterable[str], document: Document) -> Fault:
    """Give the fault of a key that nobody reads, with the nearest one that somebody does."""
    where = ".".join(map(str, path))
    return Fault(
        where, "be a key that Taskloom knows", f"`{path[-1]}`", nearest(str(path[-1]), known), document.source(path)
    )


def _fault(detail: ErrorDetails, model: type[BaseModel], document: Document, prefix: KeyPath) -> Fault:
    location = tuple(part for part in detail["loc"] if _is_key(part))
    path = (*prefix, *location)
    kind = detail["type"]
    if kind == "extra_forbidden":
        return unknown_key(path, _keys_beside(model, location), document)
    where = ".".join(map(str, path)) or document.name
    source = document.source(path)
    if kind == "missing":
        return Fault(where, "be given", "nothing", f"Add `{path[-1]}:`", source)
    return Fault(where, _requirement(detail), _found(detail), _fix(detail), source)


def _is_key(part: str | int) -> bool:
    """Tell keys from the names that pydantic gives to the branches of a union ("list[str]", "literal['a']")."""
    return isinstance(part, int) or not (part in {"str", "int", "float", "bool", "none"} or set(part) & set("[]{}()"))


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
        return f"be {words} {context[key]}"
    if kind in {"literal_error", "enum"}:
        return f"be one of {context['expected']}"
    if kind in {"too_short", "string_too_short"}:
        return f"have at least {context['min_length']} entries"
    if kind == "value_error":
        return str(context["error"])
    return detail["msg"][:1].lower() + detail["msg"][1:]


def _found(detail: ErrorDetails) -> str:
    value: Any = detail.get("input")
    return f"`{value!r}`" if isinstance(value, str) else f"`{value}`" if value is not None else "nothing"


def _fix(detail: ErrorDetails) -> str:
    value, expected = detail.get("input"), detail.get("ctx", {}).get("expected")
    if detail["type"] in {"literal_error", "enum"} and isinstance(value, str) and isinstance(expected, str):
        options = [part.strip(" '") for part in expected.replace(" or ", ",").split(",")]
        answer = nearest(value, options)
        return answer if answer.startswith("Did") else ""
    return ""


def _keys_beside(model: type[BaseModel], location: tuple[str | int, ...]) -> list[str]:
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
