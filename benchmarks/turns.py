"""Trainers that take turns: each runs its own loop in a thread, and stops between steps until it is its turn again."""

from __future__ import annotations

import copy
import ctypes
import threading
from collections.abc import Callable, Sequence
from typing import Any

import transformers
from measuring import interleaved
from torch import nn

from taskloom.types import Chunk

LIBC = ctypes.CDLL(None)
M_ARENA_MAX = -8
"""The name of an option of glibc's `mallopt`."""


def one_heap() -> None:
    """Have all threads share one heap, as one Trainer has it; each would keep the most that it ever took, for good."""
    if hasattr(LIBC, "mallopt"):
        LIBC.mallopt(M_ARENA_MAX, 1)


def give_back() -> None:
    """Give freed memory back to the system; what one contestant has fragmented, another may not find a use for."""
    if hasattr(LIBC, "malloc_trim"):
        LIBC.malloc_trim(0)


class Count:
    """Counts what the model is given, whoever trains it.

    Attributes:
        useful: tokens of the items.
        area: tokens of the rectangles.
        rectangles: forward passes.
    """

    def __init__(self) -> None:
        self.useful = self.area = self.rectangles = 0

    def see(self, model: nn.Module, arguments: tuple[Chunk, ...]) -> None:
        """Count one rectangle; a hook before the model's forward pass."""
        (chunk,) = arguments
        parts = chunk.parts.values()
        self.useful += sum(len(ids) for part in parts for item in part.items for ids in item["input_ids"])
        self.area += chunk.inputs["input_ids"].numel()
        self.rectangles += 1

    def since(self, other: Count) -> Count:
        """Give what was counted after a copy was taken."""
        gone = Count()
        for name, value in vars(self).items():
            setattr(gone, name, value - getattr(other, name))
        return gone


class Contestant(transformers.TrainerCallback):
    """A Trainer whose loop runs in a thread of its own and stops between steps until it is given a turn.

    Args:
        name: as it is shown.
        count: sees what the model is given.
        steps: of the Trainer in a turn.
    """

    def __init__(self, name: str, count: Count, steps: int) -> None:
        self.name, self.count, self.steps = name, count, steps
        self.turns: list[Count] = []
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._left, self._over = 1, False
        self._error: Exception | None = None

    def start(self, train: Callable[[], Any]) -> None:
        """Begin the loop and let it take the first step, which is not counted."""

        def run() -> None:
            self._go.acquire()
            try:
                train()
            except Exception as error:
                self._error = error
                raise
            finally:
                self._over = True
                self._done.release()

        threading.Thread(target=run, daemon=True).start()
        self.turn(1)
        self.turns.clear()

    def turn(self, steps: int | None = None) -> None:
        """Let the loop take its steps."""
        before, self._left = copy.copy(self.count), steps or self.steps
        self._go.release()
        self._done.acquire()
        if self._over:
            raise RuntimeError(f"{self.name} ended before its turn did") from self._error
        self.turns.append(self.count.since(before))

    def padding(self) -> float:
        """Give the share of padding in all turns so far."""
        return 1 - sum(turn.useful for turn in self.turns) / sum(turn.area for turn in self.turns)

    def end(self) -> None:
        """Let the loop end."""
        self._left = 0
        self._go.release()
        self._done.acquire()

    def on_step_end(self, args: Any, state: Any, control: transformers.TrainerControl, **_: Any) -> None:
        """Stop after the last step of a turn."""
        self._left -= 1
        if self._left <= 0 and state.global_step < state.max_steps:
            self._done.release()
            self._go.acquire()
            control.should_training_stop = self._left <= 0


def heat(everyone: Sequence[Contestant], rounds: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Let contestants run by turns: their useful tokens per second, and their seconds, in each round."""
    give_back()
    seconds = interleaved({each.name: each.turn for each in everyone}, rounds)
    speeds = {
        each.name: [turn.useful / time for turn, time in zip(each.turns[-rounds:], seconds[each.name], strict=True)]
        for each in everyone
    }
    return speeds, seconds
