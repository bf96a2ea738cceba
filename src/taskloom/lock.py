"""The lock of a run folder: one process trains in it at a time, and a dead one's lock is taken over."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from taskloom.errors import Fault, RunFolderError

VERSION = 1
"""The version of a lock's line."""


def take_lock(path: Path) -> None:
    """Write this process into a lock file.

    Raises:
        RunFolderError: a process holds it already, or one on another machine, which cannot be asked, may.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            if _took_over(path):
                return
        else:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(_holder_line())
            return


def holder_lives(path: Path) -> bool:
    """Tell whether a process that wrote itself into a lock file may still be at work; False where there is no lock."""
    try:
        holder = _named(path.read_bytes())
    except FileNotFoundError:
        return False
    return holder is None or _alive(holder)


def _holder_line() -> bytes:
    pid = os.getpid()
    holder = {"version": VERSION, "pid": pid, "host": socket.gethostname(), "started": _started(pid)}
    return (json.dumps(holder) + "\n").encode()


def _named(line: bytes) -> dict[str, Any] | None:
    """Give the holder that a lock names; None where it names none."""
    try:
        holder = json.loads(line)
    except ValueError:
        return None
    return holder if isinstance(holder, dict) else None


def _took_over(path: Path) -> bool:
    """Take the lock of a process that is no more; False when it was released meanwhile and can be asked for again."""
    held = False
    try:
        stream = path.open("r+b")
    except FileNotFoundError:
        return False
    with stream:
        # Two processes may find the same dead holder at once. They queue for the open file, and the second then reads
        # the first one's name in it; deleting and making it anew would let the second delete the first one's lock.
        _queue_for(stream.fileno())
        with suppress(FileNotFoundError):
            held = os.path.samestat(path.stat(), os.fstat(stream.fileno()))
        if not held:
            return False
        holder = _named(stream.read())
        if holder is None or _alive(holder):
            raise RunFolderError(_locked(path, holder))
        stream.seek(0)
        stream.write(_holder_line())
        stream.truncate()
    return True


def _queue_for(descriptor: int) -> None:
    with suppress(ImportError):  # absent on Windows, where `_alive` never lets a lock be taken over
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _alive(holder: Mapping[str, Any]) -> bool:
    """Tell whether a lock's holder may still train: yes, unless it is known to have ended."""
    if holder.get("host") != socket.gethostname() or os.name == "nt":  # there os.kill(pid, 0) would end the process
        return True
    pid = holder.get("pid", 0)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError, TypeError):  # another user's process, or no number of a process at all
        return True
    # A restarted container gives the same number to the next process; when it started tells the two apart.
    return holder.get("started") == _started(pid)


def _started(pid: int) -> str:
    """Say when a process started, in ticks since the machine did; empty where the system does not tell."""
    with suppress(OSError):
        words = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return words[19] if words[0] != "Z" else ""  # a zombie has ended; only its parent has not looked yet
    return ""


def _locked(path: Path, holder: Mapping[str, Any] | None) -> Fault:
    who = f"process {holder.get('pid')} on {holder.get('host')}" if holder else "a lock that names no process"
    fix = f"Wait for it or stop it; when it is gone for certain, delete `{path}`"
    return Fault(str(path.parent), "be trained in by one process at a time", who, fix)
