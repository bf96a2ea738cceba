"""The plan of a run: for every micro-batch, how many items of each task, and which.

A plan is a pure function of its settings, its seed, and of the changes that training makes to it: new probabilities of
a mixture that watches training, and new factors of a policy or a curriculum. Each change says from which optimizer step
on it holds, which lies ahead of what any loader has fetched. So a run that is resumed with the same changes draws what
a run never killed would draw, with any number of workers.
"""

from __future__ import annotations

import math
import zlib
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from taskloom.batches.quotas import Quotas
from taskloom.batches.shares import bounded
from taskloom.mixture import Mixture

Changes = list[tuple[int, dict[str, float]]]
"""From which optimizer step on -> a number for each task."""

Layer = Literal["curriculum", "policy"]
"""Who says what a task is multiplied by; what they say is multiplied."""

LEAST_AHEAD = 8
"""Optimizer steps between a decision and its effect, where loaders do not fetch further ahead."""


@dataclass(frozen=True)
class TaskDraws:
    """How one task is drawn.

    Attributes:
        size: number of its training items.
        start_step: the optimizer step in which it is drawn first.
        end_step: the one from which on it is not drawn; None for the run's end.
        max_epochs: how often its items may be drawn on average; None for any number.
        rows: items in every micro-batch, beside those that the mixture gives the other tasks; None for the mixture's.
    """

    size: int
    start_step: int = 0
    end_step: int | None = None
    max_epochs: float | None = None
    rows: int | None = None


@dataclass(frozen=True)
class Drawn:
    """What one micro-batch holds.

    Attributes:
        items: task -> indices into its items; tasks without a row are left out.
        expected: task -> rows that its share amounts to; tasks that are not trained now are left out.
        factors: task -> what its weight is multiplied with.
    """

    items: dict[str, list[int]]
    expected: dict[str, float]
    factors: dict[str, float]


@dataclass(frozen=True)
class Pace:
    """Competence-based pacing inside a task: only its easiest items are drawn at first.

    Attributes:
        order: [item] items from easy to hard.
        competence: optimizer step -> share of the order that is open, in (0, 1].
    """

    order: NDArray[np.int64]
    competence: Callable[[int], float]


def _changes(saved: Sequence[tuple[int, Mapping[str, float]]]) -> Changes:
    return [(int(start), dict(found)) for start, found in saved]


@dataclass
class _Made:
    """What has been made of the plan so far; lists grow by a micro-batch at a time."""

    given: list[NDArray[np.int64]] = field(default_factory=list)
    before: list[NDArray[np.int64]] = field(default_factory=list)
    expected: list[NDArray[np.float64]] = field(default_factory=list)


class Plan:
    """All micro-batches of a run.

    Quotas are stratified: a step of B rows holds ``q_t B`` rows of task t, rounded so that after s steps with the same
    shares each task has had ``q_t B s`` rows give or take less than one; see `Quotas`.

    Args:
        tasks: task -> how it is drawn.
        mixture: gives the shares.
        rows: B, the items of one micro-batch, those of tasks with rows of their own not counted.
        updates: optimizer steps of the run.
        each: micro-batches of one optimizer step, of all processes together.
        seed: of the permutations.
        floor: least share of every task.
        max_epochs: how often any task's items may be drawn on average; None for any number.
        ahead: optimizer steps between a decision and its effect.
    """

    def __init__(
        self,
        tasks: Mapping[str, TaskDraws],
        mixture: Mixture,
        *,
        rows: int,
        updates: int,
        each: int = 1,
        seed: int = 0,
        floor: float = 0.0,
        max_epochs: float | None = None,
        ahead: int = LEAST_AHEAD,
    ) -> None:
        self.tasks = list(tasks)
        self.draws = dict(tasks)
        self.mixture = mixture
        self.updates, self.each, self.seed, self.ahead = updates, each, seed, ahead
        self.own = {name: task.rows for name, task in tasks.items() if task.rows is not None}
        self.shared = [name for name in self.tasks if name not in self.own]
        self.rows = rows if self.shared else 0
        self.sizes = {name: task.size for name, task in tasks.items()}
        self.floor = floor
        self.limits = {
            name: min(each for each in (task.max_epochs, max_epochs, np.inf) if each is not None) * task.size
            for name, task in tasks.items()
        }
        self.bases: Changes = [(0, self._base(0))]
        self.layers: dict[Layer, Changes] = {"curriculum": [(0, {})], "policy": [(0, {})]}
        self.paces: dict[str, Pace] = {}
        self.strata: dict[str, list[NDArray[np.int64]]] = {}
        self._most = np.array([self.limits[name] for name in self.tasks], dtype=np.float64)
        self._turns = sorted({each for task in tasks.values() for each in (task.start_step, task.end_step) if each})
        self._quotas = Quotas(len(self.tasks))
        self._made = _Made()
        self._share: tuple[Any, NDArray[np.float64]] = (None, np.empty(0))
        self._orders: dict[tuple[Any, ...], NDArray[np.int64]] = {}

    def __len__(self) -> int:
        """Give the number of micro-batches."""
        return self.updates * self.each

    def micro(self, index: int) -> Drawn:
        """Give one micro-batch."""
        self._make(index)
        given, before, expected = (held[index] for held in (self._made.given, self._made.before, self._made.expected))
        update = index // self.each
        items = {}
        for place, name in enumerate(self.tasks):
            count = int(given[place])
            if count:
                items[name] = [self._item(name, int(before[place]) + number, update) for number in range(count)]
        named = {name: float(rows) for name, rows in zip(self.tasks, expected, strict=True) if rows > 0}
        return Drawn(items, named, self.factors(update))

    def totals(self) -> dict[str, int]:
        """Give how many rows of each task the whole run draws if nothing is changed from here on."""
        return self.foreseen()[0]

    def foreseen(self) -> tuple[dict[str, int], int | None]:
        """Run the plan to its end without keeping it, as if nothing is changed from here on.

        Returns:
            task -> rows, and the first optimizer step that no task has rows for; None for none.
        """
        share, quotas, empty = self._share, self._quotas.copy(), None
        for index in range(len(self._made.given), len(self)):
            share = self._renewed(share, index // self.each, quotas)
            if not quotas.next(share[1], self._most - quotas.held).any() and empty is None:
                empty = index // self.each
        return dict(zip(self.tasks, quotas.held.tolist(), strict=True)), empty

    def expected(self, update: int) -> dict[str, float]:
        """Give the rows of each task that its share amounts to in a micro-batch of an optimizer step."""
        return dict(zip(self.tasks, self._expected(update).tolist(), strict=True))

    def stratify(self, task: str, stratum: Sequence[str]) -> None:
        """Have a task's items drawn so that each stratum comes alike often; before anything is drawn.

        Args:
            task: its name.
            stratum: [item].
        """
        held = np.array(stratum)
        self.strata[task] = [np.flatnonzero(held == name) for name in sorted(set(stratum))]

    # --- changes --------------------------------------------------------------------------------------------------

    def reweigh(self, update: int) -> None:
        """Ask the mixture again after an optimizer step; its answer holds `ahead` steps later."""
        self._change(self.bases, update + self.ahead, self._base(update + self.ahead))

    def scale(self, task: str, factor: float, update: int, layer: Layer = "policy") -> int:
        """Multiply a task's share and weight by a factor; gives the optimizer step from which on it holds.

        Args:
            task: its name.
            factor: 0 for a task that is not trained, 1 for one as configured.
            update: the optimizer step after which a policy decided it, whose word holds `ahead` steps later; or that
                from which on a curriculum, which is made before anything is drawn, says it.
            layer: who says it.
        """
        start = update if layer == "curriculum" else update + self.ahead
        changes = self.layers[layer]
        self._change(changes, start, {**self._in_force(changes, start), task: factor})
        for number, (later, factors) in enumerate(changes):
            if later > start:
                changes[number] = (later, {**factors, task: factor})
        return start

    def factors(self, update: int) -> dict[str, float]:
        """Give every task's factor in an optimizer step, as far as is decided."""
        held = [self._in_force(changes, update) for changes in self.layers.values()]
        return {name: math.prod(factors.get(name, 1.0) for factors in held) for name in self.tasks}

    def state(self) -> dict[str, Any]:
        """Give the changes so far and what the mixture keeps, as JSON."""
        return {"bases": self.bases, "layers": self.layers, "mixture": self.mixture.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what `state` gave."""
        self.bases = _changes(state["bases"])
        self.layers = {layer: _changes(state["layers"][layer]) for layer in self.layers}
        self.mixture.restore(state["mixture"])
        self._quotas, self._made, self._share = Quotas(len(self.tasks)), _Made(), (None, np.empty(0))

    def _change(self, changes: Changes, start: int, found: dict[str, float]) -> None:
        if start * self.each < len(self._made.given):
            raise ValueError(f"step {start} is drawn already")
        place = bisect_right(changes, start, key=itemgetter(0))
        if place and changes[place - 1][0] == start:
            changes[place - 1] = (start, found)
        elif changes[place - 1][1] != found:
            changes.insert(place, (start, found))

    @staticmethod
    def _in_force(changes: Changes, update: int) -> dict[str, float]:
        return changes[bisect_right(changes, update, key=itemgetter(0)) - 1][1]

    # --- shares ---------------------------------------------------------------------------------------------------

    def _base(self, update: int) -> dict[str, float]:
        sizes = {name: self.sizes[name] for name in self.shared}
        if not sizes:
            return {}
        return self.mixture.probabilities(sizes, update, self.updates, self.rows * self.each)

    def trained(self, update: int) -> list[str]:
        """Give the tasks that an optimizer step may draw, as far as is decided."""
        factors = self.factors(update)
        return [
            name
            for name, task in self.draws.items()
            if factors[name] > 0 and task.start_step <= update and (task.end_step is None or update < task.end_step)
        ]

    def _expected(self, update: int, drawn: Sequence[int] | None = None) -> NDArray[np.float64]:
        """Give the rows [task] of a micro-batch that the shares of an optimizer step amount to."""
        factors = self.factors(update)
        base = self._base(update) if self.mixture.pace == "step" else self._in_force(self.bases, update)
        open_ = self.trained(update)
        held = dict(zip(self.tasks, drawn if drawn is not None else [0] * len(self.tasks), strict=True))
        left = {name: self.limits[name] - held[name] for name in open_}
        open_ = [name for name in open_ if left[name] > 0]
        weights = {name: base[name] * factors[name] for name in open_ if name not in self.own}
        budget = max(1, (self.updates - update) * self.each * self.rows)
        shares = bounded(weights, self.floor, {name: left[name] / budget for name in weights})
        rows = {name: share * self.rows for name, share in shares.items()}
        rows |= {name: float(self.own[name]) * factors[name] for name in open_ if name in self.own}
        return np.array([rows.get(name, 0.0) for name in self.tasks])

    # --- rows -----------------------------------------------------------------------------------------------------

    def _make(self, last: int) -> None:
        """Make the plan up to a micro-batch."""
        made, quotas = self._made, self._quotas
        for index in range(len(made.given), last + 1):
            self._share = self._renewed(self._share, index // self.each, quotas)
            made.before.append(quotas.held)
            made.given.append(quotas.next(self._share[1], self._most - quotas.held))
            made.expected.append(self._share[1])

    def _renewed(
        self, share: tuple[Any, NDArray[np.float64]], update: int, quotas: Quotas
    ) -> tuple[Any, NDArray[np.float64]]:
        """Give the shares of an optimizer step; those of the step before where nothing has changed."""
        key = (
            id(self._in_force(self.bases, update)),
            *(id(self._in_force(changes, update)) for changes in self.layers.values()),
            bisect_right(self._turns, update),
            (quotas.held >= self._most).tobytes(),
            update if self.mixture.pace == "step" else None,
        )
        return share if share[0] == key else (key, self._expected(update, quotas.held.tolist()))

    def _item(self, name: str, draw: int, update: int) -> int:
        pace = self.paces.get(name)
        if pace is not None:
            open_ = max(1, int(np.ceil(pace.competence(update) * self.sizes[name])))
            if open_ < self.sizes[name]:
                seed = [self.seed, zlib.crc32(name.encode()), draw, 1]
                return int(pace.order[np.random.default_rng(seed).integers(open_)])
        if name in self.strata:
            return self._of_stratum(name, draw)
        epoch, place = divmod(draw, self.sizes[name])
        return int(self._order(name, epoch, self.sizes[name])[place])

    def _of_stratum(self, name: str, draw: int) -> int:
        """Give a draw's item where each round of draws has one of every stratum, in an order of its own."""
        strata = self.strata[name]
        turn, place = divmod(draw, len(strata))
        seed = [self.seed, zlib.crc32(name.encode()), turn, 2]
        number = int(np.random.default_rng(seed).permutation(len(strata))[place])
        epoch, place = divmod(turn, len(strata[number]))
        return int(strata[number][self._order(name, epoch, len(strata[number]), 3, number)[place]])

    def _order(self, name: str, epoch: int, size: int, *more: int) -> NDArray[np.int64]:
        """Give the order in which a task's items, or those of a stratum, are drawn in one epoch of them."""
        key = (name, epoch, *more)
        if key not in self._orders:
            for old in [k for k in self._orders if (k[0], *k[2:]) == (name, *more) and k[1] < epoch - 1]:
                del self._orders[old]
            seed = [self.seed, zlib.crc32(name.encode()), epoch, *more]
            self._orders[key] = np.random.default_rng(seed).permutation(size)
        return self._orders[key]
