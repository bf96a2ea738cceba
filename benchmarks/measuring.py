"""What benchmarks share: the machine's name, interleaved times, peak memory, and a file for the figures."""

from __future__ import annotations

import datetime
import gc
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch._C._profiler import RecordScope, _ExperimentalConfig
from torch.autograd import (
    ProfilerActivity,
    ProfilerConfig,
    ProfilerState,
    _disable_profiler,
    _enable_profiler,
    _prepare_profiler,
)

from taskloom.environment import environment

HERE = Path(__file__).parent


def processor() -> str:
    """Name the processor, as Linux tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def machine() -> dict[str, Any]:
    """Describe the machine that figures come from."""
    found = environment()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else found["device"]
    return {"processor": processor(), "cores": found["cores"], "device": device}


def write(name: str, command: str, figures: Mapping[str, Any]) -> Path:
    """Write the figures of a benchmark, with command, date, machine and versions."""
    found = environment()
    result = {
        "command": command,
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "machine": machine(),
        "versions": {key: found[key] for key in ("python", "torch", "transformers", "peft")},
        **figures,
    }
    path = HERE / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return path


def place(result: Mapping[str, Any]) -> str:
    """Say where figures come from."""
    found = result["machine"]
    device = "no GPU" if found["device"] == "cpu" else found["device"]
    return f"{found['cores']} cores ({found['processor']}), {device}, {result['date']}; `{result['command']}`."


def interleaved(contestants: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Time contestants by turns, so that a busy moment hits all of them: name -> seconds of each repeat."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, run in contestants.items():
            _synchronize()
            started = time.perf_counter()
            run()
            _synchronize()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def ratio(seconds: Mapping[str, list[float]], name: str, base: str) -> float:
    """Give the median over repeats of one contestant's time divided by another's."""
    return statistics.median(one / other for one, other in zip(seconds[name], seconds[base], strict=True))


def peak_bytes(run: Callable[[], Any]) -> int:
    """Give the most memory that torch's allocator held while something ran, beyond what it held before."""
    gc.collect()
    if torch.cuda.is_available():
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        return torch.cuda.max_memory_allocated() - before
    # Operations would be noted too, at 40 kB each; a scope that none of them has leaves the allocator's notes alone.
    activities = {ProfilerActivity.CPU}
    config = ProfilerConfig(ProfilerState.KINETO, False, True, False, False, False, _ExperimentalConfig(), "")
    _prepare_profiler(config, activities)
    _enable_profiler(config, activities, {RecordScope.USER_SCOPE})
    try:
        run()
    finally:
        events = _disable_profiler().events()
    changes = sorted((each.start_ns(), each.nbytes()) for each in events if each.name() == "[memory]")
    held = peak = 0
    for _, change in changes:
        held += change
        peak = max(peak, held)
    return peak


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
