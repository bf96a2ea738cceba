"""The runs of a study: one after the other in this process, side by side in processes of their own, or on a cluster."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console

from taskloom.config.document import dump
from taskloom.errors import Fault, InterruptedRunError, StudyError, TaskloomError
from taskloom.record import Record, write_text
from taskloom.run import train
from taskloom.study.on_ray import train_on_ray

Executor = Literal["processes", "ray"]
POLL_SECONDS = 0.2
LOG_LINES = 3


@dataclass(frozen=True)
class Job:
    """One run to be trained.

    Attributes:
        name: for messages.
        values: its whole run.
        folder: where it goes; beside it lie its run file and its log.
    """

    name: str
    values: dict[str, Any]
    folder: Path

    @property
    def run_file(self) -> Path:
        """The file that it is started with."""
        return self.folder.with_name(f"{self.folder.name}.yaml")

    @property
    def log(self) -> Path:
        """What it says."""
        return self.folder.with_name(f"{self.folder.name}.log")

    @property
    def finished(self) -> bool:
        """Whether it is trained to its end."""
        record = Record(self.folder)
        return record.state_json.is_file() and record.state.status == "finished"


def run_jobs(jobs: Sequence[Job], *, workers: int, console: Console, executor: Executor = "processes") -> None:
    """Train what is not finished.

    Args:
        jobs: in the order in which they are begun.
        workers: how many at a time on one machine, 1 for this process alone.
        executor: "processes" of this machine, or the machines of a "ray" cluster.
        console: gets a line for each that ends.

    Raises:
        StudyError: some failed, each with the last line it said.
        KeyboardInterrupt: the user stopped it; the runs that were under way have saved where they are.
    """
    missing = [job for job in jobs if not job.finished]
    done = len(jobs) - len(missing)
    console.print(f"{len(jobs)} runs, {done} finished before", highlight=False)
    told = Telling(console, len(jobs), done)
    if not missing:
        return
    if executor == "ray":
        for job in missing:
            write_text(job.run_file, dump(job.values))
        train_on_ray(missing, _threads(workers), told)
    elif workers == 1:
        for job in missing:
            _train_here(job, told)
    else:
        _train_beside(missing, workers, told)
    if told.faults:
        raise StudyError(*told.faults)


class Telling:
    """Says what ended, and gathers what failed."""

    def __init__(self, console: Console, count: int, done: int) -> None:
        self.console = console
        self.count = count
        self.done = done
        self.faults: list[Fault] = []

    def ended(self, job: Job, minutes: float, said: str = "") -> None:
        """Say that a run ended; `said` is what it failed with."""
        self.done += 1
        state = "failed" if said else f"{minutes:.1f} minutes"
        self.console.print(f"{self.done}/{self.count} {job.name}: {state}", highlight=False, markup=False)
        if said:
            fix = "Call again to train what is missing"
            self.faults.append(Fault(job.name, "train to its end", said, fix))


def _train_here(job: Job, told: Telling) -> None:
    """Train one run in this process."""
    begun, said = time.monotonic(), ""
    try:
        train(job.values, job.folder)
    except InterruptedRunError:
        raise
    except TaskloomError as error:
        said = str(error)
    told.ended(job, (time.monotonic() - begun) / 60, said)


def _train_beside(missing: Sequence[Job], workers: int, told: Telling) -> None:
    """Train runs side by side; one that fails takes no other along."""
    waiting, running = list(reversed(missing)), dict[int, tuple[Job, subprocess.Popen[bytes], float]]()
    try:
        while waiting or running:
            for place in range(workers):
                if place not in running and waiting:
                    job = waiting.pop()
                    running[place] = (job, _started(job, place, workers), time.monotonic())
            for place, (job, process, begun) in list(running.items()):
                if process.poll() is not None:
                    del running[place]
                    told.ended(job, (time.monotonic() - begun) / 60, "" if job.finished else last_words(job))
            time.sleep(POLL_SECONDS)
    finally:
        for _, process, _ in running.values():
            process.terminate()  # a run that is asked to stop saves first
        for _, process, _ in running.values():
            process.wait()


def _started(job: Job, place: int, workers: int) -> subprocess.Popen[bytes]:
    """Begin one run in a process of its own, with its share of processors or a GPU of its own."""
    write_text(job.run_file, dump(job.values))
    environment = {**os.environ, "OMP_NUM_THREADS": str(_threads(workers))}
    devices = torch.cuda.device_count()
    if devices > 1 or (devices and workers > 1):
        seen = [each.strip() for each in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if each.strip()]
        environment["CUDA_VISIBLE_DEVICES"] = (seen or [str(number) for number in range(devices)])[place % devices]
    command = [sys.executable, "-m", "taskloom", "train", str(job.run_file), "--out", str(job.folder)]
    with job.log.open("ab") as log:
        return subprocess.Popen(  # noqa: S603 - our own command
            command,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches this process alone, which asks the run to stop once
        )


def _threads(workers: int) -> int:
    """Give each run's share of this machine's processors, or what the environment says."""
    return int(os.environ.get("OMP_NUM_THREADS") or max(1, (os.cpu_count() or 1) // workers))


def last_words(job: Job) -> str:
    """Give what a run that failed said last."""
    lines = [line for line in job.log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return f"{' '.join(lines[-LOG_LINES:])} ({job.log})"
