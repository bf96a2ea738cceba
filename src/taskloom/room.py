"""A folder is a registry.

A room is a package in which every file is one method: the file's name is the name used in run files, the class of
that name in CamelCase is the method, its keyword arguments are its options, and its docstring is its documentation.
Files that start with an underscore are the room's own and no methods. A method that lives elsewhere is named in full:
``package.module:ClassName``.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import typing
from pathlib import Path
from typing import Any, Generic, TypeVar

from taskloom.errors import ConfigError, Fault, nearest, said

Method = TypeVar("Method")

IMPORT_ERRORS = (ImportError, AttributeError, SyntaxError, NameError, TypeError, ValueError)
"""What comes of a name that leads nowhere, and of a module that is broken."""


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
        try:
            method: type[Method] = getattr(importlib.import_module(module_name), attribute)
        except IMPORT_ERRORS as error:
            requirement = f"be a {self.noun} that can be imported as `package.module:ClassName`"
            fix = "Install its package, or put its folder on PYTHONPATH"
            raise ConfigError(Fault(name, requirement, f"`{name}` ({said(error)})", fix)) from error
        base = self._base()
        if not (isinstance(method, type) and issubclass(method, base)):
            requirement = f"be a {self.noun}, a class made from `{base.__module__}.{base.__qualname__}`"
            raise ConfigError(Fault(name, requirement, f"`{name}`"))
        return method

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
