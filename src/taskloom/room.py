"""A folder is a registry.

A room is a package in which every file is one method: the file's name is the name used in run files, the class of
that name in CamelCase is the method, its keyword arguments are its options, and its docstring is its documentation.
Files that start with an underscore are the room's own and no methods. A method that lives elsewhere is named in full:
``package.module:ClassName``, or ``path/file.py:ClassName`` in a run file.

A file that a run file names is kept by its content in the user's own folder of code, and called
``file.py@DIGEST:ClassName`` from then on: a run goes on with the code that it began with, wherever the file has gone.
Rooms run nothing but what is kept there. A run folder carries copies of its code, and these are kept, and so run, only
where the user says so: a folder may come from anyone.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import os
import re
import shutil
import sys
import typing
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from taskloom.errors import ConfigError, Fault, nearest, said

Method = TypeVar("Method")

IMPORT_ERRORS = (
    *(ImportError, AttributeError, SyntaxError, NameError, TypeError, ValueError),
    *(LookupError, OSError, RuntimeError, ArithmeticError),
)
"""What comes of a name that leads nowhere, and of a module that is broken."""

FILE = re.compile(r"([^/\\@:\s'\"]+\.py)@([0-9a-f]{12}):(\w+)")
"""A method in a file that is kept: the file's name, its digest, and what in it is meant."""

GIVEN = re.compile(r"([^@:]+\.py):(\w+)")
"""A method in a file, as a run file names it."""

TRUST = "TASKLOOM_TRUST_CODE"
"""The variable that says, by being set, that code of run folders may be run; `taskloom --trust-code` sets it."""


def shown(name: str) -> str:
    """Give a method's name without the digest of its file, for tables."""
    return FILE.sub(r"\1:\3", name)


def kept_path(name: str) -> Path | None:
    """Give where the file of a method is kept, or would be; None where the method is in no file of its own."""
    match = FILE.fullmatch(name)
    return _place(match[1], match[2]) if match else None


def _place(file: str, digest: str) -> Path:
    home = os.environ.get("TASKLOOM_HOME")
    base = Path(home).expanduser() if home else Path.home() / ".cache" / "taskloom"
    return base / "code" / digest / file


def keep(name: str, folder: Path) -> str:
    """Keep the file of a method that the user names, and give the method's name with the file's digest.

    Args:
        name: as a run file has it; one that is in no file, or is kept already, stays as it is.
        folder: where relative paths begin.

    Raises:
        OSError: the file cannot be read, or there is no place to keep it.
    """
    match = GIVEN.fullmatch(name)
    if match is None:
        return name
    source = Path(folder, match[1]).expanduser()
    return f"{source.name}@{_keep(source.read_bytes(), source.name)}:{match[2]}"


def keep_copy(name: str, folder: Path) -> None:
    """Keep the copy that a run folder has of a method's file, where the user trusts the code of run folders.

    Args:
        name: of the method; nothing is done where it is in no file, or in one that is kept already.
        folder: that of the run's code.

    Raises:
        ConfigError: the file is not kept here, and its copy is not trusted, is missing, or is another file.
    """
    path = kept_path(name)
    if path is None or path.is_file():
        return
    copy = folder / path.parent.name / path.name
    requirement, found = "name code that was run here before", f"`{shown(name)}`, which came with the run folder"
    if not copy.is_file():
        found, fix = f"`{shown(name)}`, of which the run folder has no copy", "Ask for it where the folder comes from"
        raise ConfigError(Fault(name, requirement, found, fix))
    if not os.environ.get(TRUST):
        fix = f"Read `{copy}`, and if you trust it, call again as `taskloom --trust-code …`"
        raise ConfigError(Fault(name, requirement, found, fix))
    if _keep(copy.read_bytes(), path.name) != path.parent.name:
        raise ConfigError(Fault(name, "be in the file that the run was made with", f"another file in `{copy}`"))


def copy_code(text: str, folder: Path) -> None:
    """Copy the kept files of all methods that a run file names.

    Args:
        text: the run file.
        folder: that of the run's code; made where there is something to copy.
    """
    for match in FILE.finditer(text):
        path, copy = kept_path(match[0]), folder / match[2] / match[1]
        if path is not None and path.is_file() and not copy.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


def _keep(code: bytes, file: str) -> str:
    """Keep a file by its content; gives its digest."""
    digest = sha256(code).hexdigest()[:12]
    path = _place(file, digest)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.{os.getpid()}.part")
        beside.write_bytes(code)
        beside.replace(path)
    return digest


def _module_of(path: Path) -> ModuleType:
    """Run a file that is kept, once a process; the same content is the same module."""
    name = f"taskloom_code_{path.parent.name}_{path.stem}"
    if name in sys.modules:
        return sys.modules[name]
    if not path.is_file():
        raise ImportError(f"No file {path.name} of this content is kept in {path.parent}")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path.name} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def class_name(name: str) -> str:
    """Give the class that a file of a room defines: ``macro_f1`` holds ``MacroF1``."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


class Room(Generic[Method]):
    """The methods of one kind, found by looking into their folder.

    Args:
        package: the room's package, such as ``taskloom.metrics``.
        noun: what one of its methods is called in messages, such as "metric".
    """

    def __init__(self, package: str, noun: str) -> None:
        self.package = package
        self.noun = noun

    def names(self) -> list[str]:
        """List the room's methods by name, sorted; imports none of them."""
        return sorted(path.stem for path in self._folder().glob("*.py") if not path.stem.startswith("_"))

    def load(self, name: str) -> type[Method]:
        """Import the method called `name`.

        Raises:
            ConfigError: there is no such method, it cannot be imported, or it is none of the room's kind.
        """
        if ":" in name:
            module_name, _, attribute = name.partition(":")
        elif name in self.names():
            module_name, attribute = f"{self.package}.{name}", class_name(name)
        else:
            fix = nearest(name, self.names())
            raise ConfigError(Fault(name, f"be a {self.noun} that Taskloom has", f"`{name}`", fix))
        path = kept_path(name)
        try:
            module = importlib.import_module(module_name) if path is None else _module_of(path)
            found: Any = getattr(module, attribute)
        except IMPORT_ERRORS as error:
            form = "package.module:ClassName" if path is None else "file.py:Name"
            requirement = f"be a {self.noun} that can be imported as `{form}`"
            fix = "Install its package, or put its folder on PYTHONPATH" if path is None else "Look into the file"
            raise ConfigError(Fault(name, requirement, f"`{shown(name)}` ({said(error)})", fix)) from error
        base = self._base()
        if inspect.isfunction(found) and hasattr(base, "of_function"):
            found = base.of_function(found, name)
        if not (isinstance(found, type) and issubclass(found, base)):
            requirement = f"be a {self.noun}, a class made from `{base.__module__}.{base.__qualname__}`"
            raise ConfigError(Fault(name, requirement, f"`{shown(name)}`"))
        return typing.cast("type[Method]", found)

    def options(self, name: str) -> dict[str, tuple[Any, Any]]:
        """Give the options of a method: name -> (type, default); a required one has ``...`` for its default."""
        initialiser = self.load(name).__init__
        hints = typing.get_type_hints(initialiser, include_extras=True)
        options = {}
        for parameter in inspect.signature(initialiser).parameters.values():
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                default = ... if parameter.default is inspect.Parameter.empty else parameter.default
                options[parameter.name] = (hints.get(parameter.name, Any), default)
        return options

    def summary(self, name: str) -> str:
        """Give the first sentence of a method's docstring without importing it."""
        tree = ast.parse((self._folder() / f"{name}.py").read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and node.name == class_name(name):
                return (ast.get_docstring(node) or "").split("\n\n")[0].replace("\n", " ")
        return ""

    def _base(self) -> type:
        """Give the abstract class in the room's ``__init__`` that its methods are made from."""
        classes = vars(importlib.import_module(self.package)).values()
        own = (each for each in classes if inspect.isabstract(each) and each.__module__ == self.package)
        return next(own, object)

    def _folder(self) -> Path:
        top, *inner = self.package.split(".")
        spec = importlib.util.find_spec(top)  # of the whole name it would import what stands above the room
        folder = Path(next(iter(spec.submodule_search_locations or ())), *inner) if spec else None
        if folder is None or not folder.is_dir():
            raise LookupError(f"`{self.package}` is no package")
        return folder
