"""Pages show the figures that the benchmarks wrote."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_every_page_shows_the_figures_of_its_results() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "tables.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_readme_answers_its_faulty_run_file_as_the_program_does() -> None:
    from taskloom.config import read_config
    from taskloom.errors import ConfigError

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert (ROOT / "docs" / "faulty.yaml").read_text(encoding="utf-8") in readme
    with pytest.raises(ConfigError) as caught:
        read_config(ROOT / "docs" / "faulty.yaml")
    assert len(caught.value.faults) == 7
    assert str(caught.value) in readme
