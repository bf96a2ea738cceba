"""The law of the house: what the tree of `src/taskloom` keeps to, read from its files without importing them."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import taskloom
from taskloom.room import class_name

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = Path(taskloom.__file__).parent

ORDER = (
    "errors",
    "room",
    "types",
    "lock",
    "record",
    "environment",
    "cost",
    "config",
    "metrics",
    "bootstrap",
    "composite",
    "statistics",
    "mixture",
    "balance",
    "gradients",
    "policy",
    "affinity",
    "helpdesk",
    "data",
    "mitigation",
    "generation",
    "tasks",
    "batches",
    "model",
    "writing",
    "evaluation",
    "references",
    "transfer",
    "training",
    "preparation",
    "curriculum",
    "teaching",
    "fingerprint",
    "prediction",
    "reports",
    "session",
    "run",
    "first_steps",
    "growth",
    "calibration",
    "attribution",
    "representation",
    "correlation",
    "fairness",
    "inspection",
    "study",
    "planning",
    "autopilot",
    "watching",
    "cli",
    "__main__",
)
"""Every room and module; each imports only those before it."""

ROOMS = ("tasks", "metrics", "mixture", "balance", "policy", "model/sharing", "composite", "affinity/estimators")
ROOMS += ("mitigation",)
LIMIT_FILE, LIMIT_FUNCTION = 400, 50
WITHOUT_TORCH = ("__init__.py", "errors.py", "room.py", "types.py", "lock.py", "record.py", "environment.py")
WITHOUT_TORCH += ("config/document.py", "config/faults.py", "cli/__init__.py", "cli/app.py", "cli/listing.py")
WITHOUT_TORCH += ("balance/__init__.py", "balance/_room.py", "balance/_row.py")
WITHOUT_TORCH += ("balance/_aggregations.py", "balance/_scalarizations.py")
WITHOUT_TORCH += ("affinity/matrix.py", "affinity/probes.py", "affinity/reading.py")
WITHOUT_TORCH += ("curriculum/order.py", "config/curriculum.py")
WITHOUT_TORCH += ("policy/__init__.py", "policy/_curves.py", "policy/rest_converged.py", "policy/lower_overfitting.py")
WITHOUT_TORCH += ("policy/raise_behind.py", "policy/drop_harmful.py", "policy/replay.py")
HEAVY = {"torch", "torchjd", "transformers", "peft", "datasets", "accelerate"}
VAGUE = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}

FILES = sorted(SOURCE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
METHODS = [path for room in ROOMS for path in FILES if path.parent == SOURCE / room and path.name[0] != "_"]


def name_of(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def top_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def asks_for_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def nodes_that_run(node: ast.AST, *, inside_functions: bool = True) -> Iterator[ast.AST]:
    """Walk a tree without what stands under `if TYPE_CHECKING`."""
    yield node
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not inside_functions:
        return
    for child in node.orelse if asks_for_type_checking(node) else ast.iter_child_nodes(node):
        yield from nodes_that_run(child, inside_functions=inside_functions)


def imports(tree: ast.AST, *, inside_functions: bool = True) -> Iterator[tuple[int, str]]:
    """Give the line and the full name of everything that is imported."""
    for node in nodes_that_run(tree, inside_functions=inside_functions):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are written in full"
            if node.module == "taskloom":
                yield from ((node.lineno, f"taskloom.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, node.module or ""


def imports_of_the_house(path: Path) -> Iterator[tuple[int, str]]:
    """Give the line and the room of what a file imports of Taskloom, its own room left out."""
    for line, name in imports(TREES[path]):
        package, _, rest = name.partition(".")
        room = rest.partition(".")[0]
        if package == "taskloom" and room not in {top_of(path), "__version__"}:
            yield line, room


def defined(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node


def public(node: ast.AST) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    """Give the public classes and functions of a module, and the public methods of its public classes."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.ClassDef) and not child.name.startswith("_"):
            yield child
            if isinstance(child, ast.ClassDef):
                yield from public(child)


def is_a_stub(node: ast.AST) -> bool:
    """Say whether a function is a line of a protocol: nothing but dots."""
    body = getattr(node, "body", [])
    return len(body) == 1 and isinstance(body[0], ast.Expr) and getattr(body[0].value, "value", None) is ...


def test_every_room_and_module_has_its_place_in_the_order() -> None:
    assert sorted(ORDER) == sorted({top_of(path) for path in FILES} - {"__init__"})


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_room_imports_only_rooms_before_it(path: Path) -> None:
    place = ORDER.index(top_of(path)) if path != SOURCE / "__init__.py" else 1
    late = [f"line {line}: {room}" for line, room in imports_of_the_house(path) if room not in ORDER[:place]]
    assert not late, f"{name_of(path)} imports what comes after `{top_of(path)}`: {late}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_is_shorter_than_400_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < LIMIT_FILE


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_function_is_shorter_than_50_lines(path: Path) -> None:
    functions = [node for node in defined(path) if not isinstance(node, ast.ClassDef)]
    lengths = {f"{node.name} (line {node.lineno})": (node.end_lineno or 0) - node.lineno + 1 for node in functions}
    assert not {name: length for name, length in lengths.items() if length >= LIMIT_FUNCTION}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_an_exception_is_caught_by_its_name(path: Path) -> None:
    broad = []
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.ExceptHandler):
            caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            names = {each.id for each in caught if isinstance(each, ast.Name)}
            # What is raised again at once hides nothing.
            raised = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
            if node.type is None or (names & {"Exception", "BaseException"} and not raised):
                broad.append(node.lineno)
    if path == SOURCE / "cli" / "__init__.py":
        assert len(broad) == 1, "main turns our own faults into one sentence, and nothing else does"
    else:
        assert not broad


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_name_says_what_is_in_it(path: Path) -> None:
    names = {part.removesuffix(".py").strip("_") for part in path.relative_to(SOURCE).parts}
    classes = {node.name for node in defined(path) if isinstance(node, ast.ClassDef)}
    assert not names & VAGUE
    assert not {name for name in classes if name.lower().endswith(tuple(VAGUE))}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_everything_public_is_documented(path: Path) -> None:
    assert ast.get_docstring(TREES[path])
    bare = [node.name for node in public(TREES[path]) if not ast.get_docstring(node) and not is_a_stub(node)]
    assert not bare


@pytest.mark.parametrize("path", METHODS, ids=name_of)
def test_a_method_says_what_it_is_when_to_prefer_it_and_its_formula(path: Path) -> None:
    classes = {node.name: node for node in defined(path) if isinstance(node, ast.ClassDef)}
    text = ast.get_docstring(classes[class_name(path.stem)]) or ""
    sentence = text.split("\n\n")[0]
    assert sentence.endswith(".")
    assert "\n" not in sentence
    for word in ("Prefer ", "Formula: "):
        assert word in text


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_a_light_module_imports_no_heavy_library_at_its_top(name: str) -> None:
    heavy = {each.partition(".")[0] for _, each in imports(TREES[SOURCE / name], inside_functions=False)} & HEAVY
    assert not heavy


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_is_unpickled_evaluated_or_run_from_the_hub(path: Path) -> None:
    assert not {name for _, name in imports(TREES[path]) if name.partition(".")[0] in {"pickle", "dill", "yaml"}}
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"torch.load", "yaml.load", "eval", "exec", "pickle.load", "pickle.loads"}
            trusted = [each for each in node.keywords if each.arg == "trust_remote_code"]
            assert not [each for each in trusted if isinstance(each.value, ast.Constant) and each.value.value]


def test_the_public_names_are_sorted_and_all_there() -> None:
    assert taskloom.__all__ == sorted(taskloom.__all__)
    assert dir(taskloom) == taskloom.__all__
    for name in taskloom.__all__:
        assert getattr(taskloom, name) is not None
    with pytest.raises(AttributeError, match="`taskloom` has no `trian`"):
        _ = taskloom.trian  # type: ignore[attr-defined]
