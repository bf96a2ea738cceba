"""Fixtures of tests of growth: a finished run, and pages without charts."""

from __future__ import annotations

from pathlib import Path

import pytest
from growth_tools import lora, run_of

from taskloom.record import Record
from taskloom.run import train


@pytest.fixture(scope="session")
def small_run(tiny_encoder: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two tasks with a LoRA; nobody writes to it."""
    folder = tmp_path_factory.mktemp("small") / "a"
    train(run_of(tiny_encoder, tiny_data, adapter=lora()), folder)
    return folder


@pytest.fixture
def _plain_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write no page with charts; the page has tests of its own."""
    import taskloom.reports

    def report(folders: list[Path]) -> None:
        Record.open(folders[0]).report_html.write_text("a page", encoding="utf-8")

    monkeypatch.setattr(taskloom.reports, "report", report)
