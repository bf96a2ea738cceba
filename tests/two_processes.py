"""Work done by processes of their own, which a test never waits for longer than it says."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import multiprocessing

LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo"}
"""Keeps processes that talk to each other from asking what this machine is called."""


@contextlib.contextmanager
def ended(*processes: BaseProcess, seconds: float = 120.0, daemon: bool = True) -> Iterator[None]:
    """Start processes and wait for all of them; those that are still there after `seconds` are killed."""
    for process in processes:
        process.daemon = daemon
        process.start()
    until = time.monotonic() + seconds
    try:
        for process in processes:
            process.join(max(0.0, until - time.monotonic()))
        yield
    finally:
        for process in processes:
            if process.is_alive():
                process.kill()
            process.join()


@functools.cache
def _meet() -> bool:
    """Say whether two processes of plain torch can add up a number here."""
    with tempfile.TemporaryDirectory() as folder:
        context = multiprocessing.get_context("fork")
        processes = [context.Process(target=_work, args=(_add_up, rank, Path(folder))) for rank in range(2)]
        with ended(*processes, seconds=60):
            return [process.exitcode for process in processes] == [0, 0]


def _add_up(rank: int) -> float:
    value = torch.tensor(1.0 + rank)
    torch.distributed.all_reduce(value)
    assert float(value) == 3.0
    return float(value)


def skip_where_processes_cannot_meet() -> None:
    """Skip a test on a machine where torch's own processes find no way to each other."""
    if not _meet():
        pytest.skip("two processes of torch cannot talk to each other on this machine")


def in_two_processes(work: Callable[[int], Any], folder: Path) -> list[Any]:
    """Run `work(rank)` in two processes that know each other, and give what each returned."""
    skip_where_processes_cannot_meet()
    folder.mkdir()
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_work, args=(work, rank, folder)) for rank in range(2)]
    with ended(*processes):
        assert [process.exitcode for process in processes] == [0, 0]
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


def _work(work: Callable[[int], Any], rank: int, folder: Path) -> None:
    os.environ |= LOOPBACK
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    torch.save(work(rank), folder / f"{rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def said_by(command: Sequence[str], *, seconds: float = 240.0, **environment: str) -> str:
    """Run a command that has to succeed, and give what it prints; it and all that it started die after `seconds`."""
    variables: Mapping[str, str] = os.environ | LOOPBACK | environment
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=dict(variables),
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=seconds)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert process.returncode == 0, said[-6000:]
    return said
