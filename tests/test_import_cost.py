"""What it costs to import the package and to ask for help: no heavy library, and hardly any time."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

HEAVY = {"torch", "transformers", "numpy", "peft", "datasets"}
IMPORT = "import taskloom"
HELP = "import sys; sys.argv = ['taskloom', '--help']; from taskloom.cli import main; main()"
LIST = "import sys; sys.argv = ['taskloom', 'list']; from taskloom.cli import main; main()"


def python(code: str) -> str:
    """Run code in a fresh interpreter; give what it prints."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def best_seconds(code: str, tries: int = 5) -> float:
    """Time code in fresh interpreters; the best of some tries is the least disturbed by what else runs."""
    taken = []
    for _ in range(tries):
        started = time.perf_counter()
        python(code)
        taken.append(time.perf_counter() - started)
    return min(taken)


# A command with an argument brings pydantic in by way of typer, so only the first two are without it.
@pytest.mark.parametrize(
    ("code", "absent"),
    [(IMPORT, HEAVY | {"pydantic", "typer"}), (HELP, HEAVY | {"pydantic"}), (LIST, HEAVY)],
    ids=["import", "help", "list"],
)
def test_no_heavy_library_is_imported(code: str, absent: set[str]) -> None:
    watch = "import atexit, sys; atexit.register(lambda: print('loaded:', *sys.modules)); "
    loaded = python(watch + code).rpartition("loaded:")[2].split()
    assert "taskloom" in loaded
    assert not absent & set(loaded)


def test_the_package_is_imported_and_help_is_given_in_an_instant() -> None:
    bare = best_seconds("pass")
    assert best_seconds(IMPORT) - bare < 0.2
    assert best_seconds(HELP) - bare < 0.4
