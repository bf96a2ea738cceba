"""What a process used, with counters made by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from taskloom.cost import Meter, peak_memory


def counter(folder: Path, name: str, value: int) -> Path:
    path = folder / name / "energy_uj"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{value}\n", encoding="utf-8")
    (path.parent / "max_energy_range_uj").write_text("1000000000\n", encoding="utf-8")
    return path


def test_energy_of_packages_is_added_up_over_counters_that_begin_anew(tmp_path: Path) -> None:
    counter(tmp_path, "intel-rapl:0", 5_000_000)
    counter(tmp_path, "intel-rapl:1", 999_000_000)
    counter(tmp_path, "intel-rapl:0:0", 0)
    meter = Meter(tmp_path)
    counter(tmp_path, "intel-rapl:0", 7_500_000)
    counter(tmp_path, "intel-rapl:1", 1_000_000)
    counter(tmp_path, "intel-rapl:0:0", 900_000_000)
    assert meter.read()["energy_joules"] == pytest.approx(2.5 + 2.0)


def test_energy_that_cannot_be_read_is_not_made_up(tmp_path: Path) -> None:
    found = Meter(tmp_path).read()
    assert found["energy_joules"] is None
    assert found["seconds"] >= 0


def test_memory_grows_with_what_is_held() -> None:
    before = peak_memory()
    held = np.ones(30_000_000)
    after = peak_memory()
    assert before is not None
    assert after is not None
    assert after - before > 0.5 * held.nbytes or before > 2 * held.nbytes
