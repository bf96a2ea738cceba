"""A run file as plain values, with the line of every key: YAML 1.2, no constructors, no duplicate keys."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import TaggedScalar
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from taskloom.errors import ConfigError, Fault, nearest

KeyPath = tuple[str | int, ...]

PLAIN_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "str", "int", "float", "bool", "null")}
"""What YAML itself gives to plain values; any other tag would ask for a constructor."""


@dataclass
class Document:
    """Values with the places they came from.

    Attributes:
        values: the plain content: dicts, lists, strings, numbers, booleans, None.
        name: what to call it in messages: the file's name, or "config" for values given in Python.
        lines: path of a key -> its line, from 1; keys that came from elsewhere have none.
        overridden: paths of keys that `--set` gave.
        recorded: whether it is the run.yaml of a run folder; what it names elsewhere may be gone since.
        folder: where it stands; of values given in Python, where the program runs.
    """

    values: dict[str, Any]
    name: str = "config"
    lines: dict[KeyPath, int] = field(default_factory=dict)
    overridden: set[KeyPath] = field(default_factory=set)
    recorded: bool = False
    folder: Path = Path()

    def source(self, path: KeyPath) -> str:
        """Say where a key stands: "run.yaml:7", "--set", or the document's name."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.overridden:
                return "--set"
            if path[:end] in self.lines:
                return f"{self.name}:{self.lines[path[:end]]}"
        return self.name


def read_document(path: Path) -> Document:
    """Read a run file.

    Raises:
        ConfigError: it is missing, not UTF-8, not YAML, or holds a duplicate key or a tag.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(_missing(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        found = "other bytes" if isinstance(error, UnicodeDecodeError) else error.strerror or str(error)
        found = "a folder" if isinstance(error, IsADirectoryError) else found
        raise ConfigError(Fault(str(path), "be a text file in UTF-8", found)) from error
    document = parse_document(text, path.name)
    document.recorded = path.with_name("state.json").is_file()
    document.folder = path.parent
    return document


def parse_document(text: str, name: str) -> Document:
    """Parse YAML 1.2 text; `name` is what messages call it. Raises `ConfigError` as `read_document` does."""
    try:
        tree = YAML(typ="rt", pure=True).load(StringIO(text))
    except DuplicateKeyError as error:
        key, line = _duplicate(error)
        raise ConfigError(_twice(key, f"{name}:{line}")) from None
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(Fault(name, "be YAML", str(error.problem), source=f"{name}:{line}")) from None
    except YAMLError as error:
        raise ConfigError(Fault(name, "be YAML", str(error).splitlines()[0])) from None
    document = Document(values={}, name=name)
    if tree is None:
        return document
    if not isinstance(tree, Mapping):
        fix = "Begin with `model:` and `tasks:`"
        found = "a list" if isinstance(tree, list) else f"`{tree}`"
        raise ConfigError(Fault(name, "be a mapping of keys to values", found, fix))
    document.values = _plain(tree, (), document)
    return document


def document_of(values: Mapping[str, Any]) -> Document:
    """Take values given in Python; paths become text.

    Raises:
        ConfigError: a value is none that YAML could hold.
    """
    document = Document(values={})
    document.values = {str(key): _given(value, (str(key),), document) for key, value in values.items()}
    return document


def override(document: Document, assignments: Sequence[str]) -> None:
    """Apply ``a.b=value`` assignments in place; each value is read as YAML.

    Raises:
        ConfigError: an assignment has no ``=``, or leads through a key that holds no mapping.
    """
    for assignment in assignments:
        dotted, equals, text = assignment.partition("=")
        if not equals or not dotted:
            found = f"`{assignment}`" if assignment else "nothing"
            raise ConfigError(Fault("--set", "be of the form `a.b=value`", found))
        path = tuple(dotted.split("."))
        target = document.values
        for depth, key in enumerate(path[:-1], start=1):
            if target.get(key) is None:
                target[key] = {}
            target = target[key]
            if not isinstance(target, dict):
                where = ".".join(path[:depth])
                raise ConfigError(Fault(where, "hold keys of its own", f"`{target}`", source="--set"))
        target[path[-1]] = _assigned(assignment, text)
        document.lines = {key: line for key, line in document.lines.items() if key[: len(path)] != path}
        document.overridden.add(path)


def _assigned(assignment: str, text: str) -> Any:
    try:
        return parse_document(f"value: {text}", "value").values["value"]
    except ConfigError as error:
        raise ConfigError(*(replace(fault, source=f"--set {assignment}") for fault in error.faults)) from None


def dump(values: Mapping[str, Any]) -> str:
    """Write plain values as YAML 1.2 text."""
    out = StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = 4096
    yaml.dump(dict(values), out)
    return out.getvalue()


def _given(value: Any, path: KeyPath, document: Document) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _given(inner, (*path, str(key)), document) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_given(inner, (*path, index), document) for index, inner in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    where, requirement = ".".join(map(str, path)), "be a text, a number, true, false, None, a list or a mapping"
    raise ConfigError(Fault(where, requirement, f"a `{type(value).__name__}`", source=document.name))


def _plain(node: Any, path: KeyPath, document: Document) -> Any:
    """Turn ruamel's tree into plain values, noting the line of every key and refusing tags."""
    tag = getattr(getattr(node, "tag", None), "value", None)
    if isinstance(node, TaggedScalar) or (tag is not None and tag not in PLAIN_TAGS):
        where = ".".join(map(str, path)) or document.name
        fix = "Delete the tag"
        raise ConfigError(Fault(where, "be a plain value", f"the tag `{tag}`", fix, document.source(path)))
    if isinstance(node, Mapping):
        plain = {}
        for key, value in node.items():
            child, line = (*path, str(key)), node.lc.key(key)[0] + 1  # type: ignore[attr-defined]
            if str(key) in plain:
                raise ConfigError(_twice(str(key), f"{document.name}:{line}"))
            document.lines[child] = line
            plain[str(key)] = _plain(value, child, document)
        return plain
    if isinstance(node, list):
        for index in range(len(node)):
            document.lines[(*path, index)] = node.lc.item(index)[0] + 1  # type: ignore[attr-defined]
        return [_plain(value, (*path, index), document) for index, value in enumerate(node)]
    if isinstance(node, bool) or node is None:
        return node
    for base in (int, float, str):
        if isinstance(node, base):
            return base(node)
    return str(node)  # dates and times stay what the user typed


def _duplicate(error: DuplicateKeyError) -> tuple[str, int]:
    match = re.search(r'duplicate key "([^"]*)"', str(error.problem))
    line = error.problem_mark.line + 1 if error.problem_mark else 1
    return (match.group(1) if match else "key"), line


def _twice(key: str, source: str) -> Fault:
    return Fault(key, "be written once", "the key twice", "Rename one of the two, or delete it", source)


def _missing(path: Path) -> Fault:
    there = [entry.name for entry in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
    fix = nearest(path.name, there) if there else "Write one: `taskloom quickstart --write FOLDER` writes an example"
    return Fault(str(path), "be a run file", "no such file", fix)
