"""Runs on the machines of a Ray cluster, which all see the study's folder."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from taskloom.errors import MissingExtraError

if TYPE_CHECKING:
    from taskloom.study.workers import Job, Telling

POLL_SECONDS = 1.0


def train_on_ray(missing: Sequence[Job], threads: int, told: Telling) -> None:
    """Train each run in a process of its own wherever the cluster has room; one that fails takes no other along.

    The cluster is the one that ``RAY_ADDRESS`` names, else one is started on this machine. Every machine needs the
    study's folder at the same path, the data, and Taskloom.

    Args:
        missing: in the order in which they are begun.
        threads: processors that each run asks for; where the cluster has GPUs each run asks for one of them too.
        told: gets to know each that ends.

    Raises:
        MissingExtraError: Ray is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray: Any = importlib.import_module("ray")  # its types are not complete
    except ImportError as error:
        raise MissingExtraError("ray", "ray", "train on many machines") from error
    is_mine = not ray.is_initialized()
    if is_mine:
        _joined(ray)
    try:
        gpus = 1 if ray.cluster_resources().get("GPU") else 0
        begin = ray.remote(num_cpus=threads, num_gpus=gpus, max_retries=0)(_train).remote
        begun = time.monotonic()
        running = {begin(*_paths(job), threads): job for job in missing}
        _followed(ray, running, begun, told)
    finally:
        if is_mine:
            ray.shutdown()


def _joined(ray: Any) -> None:
    """Join the cluster that the environment names, else start one here."""
    local: dict[str, Any] = {}
    if not os.environ.get("RAY_ADDRESS"):
        local = {"include_dashboard": False}
        os.environ.setdefault("RAY_worker_niceness", "0")  # as processes have it; Ray's own 15 starves beside others
    ray.init(log_to_driver=False, logging_level="error", **local)


def _followed(ray: Any, running: dict[Any, Job], begun: float, told: Telling) -> None:
    """Wait for all runs; where the user stops it, they are asked to stop, and save first."""
    from taskloom.study.workers import last_words

    try:
        while running:
            done, _ = ray.wait(list(running), num_returns=1, timeout=POLL_SECONDS)
            for reference in done:
                job = running.pop(reference)
                fault = ""
                try:
                    minutes = ray.get(reference) / 60
                except ray.exceptions.RayError as error:
                    minutes, fault = (time.monotonic() - begun) / 60, str(error).splitlines()[0]
                told.ended(job, minutes, "" if job.finished else fault or last_words(job))
    finally:
        for reference in running:
            ray.cancel(reference)
        if running:
            ray.wait(list(running), num_returns=len(running))


def _paths(job: Job) -> list[str]:
    """Give where all machines find a run's file, its folder and its log."""
    return [str(path.resolve()) for path in (job.run_file, job.folder, job.log)]


def _train(run_file: str, folder: str, log: str, threads: int) -> float:
    """Train one run on the machine that Ray chose; gives the seconds that it took."""
    import os
    import subprocess
    import sys
    import time
    from pathlib import Path

    begun = time.monotonic()
    command = [sys.executable, "-m", "taskloom", "train", run_file, "--out", folder]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with Path(log).open("ab") as told:
        process = subprocess.Popen(  # noqa: S603 - our own command
            command, stdout=told, stderr=told, stdin=subprocess.DEVNULL, env=environment, start_new_session=True
        )
        try:
            process.wait()
        finally:
            if process.poll() is None:
                process.terminate()  # a run that is asked to stop saves first
                process.wait()
    return time.monotonic() - begun
